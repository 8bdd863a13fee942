# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the models that are to stay loaded are not; their order is tried with the filter."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._load_order import not_loaded

PLAN = {"load_order": ["big:latest", "small:1b"]}
INSTALLED = [
    {"name": "big:latest", "blob": "sha256-big"},
    {"name": "tag-of-big:latest", "blob": "sha256-big"},
    {"name": "small:1b", "blob": None},
    {"name": "other:1b", "blob": None},
]


@pytest.mark.parametrize(
    ("loaded", "missing"),
    [
        ([], ["big:latest", "small:1b"]),
        (["small:1b"], ["big:latest"]),
        (["Big", "small:1b"], []),  # names as Ollama compares them
        (["tag-of-big:latest", "small:1b"], []),  # one file, one runner, the name of the first
        (["big:latest", "other:1b", "gone:latest"], ["small:1b"]),  # a file that is not known is nobody's
    ],
)
def test_what_is_to_stay_loaded_and_is_not(loaded, missing):
    assert not_loaded(PLAN, loaded, INSTALLED) == missing


def test_a_plan_that_keeps_nothing_loaded_misses_nothing():
    assert not_loaded({"load_order": []}, [], INSTALLED) == []
