# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which parallel values are measured, with which models, and which are not."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._steps import steps


def plan(parallel, *models, safe=True, load_order=(), warnings=()):
    return {
        "num_parallel": parallel,
        "safe": safe,
        "environment": {"OLLAMA_NUM_PARALLEL": parallel},
        "version": "0.33.0",
        "warnings": list(warnings),
        "load_order": list(load_order),
        "models": [{"name": name, "num_parallel": slots, "planned": slots > 0} for name, slots in models],
    }


def test_safe_values_are_measured_in_order_with_what_the_plan_sets():
    found, skipped = steps([plan(4, ("a", 4)), plan(1, ("a", 1))])
    assert [step.parallel for step in found] == [1, 4]
    assert found[1].to_dict() == {
        "parallel": 4,
        "environment": {"OLLAMA_NUM_PARALLEL": "4"},
        "version": "0.33.0",
        "models": ["a"],
    }
    assert skipped == ()


def test_values_that_are_not_safe_are_left_out_with_the_reason():
    unsafe = plan(8, ("a", 8), safe=False, warnings=["something", "the plan is not safe: a needs 3 GiB more"])
    _found, skipped = steps([plan(1, ("a", 1)), unsafe, plan(9, ("a", 9), safe=False)])
    assert [one.to_dict() for one in skipped] == [
        {"parallel": 8, "reason": "a needs 3 GiB more"},
        {"parallel": 9, "reason": "it is not safe"},
    ]


def test_models_with_one_slot_whatever_is_set_are_not_measured():
    found, _skipped = steps([plan(1, ("a", 1), ("embed", 1)), plan(2, ("a", 2), ("embed", 1), ("out", 0))])
    assert [step.models for step in found] == [("a",), ("a",)]


def test_where_only_one_slot_is_safe_all_planned_models_are_measured():
    found, _skipped = steps([plan(1, ("a", 1), ("b", 1), ("out", 0))])
    assert found[0].models == ("a", "b")


def test_models_are_loaded_in_the_plan_s_order():
    found, _skipped = steps([plan(2, ("a", 2), ("b", 2), ("c", 2), load_order=["c", "a"])])
    assert found[0].models == ("c", "a", "b")


def test_the_operator_s_choice_of_models_wins_and_must_be_planned():
    found, _skipped = steps([plan(2, ("a", 2), ("b", 2))], ["b"])
    assert found[0].models == ("b",)
    with pytest.raises(ValueError, match="x is to be measured and is not planned here; planned are a"):
        steps([plan(2, ("a", 2))], ["x"])


@pytest.mark.parametrize(
    "name", ["mid", "mid:latest", "MID", "library/mid", "registry.ollama.ai/library/Mid:Latest", " mid ", "copy:of"]
)
def test_a_model_is_chosen_by_any_of_its_names(name):
    installed = [
        {"name": "mid:latest", "digest": "sha256-a", "context_length": 4096},
        {"name": "copy:of", "digest": "sha256-a", "context_length": 4096},
    ]
    found, _skipped = steps([plan(2, ("mid:latest", 2), ("b", 2))], [name], installed)
    assert found[0].models == ("mid:latest",)


def test_a_tag_of_the_same_file_with_other_parameters_is_another_model():
    installed = [
        {"name": "mid:latest", "digest": "sha256-a", "context_length": 4096},
        {"name": "mid:long", "digest": "sha256-a", "context_length": 8192},
    ]
    with pytest.raises(ValueError, match="mid:long is to be measured and is not planned here"):
        steps([plan(2, ("mid:latest", 2))], ["mid:long"], installed)


def test_where_nothing_is_safe_there_is_no_step():
    assert steps([plan(1, ("a", 1), safe=False)], ["a"])[0] == ()
    assert steps([])[0] == ()
