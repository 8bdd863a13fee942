# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator may ask of a plan, and the sentence for what makes no sense."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import POLICY
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    Policy,
    WantedModel,
    environment_from_dict,
    policy_from_dict,
    unknown_model,
    wanted_from_list,
)


def test_no_option_is_the_default_policy():
    assert policy_from_dict({}) == Policy()
    assert policy_from_dict(dict.fromkeys(Policy.__dataclass_fields__)) == Policy()


def test_by_default_four_requests_at_once_are_served_with_at_least_ollamas_own_context():
    assert (Policy().requests, Policy().min_context_length) == (4, 4096)


def test_the_modules_options_are_the_fields_of_the_policy_with_the_same_defaults():
    assert set(POLICY) == set(Policy.__dataclass_fields__)
    assert policy_from_dict({name: spec.get("default") for name, spec in POLICY.items()}) == Policy()


def test_kv_cache_types_are_tried_best_first_whatever_the_order_given():
    assert policy_from_dict({"kv_cache_types": ["q4_0", "f16", "q8_0"]}).kv_cache_types == (
        "f16",
        "q8_0",
        "q4_0",
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"requests": 0}, "requests must be a whole number from 1 to 256, found 0"),
        ({"requests": -3}, "requests must be a whole number from 1 to 256, found -3"),
        ({"requests": True}, "requests must be a whole number from 1 to 256, found True"),
        ({"num_parallel": "three"}, "num_parallel must be a whole number from 1 to 256, found 'three'"),
        ({"max_loaded_models": 0}, "max_loaded_models must be a whole number from 1 to 1024, found 0"),
        (
            {"context_length": 10**9},
            "context_length must be a whole number from 1 to 16777216, found 1000000000",
        ),
        ({"headroom_bytes": -1}, "headroom_bytes must be a whole number from 0 to 1099511627776, found -1"),
        ({"spread": "some"}, "spread must be one of auto, always, never, found 'some'"),
        ({"on_misfit": "cry"}, "on_misfit must be one of fail, subset, found 'cry'"),
        ({"on_gpu_fault": "cry"}, "on_gpu_fault must be one of fail, exclude, found 'cry'"),
        (
            {"kv_cache_types": []},
            "kv_cache_types must be a list with at least one of f16, q8_0, q4_0, found []",
        ),
        ({"kv_cache_types": "f16"}, "kv_cache_types must be a list with at least one of"),
        ({"kv_cache_types": ["f32"]}, "kv_cache_types must be one of f16, q8_0, q4_0, found 'f32'"),
        ({"min_parallel": 8, "max_parallel": 4}, "min_parallel is 8, above max_parallel, which is 4"),
        ({"max_context_length": 2048}, "min_context_length is 4096, above max_context_length, which is 2048"),
        ({"requets": 3}, "unknown planning option 'requets'; did you mean 'requests'?"),
        ({"operator_environment": ["A=1"]}, "operator_environment must be a mapping"),
        ({"operator_environment": {"A B": "1"}}, "operator_environment: 'A B' is not a name that systemd accepts"),
        ({"operator_environment": {"A_KEY=hunter2": ""}}, "operator_environment: 'A_KEY=********' is not a name"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        policy_from_dict(options)


def test_a_wanted_model_is_a_name_or_a_mapping():
    assert wanted_from_list(["gemma3:4b", {"name": "llama3.1", "context_length": "8192", "requests": 2}]) == (
        WantedModel("gemma3:4b"),
        WantedModel("llama3.1:latest", context_length=8192, requests=2),
    )


@pytest.mark.parametrize(
    ("items", "sentence"),
    [
        ("gemma3:4b", "wanted models must be a list of names or mappings, found 'gemma3:4b'"),
        (None, "wanted models must be a list of names or mappings, found None"),
        ([3], "a wanted model must be a name or a mapping with a name, found 3"),
        ([{"context_length": 1}], "a wanted model needs a name"),
        ([" "], "a wanted model needs a name"),
        (["a", "a:latest"], "model 'a:latest' stands twice in the list of wanted models"),
        ([{"name": "a", "contextlength": 1}], "unknown key 'contextlength'; did you mean 'context_length'?"),
        (
            [{"name": "a", "context_length": -1}],
            "wanted model 'a': context_length must be a whole number from 1",
        ),
        (
            [{"name": "a", "requests": "many"}],
            "wanted model 'a': requests must be a whole number, found 'many'",
        ),
        (
            [{"name": "a", "priority": False}],
            "wanted model 'a': priority must be a whole number, found False",
        ),
    ],
)
def test_a_wanted_list_that_makes_no_sense_is_refused_in_one_sentence(items, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        wanted_from_list(items)


def test_the_environment_is_text():
    assert environment_from_dict({"OLLAMA_KEEP_ALIVE": -1, "OLLAMA_DEBUG": True}, "it") == {
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_DEBUG": "true",
    }
    with pytest.raises(ValueError, match="OLLAMA_HOST"):
        environment_from_dict({"OLLAMA_HOST": ["a"]}, "it")


@pytest.mark.parametrize(
    ("name", "installed", "words"),
    [
        ("gema3:4b", ["gemma3:4b", "phi4:14b"], "did you mean 'gemma3:4b'?"),
        ("zzz:1", ["gemma3:4b", "phi4:14b"], "installed: gemma3:4b, phi4:14b;"),
        ("zzz:1", [f"gemma3:{size}b" for size in range(9)], "gemma3:6b, gemma3:7b, …;"),
        ("zzz:1", [f"gemma3:{size}b" for size in range(8)], "gemma3:6b, gemma3:7b;"),
        ("zzz:1", [], "installed: none;"),
    ],
)
def test_a_model_that_is_not_installed_is_named_with_the_nearest_that_is(name, installed, words):
    assert f"model '{name}' is wanted but not installed" in unknown_model(name, installed)
    assert words in unknown_model(name, installed)


@pytest.mark.parametrize(
    ("option", "least", "most"),
    [
        ("requests", 1, 256),
        ("min_parallel", 1, 256),
        ("num_parallel", 1, 256),
        ("max_parallel", 1, 256),
        ("context_length", 1, 1 << 24),
        ("min_context_length", 1, 1 << 24),
        ("max_loaded_models", 1, 1024),
        ("headroom_bytes", 0, 1 << 40),
    ],
)
def test_a_number_is_within_its_bounds(option, least, most):
    for value in (least, most):
        assert getattr(policy_from_dict({option: value}), option) == value
    for value in (least - 1, most + 1):
        with pytest.raises(ValueError, match=f"{option} must be a whole number from {least} to {most}, found {value}"):
            policy_from_dict({option: value})


@pytest.mark.parametrize(("option", "most"), [("context_length", 1 << 24), ("requests", 256)])
def test_what_is_asked_of_a_model_is_within_the_same_bounds(option, most):
    for value in (1, most):
        (wanted,) = wanted_from_list([{"name": "a", option: value}])
        assert getattr(wanted, option) == value
    for value in (0, most + 1):
        with pytest.raises(ValueError, match=f"wanted model 'a': {option} must be a whole number from 1 to {most}"):
            wanted_from_list([{"name": "a", option: value}])


def test_a_priority_is_any_number():
    models = [{"name": "a", "priority": -2}, {"name": "b", "priority": "3"}, "c"]
    assert [one.priority for one in wanted_from_list(models)] == [-2, 3, 0]


def test_the_least_may_be_the_most():
    assert policy_from_dict({"min_parallel": 4, "max_parallel": 4}).min_parallel == 4
    assert policy_from_dict({"max_context_length": 4096}).max_context_length == 4096


def test_of_several_mistakes_the_first_by_name_is_said():
    with pytest.raises(ValueError, match="model 'a:latest' stands twice"):
        wanted_from_list(["b", "a", "b", "a"])
    with pytest.raises(ValueError, match="unknown planning option 'yyy'"):
        policy_from_dict({"zzz": 1, "yyy": 2})
