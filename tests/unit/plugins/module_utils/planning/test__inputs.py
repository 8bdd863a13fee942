# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan is made from, read and checked against each other."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import goal_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import (
    MAX_MODELS,
    Experience,
    Inputs,
    loaded_from_list,
    read_inputs,
    read_models,
    unplannable_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import judge_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    policy_from_dict,
    wanted_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.tests.unit.data import header, shape

GIB = 1 << 30
PLAIN = shape("llama3.2:1b").to_dict()


NUMBERS = {
    "architecture": "llama",
    "block_count": 32,
    "embedding_length": 4096,
    "feed_forward_length": 14336,
    "head_count": 32,
    "head_count_kv": 8,
    "context_length": 131072,
    "vocabulary_size": 128256,
}


def named(name: str, **changes: object) -> dict[str, object]:
    return {**PLAIN, "name": name, "digest": name, **changes}


def read(models=(PLAIN,), wanted=(), gpus_gib=(24,), service=None, version="0.33.0", **changes) -> Inputs:
    known = {"unplannable", "loaded"}
    return read_inputs(
        gpu={"devices": [{"memory_total_bytes": int(size * GIB)} for size in gpus_gib]},
        models=models,
        wanted=wanted_from_list(list(wanted)),
        policy=policy_from_dict({key: value for key, value in changes.items() if key not in known}),
        version=version,
        service=service or Service(),
        unplannable=changes.get("unplannable", {}),
        experience=Experience(loaded=dict.fromkeys(changes.get("loaded", ()), 4096)),
    )


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("llama3.2:1b", "a model must be a mapping with a name, found 'llama3.2:1b'"),
        ({}, "a model needs a name, found {}"),
        ({"name": " "}, "a model needs a name"),
        ({"name": 3}, "a model needs a name"),
        ({"name": "x" * 601}, "a model has a name of 601 characters, at most 600 are taken: xxx"),
        ({"name": "m", "layers": 3}, "model 'm' cannot be planned: the shape of model m lacks"),
        ({"name": "m"}, "model 'm' cannot be planned: "),
        ({"name": "m", "numbers": 3}, "model 'm' cannot be planned: "),
        ({"name": "m", "header": header("llama3.2:1b"), "nonsense": 1}, "model 'm' cannot be planned: "),
    ],
)
def test_what_is_no_model_is_named(model, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_models([model])


def test_a_model_is_its_shape_or_its_header_and_the_last_of_a_name_counts():
    (by_shape,) = read_models([PLAIN])
    (by_header,) = read_models([{"name": "llama3.2:1b", "header": header("llama3.2:1b")}])
    assert by_shape.shape.layers == by_header.shape.layers
    assert [model.file_bytes for model in read_models([named("a", file_bytes=1), named("a", file_bytes=2)])] == [2]


def test_what_is_given_beside_a_header_counts():
    beside = {"digest": "sha256-a", "parameters": {"num_ctx": 2048}, "adapter_bytes": 1000}
    (model,) = read_models([{"name": "a", "header": header("llama3.2:1b"), **beside}])
    assert (model.name, model.key) == ("a:latest", "sha256-a")
    assert (model.shape.parameters["num_ctx"], model.shape.adapter_bytes) == (2048, 1000)


def test_a_name_may_have_600_characters():
    assert [model.name for model in read_models([named("x" * 600)])] == ["x" * 600]


def test_files_beside_a_model_count_with_it():
    (plain,), (adapted,) = read_models([PLAIN]), read_models([{**PLAIN, "adapter_bytes": 1000}])
    assert adapted.shape.per_device_bytes == plain.shape.per_device_bytes + 1000


def test_where_nothing_is_wanted_all_are_planned_for_and_else_the_wanted():
    models = [named("a"), named("b")]
    everything = read(models)
    assert (everything.names, everything.others) == (("a", "b"), ())
    assert not any(demand.wanted for demand in everything.demands)
    some = read(models, ["b"])
    assert (some.names, [model.name for model in some.others]) == (("b",), ["a"])
    fewer = everything.without(("a",))
    assert (fewer.names, [model.name for model in fewer.others]) == (("b",), ["a"])


@pytest.mark.parametrize(
    ("wanted", "unplannable", "sentence"),
    [
        ("c:1b", {}, "model 'c:1b' is wanted but not installed"),
        ("c", {"library/c": "its file is damaged"}, "model 'c:latest' is wanted but cannot be planned: its file is damaged"),
        ("c:1b", {"d": "its file is damaged"}, "model 'c:1b' is wanted but not installed"),
        # One that can be planned is, whatever is said of another one of its name.
        ("llama3.2:1b", {"llama3.2:1b": "of old"}, None),
    ],
)
def test_a_wanted_model_that_cannot_be_planned_has_its_reason(wanted, unplannable, sentence):
    if sentence is None:
        assert read(wanted=[wanted], unplannable=unplannable).names == (wanted,)
        return
    with pytest.raises(ValueError, match=sentence):
        read(wanted=[wanted], unplannable=unplannable)


def test_of_too_many_models_those_named_come_first_then_the_others_by_name():
    names = [f"m{number:03}" for number in reversed(range(MAX_MODELS + 2))]
    found = read([named(name) for name in names], loaded=["M257"])
    assert len(found.names) == MAX_MODELS
    # Of 258 the loaded one is kept, though it is the last by name, and the two before it are left out.
    assert set(names) - set(found.names) == {"m255", "m256"}
    assert found.warnings[0].startswith("2 of 258 installed models are left out: at most 256 are planned")
    all_of_them = read([named(name) for name in names[:MAX_MODELS]])
    assert (all_of_them.names, all_of_them.warnings) == (tuple(names[:MAX_MODELS]), ())


def test_weights_that_follow_from_numbers_are_said_to_be_near_the_truth():
    models = [{"name": "guessed", "numbers": NUMBERS}, PLAIN]
    found = read(models)
    assert found.by_numbers == ("guessed:latest",)
    assert found.warnings == ("guessed:latest is described by its numbers: its weights are near the truth and not exact",)
    # Not of one that is not planned.
    assert read(models, wanted=["llama3.2:1b"]).by_numbers == ()


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], {}),
        ([{"name": "library/a:latest", "context_length": 8192}], {"a:latest": 8192}),
        ([{"name": "a:1b", "context_length": None}], {"a:1b": 0}),
        ([{"name": "a:1b", "context_length": "4096"}], {"a:1b": 4096}),
    ],
)
def test_loaded_models_have_their_context(items, expected):
    assert loaded_from_list(items) == expected


