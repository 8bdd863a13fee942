# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first picture of the README shows what scheduler and planner say today."""

from __future__ import annotations

import importlib.util

from ansible_collections.gpufleet.ollama.tests.unit.data import TESTS

SPEC = importlib.util.spec_from_file_location("today_planned", TESTS / "report" / "today_planned.py")
today_planned = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(today_planned)


def test_the_picture_is_true():
    drawn = today_planned.PICTURE.read_text(encoding="utf-8")
    assert drawn == today_planned.svg(today_planned.found()), "run python tests/report/today_planned.py"
