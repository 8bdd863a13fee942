# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was answered lately is not asked again, unless it is to be known anew."""

from __future__ import annotations

import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._asked import MOST_SECONDS, Asked
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed


@pytest.mark.parametrize(
    ("steps", "answers"),
    [
        ([("lately", "a", 0.0)], "1"),
        ([("lately", "a", 0.0), ("lately", "a", 1.0)], "11"),
        ([("lately", "a", 0.0), ("lately", "a", 1.01)], "12"),
        ([("lately", "a", 0.0), ("lately", "b", 0.1), ("lately", "a", 0.2)], "121"),
        ([("lately", "a", 0.0), ("anew", "a", 0.1), ("lately", "a", 1.1)], "122"),
        ([("anew", "a", 0.0), ("lately", "a", 0.9), ("lately", "a", 1.5), ("lately", "a", 2.5)], "1122"),
    ],
)
def test_what_is_asked_again(monkeypatch, steps, answers):
    asked = []

    def run(command):
        asked.append(command)
        return Completed(0, str(len(asked)), "")

    once = Asked(run)
    found = ""
    for how, unit, at_s in steps:
        monkeypatch.setattr(time, "monotonic", lambda moment=at_s: 5000 + moment)
        found += getattr(once, how)(["systemctl", "show", unit]).stdout
    assert found == answers


def test_a_second_is_what_counts_as_lately():
    assert MOST_SECONDS == 1.0