@pytest.mark.parametrize(
    "items", [3, ["a"], [{"name": "a"}], [{"name": "a", "context_length": "many"}], [{"name": "a", "context_length": 1e999}]]
)
def test_what_is_no_list_of_loaded_models_is_refused(items):
    with pytest.raises(ValueError, match="loaded must be a list of mappings with name and context_length"):
        loaded_from_list(items)


def test_models_that_cannot_be_planned_are_a_list_of_reasons():
    assert unplannable_from_list([{"name": "a", "reason": "why"}]) == {"a": "why"}
    for items in (3, ["a"], [{"name": "a"}]):
        with pytest.raises(ValueError, match="unplannable must be a list of mappings with name and reason"):
            unplannable_from_list(items)


@pytest.mark.parametrize(
    ("gpus_gib", "overhead_gib", "version", "length"),
    [
        # server/routes.go, "vram-based default context": 256k tokens from 47 GiB on, 32k from 23 GiB on, else 4k.
        ((24,), 0, "0.33.0", 32768),
        ((23,), 0, "0.33.0", 32768),
        ((22.9,), 0, "0.33.0", 4096),
        ((24, 23), 0, "0.33.0", 262144),
        # Less the overhead of each GPU, but a GPU is never less than nothing.
        ((24,), 2, "0.33.0", 4096),
        ((24, 1), 1, "0.33.0", 32768),
        ((25, 1), 2, "0.33.0", 32768),
        ((25 - 1 / GIB, 1), 2, "0.33.0", 4096),
        ((), 0, "0.33.0", 4096),
        # There are no such steps before 0.15.5.
        ((80,), 0, "0.12.6", 4096),
    ],
)
def test_ollamas_own_context_follows_from_all_memory(gpus_gib, overhead_gib, version, length):
    environment = {"OLLAMA_GPU_OVERHEAD": overhead_gib * GIB}
    found = read(gpus_gib=gpus_gib, version=version, operator_environment=environment)
    assert found.automatic_context_length == length
    assert found.running_context_length == length


def test_what_runs_has_the_context_that_it_was_given():
    assert read(service=Service(running={"OLLAMA_CONTEXT_LENGTH": "6000"})).running_context_length == 6000


@pytest.mark.parametrize(("version", "rules"), [(None, "0.33.0"), ("", "0.33.0"), ("0.12.6", "0.12.6")])
def test_an_unknown_version_is_planned_as_the_newest_and_said(version, rules):
    found = read(version=version)
    assert str(found.rules.version) == rules
    warnings = () if version else (f"the version of Ollama is not known: planned by the rules of {rules}",)
    assert found.warnings == warnings


def test_a_version_is_a_text():
    with pytest.raises(ValueError, match=r"the version of Ollama is 3, expected a text like 0\.33\.0"):
        read(version=3)


F16, WHOLE = {"OLLAMA_KV_CACHE_TYPE": "f16"}, {"OLLAMA_SCHED_SPREAD": "0"}


@pytest.mark.parametrize(
    ("managed", "foreign", "explicit"),
    [
        ({}, {}, {}),
        ({"OLLAMA_KV_CACHE_TYPE": "q8_0"}, {}, F16),
        ({}, {"OLLAMA_KV_CACHE_TYPE": "q8_0"}, F16),
        ({"OLLAMA_SCHED_SPREAD": "1"}, {}, WHOLE),
        ({}, {"OLLAMA_SCHED_SPREAD": "1"}, WHOLE),
        # Flash attention stays on where a plan has turned it on, and is not turned on because others have.
        ({"OLLAMA_FLASH_ATTENTION": "1"}, {}, {"OLLAMA_FLASH_ATTENTION": "1"}),
        ({"OLLAMA_FLASH_ATTENTION": "0"}, {}, {}),
        ({}, {"OLLAMA_FLASH_ATTENTION": "1"}, {}),
        ({"OLLAMA_NUM_PARALLEL": "4"}, {}, {}),
    ],
)
def test_what_is_set_now_stays_set_even_to_the_default(managed, foreign, explicit):
    assert read(service=Service(managed=managed, foreign=foreign)).explicit == explicit


