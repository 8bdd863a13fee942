# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of a plan in the order in which to load them, and which that are to stay loaded are not."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._load_order import (
    not_loaded,
    planned_models,
)


def plan(order: list[str]) -> dict[str, object]:
    models = [("a", True, 4096), ("b", False, 0), ("c", True, 8192)]
    return {
        "load_order": order,
        "placement": "gpu",
        "models": [
            {"name": name, "planned": planned, "context_length": context, "num_parallel": 2}
            for name, planned, context in models
        ],
    }


@pytest.mark.parametrize(
    ("order", "served", "names"),
    [
        (["c", "a"], False, ["c", "a"]),
        (["c", "a"], True, ["c", "a"]),
        ([], False, []),
        # Where none is wanted, those that the plan counts on are served.
        ([], True, ["a", "c"]),
    ],
)
def test_models_come_in_the_plans_order_or_all_that_are_planned(order, served, names):
    assert [model["name"] for model in planned_models(plan(order), served=served)] == names


def test_each_has_what_loading_it_takes():
    assert planned_models(plan(["c"])) == [
        {"name": "c", "context_length": 8192, "num_parallel": 2, "placement": "gpu"}
    ]


@pytest.mark.parametrize("no_plan", [{}, {"load_order": ["a"], "models": []}])
def test_what_is_no_plan_is_an_error(no_plan):
    with pytest.raises(KeyError):
        planned_models(no_plan)


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