def test_the_service_will_have_what_others_set_and_what_the_operator_does_but_not_what_the_plan_decides():
    service = Service(
        managed={"OLLAMA_FLASH_ATTENTION": "1", "OLLAMA_SCHED_SPREAD": "1"},
        foreign={"OLLAMA_MAX_QUEUE": "9", "OLLAMA_KEEP_ALIVE": "1m", "OLLAMA_NUM_PARALLEL": "9"},
    )
    found = read(service=service, operator_environment={"OLLAMA_KEEP_ALIVE": "-1"})
    assert found.environment == {
        "OLLAMA_MAX_QUEUE": "9",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_FLASH_ATTENTION": "1",
    }
    assert found.settings.keep_alive_seconds > 1e9


@pytest.mark.parametrize(
    ("environment", "field", "value"),
    [
        ({"OLLAMA_NUM_PARALLEL": "3"}, "num_parallel", 3),
        ({"OLLAMA_MAX_LOADED_MODELS": "2"}, "max_loaded_models", 2),
        ({"OLLAMA_CONTEXT_LENGTH": "8192"}, "context_length", 8192),
        ({"OLLAMA_KV_CACHE_TYPE": "q4_0"}, "kv_cache_types", ("q4_0",)),
        ({"OLLAMA_KV_CACHE_TYPE": "q4_0", "OLLAMA_FLASH_ATTENTION": "on"}, "kv_cache_types", ("q4_0",)),
        ({"OLLAMA_KV_CACHE_TYPE": "f16", "OLLAMA_FLASH_ATTENTION": "false"}, "kv_cache_types", ("f16",)),
        ({"OLLAMA_SCHED_SPREAD": "1"}, "spread", "always"),
        ({"OLLAMA_SCHED_SPREAD": "false"}, "spread", "never"),
        ({}, "spread", "auto"),
        ({"OLLAMA_DEBUG": "1"}, "num_parallel", None),
    ],
)
def test_the_operators_settings_of_the_service_are_a_policy(environment, field, value):
    assert getattr(read(operator_environment=environment).policy, field) == value


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"max_loaded_models": 3, "operator_environment": {"OLLAMA_MAX_LOADED_MODELS": "2"}},
            "max_loaded_models is 3, but operator_environment sets OLLAMA_MAX_LOADED_MODELS to 2; set one of them",
        ),
        ({"num_parallel": 2, "operator_environment": {"OLLAMA_NUM_PARALLEL": "3"}}, "num_parallel is 2, but operator_env"),
        (
            {"operator_environment": {"OLLAMA_CONTEXT_LENGTH": "8k"}},
            "operator_environment sets OLLAMA_CONTEXT_LENGTH to '8k', expected a whole number",
        ),
        (
            {"operator_environment": {"OLLAMA_CONTEXT_LENGTH": "0"}},
            "sets OLLAMA_CONTEXT_LENGTH to '0', which leaves the choice to Ollama; remove it there, and the plan chooses",
        ),
        ({"operator_environment": {"OLLAMA_NUM_PARALLEL": " "}}, "leaves the choice to Ollama"),
        ({"operator_environment": {"OLLAMA_KV_CACHE_TYPE": "q5_1"}}, "q5_1"),
        (
            {"operator_environment": {"OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": "0"}},
            "turns OLLAMA_FLASH_ATTENTION off, without which no KV cache is kept in q8_0: set it to 1, or let",
        ),
        (
            {"kv_cache_types": ["q8_0", "q4_0"], "operator_environment": {"OLLAMA_FLASH_ATTENTION": "0"}},
            "no KV cache is kept in q8_0: ",
        ),
    ],
)
def test_what_the_operator_says_twice_has_to_agree(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(**options)
    same = {"context_length": 8192, "operator_environment": {"OLLAMA_CONTEXT_LENGTH": "8192"}}
    assert read(**same).policy.context_length == 8192


def test_without_flash_attention_no_quantised_cache_is_tried():
    off = {"OLLAMA_FLASH_ATTENTION": "0"}
    assert read(kv_cache_types=["f16", "q8_0"], operator_environment=off).policy.kv_cache_types == ("f16",)


def test_a_policy_may_be_judged_without_the_operators_values():
    found = read(num_parallel=3)
    assert goal_for(found).parallels == (3,)
    assert goal_for(found, policy_from_dict({"requests": 2})).parallels == (2, 1)
    assert judge_for(found).simulation.headroom_bytes == 0
    assert judge_for(read(headroom_bytes=GIB)).simulation.headroom_bytes == GIB
