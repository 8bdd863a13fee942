# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama's scheduler does with a sequence of loads, rule by rule, and against recordings of the real one."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import GpuMemory, ModelMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import EngineLoad, Launch
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    BelievedMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerGpu,
    SchedulerModel,
    scheduler_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server import (
    LoadOutcome,
    LoadRequest,
    Server,
    start_server,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import B10488
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, HEADERS, bench, shape
from hypothesis import given, settings
from hypothesis import strategies as st

GIB = 1 << 30
MIB = 1 << 20


class SizedEngine:
    """An engine that takes what a table says, in GiB, on one GPU or evenly on several; `asked`: what it was asked for."""

    def __init__(self, **sizes_gib: float) -> None:
        self.sizes_gib = sizes_gib
        self.asked: list[tuple[Launch, tuple[int, ...]]] = []

    def start(self, model: SchedulerModel, launch: Launch, free_bytes: tuple[int, ...]) -> EngineLoad:
        self.asked.append((launch, free_bytes))
        size = int(self.sizes_gib.get(model.name, 4) * GIB) // max(len(free_bytes), 1)
        used = tuple(min(size, free) for free in free_bytes)
        spilled = not free_bytes or any(size + GIB > free for free in free_bytes)
        if not launch.fit and spilled:
            return EngineLoad(failure="Out of memory.", is_out_of_memory=True)
        gpus = tuple(GpuMemory(weights_bytes=one) for one in used)
        return EngineLoad(ModelMemory(gpus), used, spilled)

    def believed(self, model: SchedulerModel, launch: Launch) -> BelievedMemory:
        return MemoryEngine().believed(model, launch)


def model(
    name: str = "a", file_gib: float = 4, per_token_bytes: int = 0, **changes: object
) -> SchedulerModel:
    plain = SchedulerModel(
        name=name,
        key=f"sha256-{name}",
        file_bytes=int(file_gib * GIB),
        prediction_bytes_per_token=per_token_bytes,
        context_length_trained=131072,
        block_count=32,
    )
    return replace(plain, **changes)


def server(
    *gpus_gib: float, version: str = "0.33.0", sizes: dict[str, float] | None = None, **environment: str
) -> Server:
    return start_server(
        version,
        {"OLLAMA_CONTEXT_LENGTH": "4096", **environment},
        [SchedulerGpu(index, int(gib * GIB), int(gib * GIB)) for index, gib in enumerate(gpus_gib)],
        64 * GIB,
        cuda_context_bytes=0,
        engine=SizedEngine(**(sizes or {})),
    )


def loaded(start: Server, *names: str, **keep_alive: float) -> Server:
    for name in names:
        start, _unused = start.load(model(name), LoadRequest(keep_alive_seconds=keep_alive.get(name)))
    return start


def text(outcome: LoadOutcome) -> str:
    return " ".join(outcome.explanation)


# What a load asks for


@pytest.mark.parametrize(
    ("changes", "version", "parallel"),
    [
        ({}, "0.33.0", 4),
        ({"is_embedding": True}, "0.33.0", 1),
        ({"family": "qwen35"}, "0.33.0", 1),
        ({"family": "qwen35"}, "0.30.0", 1),
        ({"family": "mllama"}, "0.33.0", 1),
        ({"family": "llama"}, "0.33.0", 4),
    ],
)
def test_the_slots_of_a_model(changes: dict[str, object], version: str, parallel: int) -> None:
    _unused, outcome = server(24, version=version, OLLAMA_NUM_PARALLEL="4").load(model(**changes))
    assert outcome.parallel == parallel


@pytest.mark.parametrize(
    ("request_ctx", "model_ctx", "environment", "gpus", "context_length"),
    [
        (16384, 8192, "2048", [24], 16384),
        (None, 8192, "2048", [24], 8192),
        (None, None, "2048", [24], 2048),
        (None, None, "0", [12], 4096),
        (None, None, "0", [24], 32768),
        (None, None, "0", [24, 24], 131072),
        (None, None, "", [], 4096),
        (10**6, None, "", [24], 131072),
        (1, None, "", [24], 4),
    ],
)
def test_the_context_of_a_slot(
    request_ctx: int | None, model_ctx: int | None, environment: str, gpus: list[float], context_length: int
) -> None:
    start = server(*gpus, OLLAMA_CONTEXT_LENGTH=environment, OLLAMA_NUM_PARALLEL="4")
    _unused, outcome = start.load(model(num_ctx=model_ctx), LoadRequest(num_ctx=request_ctx))
    assert outcome.context_length == context_length
    assert f"gets {context_length} tokens of context" in text(outcome)


def test_the_overhead_per_gpu_lowers_the_automatic_context_and_nothing_else() -> None:
    plain = server(24, OLLAMA_CONTEXT_LENGTH="0").load(model())[1]
    less = server(24, OLLAMA_CONTEXT_LENGTH="0", OLLAMA_GPU_OVERHEAD=str(2 * GIB)).load(model())[1]
    assert (plain.context_length, less.context_length) == (32768, 4096)
    assert plain.placement == less.placement
    # A GPU is never less than nothing: 23 GiB, and a byte less.
    for first, context_length in ((25.0, 32768), (25 - 1 / GIB, 4096)):
        both = server(first, 1, OLLAMA_CONTEXT_LENGTH="0", OLLAMA_GPU_OVERHEAD=str(2 * GIB))
        assert both.load(model(file_gib=1))[1].context_length == context_length


@pytest.mark.parametrize(
    ("request_", "changes", "taken"),
    [
        (LoadRequest(), {}, (None, -1, None)),
        (LoadRequest(), {"num_batch": 128, "num_gpu": 5, "main_gpu": 0}, (128, 5, 0)),
        (LoadRequest(num_batch=64, num_gpu=7, main_gpu=1), {"num_batch": 128, "num_gpu": 5, "main_gpu": 0}, (64, 7, 1)),
    ],
)
def test_what_a_request_asks_for_goes_before_what_the_model_has(
    request_: LoadRequest, changes: dict[str, object], taken: tuple[int | None, int, int | None]
) -> None:
    options = server(24, 24).load(model(**changes), request_)[0].runners[0].options
    assert (options.num_batch, options.num_gpu, options.main_gpu) == taken


@pytest.mark.parametrize(("environment", "margin_mib"), [({}, 1024), ({"LLAMA_ARG_FIT_TARGET": "512,2048,700"}, 2048)])
def test_what_stays_free_is_what_the_engine_leaves(environment: dict[str, str], margin_mib: int) -> None:
    assert server(24, **environment).margin_bytes == margin_mib * MIB


def test_a_server_that_does_not_tell_its_steps_does_the_same() -> None:
    loads = [("a", 4), ("b", 4), ("c", 14), ("a", 4), ("c", 14), ("d", 30)]
    telling = server(24, 8, sizes={"c": 14, "d": 30})
    silent = replace(telling, tells=False)
    first = silent.load(model("a"))[1]
    assert first.explanation == ()
    for name, size in loads:
        telling, told = telling.load(model(name, size))
        silent, untold = silent.load(model(name, size))
        assert replace(silent, tells=True) == telling
        assert replace(untold, explanation=told.explanation) == told
    assert {launch.details for launch, _free in silent.engine.asked} == {True, False}


def test_servers_of_the_same_host_are_the_same() -> None:
    gpus = [SchedulerGpu(0, 24 * GIB, 24 * GIB)]
    assert start_server("0.33.0", {}, gpus, GIB) == start_server("0.33.0", {}, gpus, GIB)
    assert start_server("0.33.0", {}, gpus, GIB) != start_server("0.33.0", {}, gpus, GIB, tells=False)
    assert start_server("0.33.0", {}, gpus, GIB).tells


def test_a_vision_model_gets_at_least_2048_tokens() -> None:
    _unused, outcome = server(24, OLLAMA_CONTEXT_LENGTH="512").load(model(is_vision=True))
    assert outcome.context_length == 2048


# What a loaded model means for the next load


def test_the_first_model_loads_and_spills_where_it_must() -> None:
    after, outcome = server(8, sizes={"a": 9}).load(model("a", 9))
    assert (outcome.evicted, outcome.spilled, after.loaded) == ((), True, ("a",))
    assert "without asking whether it fits" in text(outcome)


def test_a_model_that_does_not_fit_beside_others_evicts_one_and_is_asked_again() -> None:
    after, outcome = loaded(server(24), "a", "b", a=600).load(model("c", 14))
    assert outcome.evicted == ("b",)
    assert after.loaded == ("a", "c")
    assert "b is evicted: of the idle models it has the shortest keep-alive" in text(outcome)


def test_the_memory_of_an_evicted_model_is_not_believed_free_by_one_that_was_loaded_after_it() -> None:
    after, outcome = loaded(server(24), "a", "b").load(model("c", 14))
    assert outcome.evicted == ("a", "b")
    assert after.loaded == ("c",)


@pytest.mark.parametrize(
    ("keep_alive", "victim"),
    [
        ({}, "a"),
        ({"a": 600, "b": 300, "c": 900}, "b"),
        ({"a": 600, "b": 300, "c": 300}, "b"),
        ({"a": float("inf"), "b": 600, "c": 300}, "c"),
    ],
)
def test_the_victim_has_the_shortest_keep_alive_then_the_lowest_blob(keep_alive: dict[str, float], victim: str) -> None:
    start = loaded(server(24), "c", "a", "b", **keep_alive)
    assert start.load(model("d", 12))[1].evicted[0] == victim


@pytest.mark.parametrize(
    ("gpus", "environment", "most"),
    [([24], "0", 3), ([24, 24], "0", 6), ([], "0", 3), ([24], "2", 2), ([24, 24], "1", 1)],
)
def test_no_more_models_than_the_maximum_of_all_gpus_together(
    gpus: list[float], environment: str, most: int
) -> None:
    start = server(*gpus, OLLAMA_MAX_LOADED_MODELS=environment)
    names = [f"m{number}" for number in range(most + 1)]
    for name in names:
        start, outcome = start.load(model(name, 0.1))
    assert len(start.loaded) == most
    assert outcome.evicted == ("m0",)
    assert f"{most} are allowed" in text(outcome)


def test_a_model_that_is_loaded_answers_at_once() -> None:
    before = loaded(server(24), "a")
    after, outcome = before.load(model("a"), LoadRequest(keep_alive_seconds=900))
    assert outcome.reused
    assert (outcome.placement, outcome.parallel, outcome.context_length) == ((0,), 1, 4096)
    assert after.runners[0].keep_alive_seconds == 900
    assert before.load(model("a"))[0].runners[0].keep_alive_seconds == 300


@pytest.mark.parametrize(("spread", "placement"), [("0", (0,)), ("1", (0, 1))])
def test_a_model_that_is_loaded_stays_where_it_is(spread: str, placement: tuple[int, ...]) -> None:
    start, first = server(24, 24, OLLAMA_SCHED_SPREAD=spread).load(model("a"))
    reused = start.load(model("a"))[1]
    for outcome in (first, reused):
        assert (outcome.placement, outcome.split) == (placement, len(placement) == 2)
    assert reused.whole_bytes == 4 * GIB


def test_who_asks_for_no_number_of_layers_takes_those_that_are_loaded() -> None:
    start, _unused = server(24).load(model("a"), LoadRequest(num_gpu=10))
    assert start.load(model("a"))[1].reused


@pytest.mark.parametrize(
    ("request_", "changes", "reason"),
    [
        (LoadRequest(num_ctx=8192), {}, "num_ctx 4096, asked 8192"),
        (LoadRequest(num_batch=64), {}, "num_batch automatic, asked 64"),
        (LoadRequest(num_gpu=10), {}, "num_gpu -1, asked 10"),
        (LoadRequest(num_gpu=0), {}, "num_gpu -1, asked 0"),
        (LoadRequest(main_gpu=0), {}, "main_gpu any, asked 0"),
        (LoadRequest(), {"side_files": ("sha256-1",)}, "another projector or adapter"),
        (LoadRequest(num_gpu=-1), {}, ""),
        (LoadRequest(num_ctx=4096), {}, ""),
        (LoadRequest(), {"name": "other-tag"}, ""),
        (LoadRequest(), {"name": "other-tag", "num_ctx": 2048}, "num_ctx 4096, asked 2048"),
    ],
)
def test_tags_of_one_blob_share_a_runner_unless_their_options_differ(
    request_: LoadRequest, changes: dict[str, object], reason: str
) -> None:
    after, outcome = loaded(server(24), "a").load(replace(model("a"), **changes), request_)
    assert outcome.reused is not bool(reason)
    assert outcome.evicted == (("a",) if reason else ())
    assert len(after.loaded) == 1
    assert reason in text(outcome)


@pytest.mark.parametrize(
    ("loaded_with", "changes", "asked", "reason"),
    [
        ({"num_gpu": 10}, {}, {"num_gpu": 5}, "num_gpu 10, asked 5"),
        ({}, {"side_files": ("sha256-1",)}, {}, "another projector or adapter"),
        ({}, {"side_files": ("sha256-1",)}, {"num_ctx": 8192}, "another projector or adapter"),
        ({"num_batch": 512}, {}, {"num_batch": 64}, "num_batch 512, asked 64"),
        ({"num_batch": 64}, {}, {}, "num_batch 64, asked automatic"),
        ({"main_gpu": 1}, {}, {"main_gpu": 0}, "main_gpu 1, asked 0"),
        ({"main_gpu": 0}, {}, {}, "main_gpu 0, asked any"),
        ({}, {}, {"num_ctx": 8192}, "num_ctx 32768, asked 8192"),
        ({"num_ctx": 8192}, {}, {}, "num_ctx 8192, asked 32768"),
    ],
)
def test_a_model_is_loaded_anew_where_other_options_are_asked_for(
    loaded_with: dict[str, int], changes: dict[str, object], asked: dict[str, int], reason: str
) -> None:
    start, _unused = server(24, 8, OLLAMA_CONTEXT_LENGTH="0").load(model(**changes), LoadRequest(**loaded_with))
    _after, outcome = start.load(model(), LoadRequest(**asked))
    assert (outcome.reused, outcome.evicted) == (False, ("a",))
    assert f"is loaded with other options ({reason}), so it is unloaded" in text(outcome)


def test_an_automatic_context_that_was_reduced_is_not_asked_for_again() -> None:
    start = server(24, sizes={"a": 30}, OLLAMA_CONTEXT_LENGTH="0", LLAMA_ARG_FIT="off")
    start, _unused = start.load(model("a"))
    start = replace(start, engine=SizedEngine(a=4))
    start, outcome = start.load(model("a"))
    assert outcome.context_length == 32768
    smaller = replace(start.runners[0], options=replace(start.runners[0].options, context_length=4096))
    assert replace(start, runners=(smaller,)).load(model("a"))[1].reused


def test_models_go_when_their_keep_alive_runs_out_or_they_are_stopped() -> None:
    start = loaded(server(24), "a", "b", a=60, b=float("inf"))
    assert start.after(59).loaded == ("a", "b")
    assert start.after(60).loaded == ("b",)
    assert start.after(1e9).loaded == ("b",)
    assert start.unload("b").loaded == ("a",)
    assert loaded(start.after(30), "a", a=60).after(59).loaded == ("a", "b")


def test_a_keep_alive_of_zero_unloads_after_the_answer() -> None:
    after, outcome = server(24).load(model("a"), LoadRequest(keep_alive_seconds=0))
    assert (after.loaded, outcome.placement) == ((), (0,))
    assert loaded(server(24), "a").load(model("a"), LoadRequest(keep_alive_seconds=0))[0].loaded == ()
    for seconds in (0.5, 1):
        stays = server(24).load(model("a"), LoadRequest(keep_alive_seconds=seconds))[0]
        assert stays.loaded == stays.load(model("a"), LoadRequest(keep_alive_seconds=seconds))[0].loaded == ("a",)


# Free memory as Ollama believes it


def test_a_fresh_discovery_sees_other_processes_while_a_gpu_has_no_model() -> None:
    start = loaded(server(24, 24), "a")
    others = replace(start, gpus=(start.gpus[0], replace(start.gpus[1], free_bytes=3 * GIB)))
    assert others.load(model("b"))[1].placement == (0,)


def test_a_process_that_came_later_is_not_seen_once_every_gpu_has_a_model() -> None:
    start = loaded(server(24), "a")
    later = replace(start, gpus=(replace(start.gpus[0], free_bytes=10 * GIB),))
    _unused, outcome = later.load(model("b", 12))
    assert outcome.evicted == ()
    assert later.free_bytes() == (6 * GIB,)
    assert "Really free are 6.0 GiB on GPU 0" in text(outcome)
    assert "other processes" in text(outcome)


def test_each_gpu_gets_a_model_before_any_gets_two() -> None:
    start, first = server(24, 24).load(model("a"))
    start, second = start.load(model("b"))
    assert (first.placement, second.placement) == ((0,), (1,))


def test_a_gpu_other_than_the_first_counts_as_empty_once_every_gpu_has_a_model() -> None:
    start = loaded(server(24, 24, sizes={"b": 20}), "a", "b")
    _unused, outcome = start.load(model("c", 12))
    assert outcome.placement == (1,)
    assert outcome.spilled
    assert outcome.evicted == ()
    assert "Really free are 4.0 GiB on GPU 1, less than Ollama believes: models alone on GPU 1" in text(
        outcome
    )
    assert "issues/18349" in text(outcome)


def test_where_the_bug_is_unknown_every_gpu_is_counted() -> None:
    start = loaded(server(24, 24, sizes={"b": 20}), "a", "b")
    sound = replace(start, rules=replace(start.rules, bugs=()))
    _unused, outcome = sound.load(model("c", 12))
    assert (outcome.placement, outcome.spilled) == ((0,), False)


def test_models_split_over_all_gpus_are_counted_in_full() -> None:
    start = loaded(server(24, 24, OLLAMA_SCHED_SPREAD="1", sizes={"a": 30}), "a")
    _unused, outcome = start.load(model("b", 15))
    assert outcome.evicted == ("a",)
    _unused, outcome = start.load(model("b", 13))
    assert (outcome.evicted, outcome.split, outcome.placement) == ((), True, (0, 1))


def test_runners_of_another_library_are_numbered_by_themselves() -> None:
    start = server(24, 24)
    mixed = replace(start, gpus=(start.gpus[0], replace(start.gpus[1], library="ROCm")))
    mixed = loaded(replace(mixed, engine=SizedEngine(b=20)), "a", "b")
    assert mixed.load(model("c", 12))[1].placement == (0,)


def test_several_gpus_of_one_library_beside_another_answer_for_themselves() -> None:
    start = server(24, 24, 8)
    mixed = replace(start, gpus=(*start.gpus[:2], replace(start.gpus[2], library="ROCm")))
    mixed = replace(mixed, engine=SizedEngine(a=30))
    mixed, outcome = mixed.load(model("a", 30))
    assert outcome.placement == (0, 1)
    mixed, outcome = mixed.load(model("b", 5), LoadRequest())
    assert outcome.placement == (2,) or outcome.placement == (0,)
    assert mixed.possible_loads(model("c", 6))


def test_what_hangs_on_the_order_of_a_map_is_undecided() -> None:
    # The later model saw 1 GiB less, taken by a context that no log shows.
    start = server(24, sizes={"a": 4, "b": 4})
    start = replace(start, cuda_context_bytes=GIB)
    start = loaded(start, "a", "b")
    possible = start.possible_loads(model("c", 11.8))
    assert [outcome.evicted for _unused, outcome in possible] == [(), ("a", "b")]
    assert all(outcome.is_undecided for _unused, outcome in possible)
    assert start.load(model("c", 11.8))[1] == possible[0][1]
    assert not start.load(model("c", 8))[1].is_undecided


def test_views_that_lead_to_the_same_are_one_outcome() -> None:
    """By a and by b there is room, by c, which was loaded last, there is not."""
    start = server(24, sizes={"a": 4, "b": 4, "c": 1}, OLLAMA_MAX_LOADED_MODELS="9")
    start = loaded(replace(start, cuda_context_bytes=GIB), "a", "b", "c")
    assert start._views(start.runners[0].options) == [(15 * GIB,), (14 * GIB,), (12 * GIB,)]
    possible = start.possible_loads(model("d", 10))
    assert [outcome.evicted for _unused, outcome in possible] == [(), ("a",), ("a", "b", "c")]


def test_many_orders_are_narrowed_to_the_extremes() -> None:
    start = replace(server(24, 24, OLLAMA_MAX_LOADED_MODELS="30"), cuda_context_bytes=64 * MIB)
    names = [f"m{number:02}" for number in range(20)]
    for name in names:
        start, outcome = start.load(model(name, 0.1, main_gpu=len(start.loaded) % 2))
        assert outcome.evicted == ()
    start = replace(start, engine=SizedEngine())
    reports = start._views(start.runners[0].options)
    assert len(reports) == 2
    assert start.possible_loads(model("x", 5))


# Starting


def test_ollama_asks_for_flash_attention_only_where_the_gpus_can() -> None:
    seen = []

    class Watching(SizedEngine):
        def start(self, model: SchedulerModel, launch: Launch, free_bytes: tuple[int, ...]) -> EngineLoad:
            seen.append(launch.flash_attention)
            return super().start(model, launch, free_bytes)

    for capability, environment in (
        ("8.6", {}),
        ("5.2", {}),
        ("7.2", {}),
        ("8.6", {"OLLAMA_FLASH_ATTENTION": "0"}),
        ("5.2", {"OLLAMA_FLASH_ATTENTION": "1"}),
    ):
        start = replace(server(24, **environment), engine=Watching())
        gpu = replace(start.gpus[0], compute_capability=capability)
        replace(start, gpus=(gpu,)).load(model())
    assert seen == ["auto", "off", "off", "off", "on"]


def with_figures(start: Server, **figures: object) -> Server:
    """The server of a version that places models by other figures."""
    return replace(start, rules=replace(start.rules, placement=replace(start.rules.placement, **figures)))


def test_how_many_models_are_loaded_at_once_is_the_versions_own() -> None:
    start = server(24, 24)
    assert start.max_loaded_models == 6
    assert with_figures(start, models_per_gpu=1).max_loaded_models == 2


def test_to_which_context_ollama_falls_back_is_the_versions_own() -> None:
    start = server(48, sizes={"a": 100}, OLLAMA_CONTEXT_LENGTH="", LLAMA_ARG_FIT="off")
    assert start.load(model())[1].context_length == 32768
    assert with_figures(start, lower_contexts=(20000,)).load(model())[1].context_length == 20000


def test_a_server_says_what_a_model_gets_by_itself() -> None:
    start = server(24, 24)
    old = replace(start.gpus[1], compute_capability="5.2")
    start = replace(start, gpus=(start.gpus[0], old))
    assert start.flash_attention((0,)) == "auto"
    assert start.flash_attention((0, 1)) == "off"
    assert start.slots(model(is_embedding=True)) == 1
    assert start.context_length(model(num_ctx=2048)) == 2048
    assert start.context_length(model()) == 4096
    assert start.context_length(model(num_ctx=100, is_vision=True)) == 2048


@pytest.mark.parametrize("version", ["0.30.0", "0.33.0"])
def test_the_memory_rules_are_told_the_build_of_the_engine(version: str) -> None:
    seen = []

    class Watching(SizedEngine):
        def start(self, model: SchedulerModel, launch: Launch, free_bytes: tuple[int, ...]) -> EngineLoad:
            seen.append(launch.settings.build)
            return super().start(model, launch, free_bytes)

    replace(server(24, version=version), engine=Watching()).load(model())
    assert seen == [rules(version).engine_build]
    assert seen[0] is not None


def test_an_engine_from_before_there_were_builds_is_told_the_latest() -> None:
    start = replace(old_server(), engine=SizedEngine())
    start.load(scheduler_model_of("llama3.2:1b"))
    assert [launch.settings.build for launch, _free in start.engine.asked] == [B10488]


@pytest.mark.parametrize(("gpu_gib", "context_gib", "free_gib"), [(24, 1, 23), (2, 3, 0)])
def test_the_engine_finds_free_what_its_process_leaves(gpu_gib: int, context_gib: int, free_gib: int) -> None:
    start = replace(server(gpu_gib), cuda_context_bytes=context_gib * GIB)
    start.load(model())
    assert [free for _launch, free in start.engine.asked] == [(free_gib * GIB,)]


@pytest.mark.parametrize(
    ("gpus", "request_", "whole_gib"),
    [
        ([24], LoadRequest(), 11),
        ([24, 24], LoadRequest(), 12),
        ([24], LoadRequest(num_gpu=0), 11),
        ([24], LoadRequest(num_ctx=8), 0),
    ],
)
def test_what_all_of_a_model_takes_is_told_with_the_process_on_each_gpu(
    gpus: list[float], request_: LoadRequest, whole_gib: int
) -> None:
    class Telling(SizedEngine):
        def start(self, model: SchedulerModel, launch: Launch, free_bytes: tuple[int, ...]) -> EngineLoad:
            whole_bytes = 0 if launch.context_length == 8 else 10 * GIB
            return replace(super().start(model, launch, free_bytes), whole_bytes=whole_bytes)

    start = replace(server(*gpus, OLLAMA_SCHED_SPREAD="1"), engine=Telling(), cuda_context_bytes=GIB)
    assert start.load(model(), request_)[1].whole_bytes == whole_gib * GIB


def test_a_model_that_fails_for_another_reason_is_not_tried_again() -> None:
    class Broken(SizedEngine):
        def start(self, model: SchedulerModel, launch: Launch, free_bytes: tuple[int, ...]) -> EngineLoad:
            self.asked.append((launch, free_bytes))
            return EngineLoad(failure="It is broken.")

    start = replace(loaded(server(24), "a"), engine=Broken())
    after, outcome = start.load(model("b"))
    assert (outcome.failure, outcome.evicted, after.loaded, len(start.engine.asked)) == ("It is broken.", (), ("a",), 1)


def test_out_of_memory_lowers_an_automatic_context_to_the_next_that_is_lower_and_no_further() -> None:
    start = server(24, sizes={"a": 30}, LLAMA_ARG_FIT="off", OLLAMA_CONTEXT_LENGTH="0")
    start = with_figures(start, lower_contexts=(65536, 32768, 20000, 10000))
    assert start.load(model("a"))[1].context_length == 20000
    assert [launch.context_length for launch, _free in start.engine.asked] == [32768, 20000]


def test_out_of_memory_lowers_an_automatic_context_once() -> None:
    start = server(24, sizes={"a": 30}, LLAMA_ARG_FIT="off", OLLAMA_CONTEXT_LENGTH="0")
    after, outcome = start.load(model("a"))
    assert outcome.failure == "Out of memory."
    assert outcome.context_length == 4096
    assert "tries once more with 4096 tokens" in text(outcome)
    assert after.loaded == ()


def test_out_of_memory_evicts_everything_else_once() -> None:
    start = loaded(server(24, sizes={"c": 18}, LLAMA_ARG_FIT="off"), "a", "b")
    after, outcome = start.load(model("c", 8))
    assert outcome.evicted == ("a", "b")
    assert outcome.failure == ""
    assert after.loaded == ("c",)
    assert "unloads all other models (a, b)" in text(outcome)


def test_out_of_memory_of_the_only_model_fails() -> None:
    after, outcome = server(8, sizes={"a": 9}, LLAMA_ARG_FIT="off").load(model("a"))
    assert (outcome.failure, outcome.gpu_bytes, after.loaded) == ("Out of memory.", (0,), ())


def test_a_model_for_the_cpu_says_why() -> None:
    _unused, outcome = server().load(model())
    assert outcome.placement == ()
    assert "Ollama sees no GPU, so a runs on the CPU." in text(outcome)
    _unused, outcome = server(24).load(model(), LoadRequest(num_gpu=0))
    assert (outcome.placement, outcome.gpu_bytes) == ((), (0,))
    assert "num_gpu is 0, so a runs on the CPU." in text(outcome)


def test_a_model_on_the_cpu_leaves_the_gpus_free() -> None:
    start, _unused = server(24).load(model("a"), LoadRequest(num_gpu=0))
    assert start.free_bytes() == (24 * GIB,)
    assert start.load(model("b", 18))[1].evicted == ()


def test_a_part_of_the_layers_goes_to_the_gpus() -> None:
    _unused, outcome = server(24).load(model(), LoadRequest(num_gpu=10))
    assert (outcome.placement, outcome.gpu_bytes) == ((0,), (4 * GIB,))


def test_the_memory_rules_are_used_for_a_shape() -> None:
    llama = shape("llama3.1:8b")
    start = start_server(
        "0.33.0",
        {"OLLAMA_NUM_PARALLEL": "4", "OLLAMA_CONTEXT_LENGTH": "8192"},
        [SchedulerGpu(0, 24 * GIB, 24 * GIB, compute_capability="8.9")],
        64 * GIB,
    )
    after, outcome = start.load(llama)
    assert outcome.batch == 1024
    assert 9000 * MIB < outcome.gpu_bytes[0] < 9500 * MIB
    assert after.free_bytes() == (24 * GIB - outcome.gpu_bytes[0],)
    assert "takes 87" in text(outcome)


def test_an_old_version_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be planned"):
        server(24, version="0.9.0")


# Versions before 0.30


def old_server(*gpus_gib: float, version: str = "0.11.8", **environment: str) -> Server:
    return start_server(
        version,
        {"OLLAMA_CONTEXT_LENGTH": "4096", **environment},
        [SchedulerGpu(index, int(gib * GIB), int(gib * GIB)) for index, gib in enumerate(gpus_gib)],
        64 * GIB,
    )


@pytest.mark.parametrize("version", ["0.10.0", "0.11.10", "0.11.11", "0.24.0"])
def test_before_0_30_a_model_goes_to_the_fewest_gpus_that_hold_it(version: str) -> None:
    start, outcome = old_server(8, 12, version=version).load(scheduler_model_of("gemma3:4b"))
    assert (outcome.placement, outcome.split, outcome.batch, outcome.spilled) == ((1,), False, 512, False)
    assert "the fewest that hold it" in text(outcome)
    _unused, outcome = start.load(scheduler_model_of("qwen3:14b"))
    assert (outcome.placement, outcome.evicted, outcome.spilled) == ((0, 1), (), False)


def test_before_0_30_a_model_that_does_not_fit_wholly_evicts() -> None:
    start, _unused = old_server(10).load(scheduler_model_of("llama3.1:8b"))
    after, outcome = start.load(scheduler_model_of("qwen3:8b"))
    assert outcome.evicted == ("llama3.1:8b",)
    assert after.loaded == ("qwen3:8b",)
    assert "does not fit beside what is loaded" in text(outcome)


def test_before_0_30_the_first_model_spills_what_does_not_fit() -> None:
    after, outcome = old_server(6).load(scheduler_model_of("qwen3:8b"))
    assert outcome.spilled
    assert 0 < outcome.gpu_layers < outcome.layers
    assert "others go to the CPU" in text(outcome)
    assert after.free_bytes()[0] >= 0


def test_before_0_30_it_is_told_what_all_of_a_model_takes_whether_it_fits_or_not() -> None:
    qwen = scheduler_model_of("qwen3:8b")
    fits, spills, on_cpu = (old_server(*gpus).load(qwen)[1] for gpus in ((24,), (6,), ()))
    assert fits.whole_bytes == sum(fits.gpu_bytes)
    assert spills.whole_bytes == fits.whole_bytes > sum(spills.gpu_bytes)
    assert (on_cpu.whole_bytes, on_cpu.gpu_layers, fits.gpu_layers) == (0, 0, fits.layers)
    # A GPU is there, and nothing fits on it.
    full = old_server(0.5).load(qwen)[1]
    assert (full.placement, full.spilled, full.whole_bytes) == ((), True, fits.whole_bytes)


@pytest.mark.parametrize(("projector_mib", "gpus", "on_gpu"), [(800, (24,), True), (800, (), False), (0, (24,), False)])
def test_before_0_30_a_projector_lies_where_the_model_does(projector_mib: int, gpus: tuple[int, ...], on_gpu: bool) -> None:
    vision = replace(scheduler_model_of("gemma3:4b"), projector_bytes=projector_mib * MIB)
    assert old_server(*gpus).load(vision)[1].projector_on_gpu is on_gpu


def test_before_0_30_models_on_the_cpu_do_not_evict_each_other() -> None:
    start, _unused = old_server().load(scheduler_model_of("llama3.2:1b"))
    after, outcome = start.load(scheduler_model_of("qwen3:8b"))
    assert (outcome.evicted, after.loaded) == ((), ("llama3.2:1b", "qwen3:8b"))


def test_before_0_30_a_model_that_does_not_start_is_not_loaded() -> None:
    start = replace(old_server(LLAMA_ARG_FIT="off"), engine=SizedEngine())
    after, outcome = start.load(scheduler_model_of("llama3.2:1b"))
    assert (outcome.failure, after.loaded) == ("Out of memory.", ())


def test_before_0_30_a_batch_that_is_asked_for_is_taken() -> None:
    llama = scheduler_model_of("llama3.2:1b")
    assert [old_server(24).load(llama, LoadRequest(num_batch=batch))[1].batch for batch in (64, None)] == [64, 512]


def test_before_0_30_every_gpu_is_counted() -> None:
    start = old_server(7, 7)
    start, first = start.load(scheduler_model_of("llama3.1:8b"))
    start, second = start.load(scheduler_model_of("qwen3:8b"))
    _unused, third = start.load(scheduler_model_of("llama3.2:3b"))
    assert (first.placement, second.placement) == ((0,), (1,))
    assert third.evicted
    assert not third.spilled


def test_before_0_30_other_processes_are_always_seen() -> None:
    start, _unused = old_server(24).load(scheduler_model_of("llama3.2:1b"))
    later = replace(start, gpus=(replace(start.gpus[0], free_bytes=6 * GIB),))
    assert later.load(scheduler_model_of("qwen3:8b"))[1].evicted == ("llama3.2:1b",)


def test_before_0_30_models_run_on_the_cpu_without_gpus() -> None:
    _unused, outcome = old_server().load(scheduler_model_of("llama3.2:1b"))
    assert (outcome.placement, outcome.spilled) == ((), True)
    assert "runs on the CPU" in text(outcome)
    assert old_server(24).load(scheduler_model_of("llama3.2:1b"), LoadRequest(num_gpu=0))[1].placement == ()


def test_before_0_30_a_shape_is_needed() -> None:
    with pytest.raises(ValueError, match="without the model's shape"):
        old_server(24).load(model())
    with pytest.raises(ValueError, match="without the model's shape"):
        replace(old_server(24), engine=SizedEngine()).load(model())


# Against the real scheduler


SCENARIOS = [
    json.loads(line) for line in (DATA / "ollama_scheduler.jsonl").read_text().splitlines()
]


@lru_cache(maxsize=1)
def recorded_models() -> dict[str, SchedulerModel]:
    models: dict[str, SchedulerModel] = bench("scheduler").read_models(
        DATA / "ollama_scheduler_models.json", HEADERS
    )
    return models


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_a_recorded_scenario_is_foretold(scenario: dict[str, object]) -> None:
    counts: Counter[str] = Counter()
    named: list[str] = []
    bench("scheduler").replay(scenario, recorded_models(), counts, named)
    missed = [line for line in named if "missed" in line]
    assert not missed
    assert counts["placement_ok"] == counts["batch_ok"] == counts["eviction_ok"] == counts["steps"]
    assert counts["spill_ok"] == counts["spill_checked"]


@pytest.fixture
def counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """`counted([scenario, ...], headers)` are the lines that the benchmark prints."""

    def run(scenarios: Sequence[dict[str, Any]], headers: Path = HEADERS) -> list[str]:
        path = tmp_path / "scenarios.jsonl"
        path.write_text("".join(json.dumps(scenario) + "\n" for scenario in scenarios) + "\n")
        program = ["scheduler.py", "--scenarios", str(path), "--headers", str(headers)]
        monkeypatch.setattr(sys, "argv", program)
        assert bench("scheduler").main() == 0
        return capsys.readouterr().out.splitlines()

    return run


def recorded_scenario(name: str) -> dict[str, Any]:
    return next(scenario for scenario in SCENARIOS if scenario["name"] == name)


class TestTheBenchmark:
    def test_ends_with_one_line_of_counts(self, counted: Callable[..., list[str]]) -> None:
        lines = counted([recorded_scenario("g24_max_default3"), recorded_scenario("g24_q8_fa0")])
        assert lines[-1] == "steps=5 placement_ok=5 batch_ok=5 eviction_ok=5 spill_ok=4 spill_checked=4"

    def test_foretells_all_but_spills_without_any_header(
        self, counted: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        names = ("g24_max_default3", "g24_q8_fa0", "fitoff_oom_explicit_single", "fitoff_oom_evictall2")
        lines = counted([recorded_scenario(name) for name in names], tmp_path / "none")
        assert lines[-1] == "steps=9 placement_ok=9 batch_ok=9 eviction_ok=9 spill_ok=0 spill_checked=0"

    def test_finds_a_header_whatever_of_the_tag_its_name_spells(self, tmp_path: Path) -> None:
        for name, spelled in (
            ("llama3.1_8b", "llama3.1:8b"),
            ("nomic-embed-text", "nomic-embed-text_latest"),
        ):
            (tmp_path / f"{spelled}.json").write_text((HEADERS / f"{name}.json").read_text())
        models = bench("scheduler").read_models(DATA / "ollama_scheduler_models.json", tmp_path)
        known = {tag for tag, one in models.items() if one.shape and not tag.endswith("-vision")}
        assert known == {"llama3.1:8b", "nomic-embed-text:latest"}

    def test_goes_on_after_a_scenario_with_a_model_that_it_does_not_know(
        self, counted: Callable[..., list[str]]
    ) -> None:
        scenario = recorded_scenario("g24_q8_fa0")
        strange = json.loads(json.dumps(scenario).replace("llama3.1:8b", "nobody:1b"))
        lines = counted([{**strange, "name": "strange"}, {**scenario, "of": {"a later": "recorder"}}])
        assert lines[0].startswith("strange: not replayed to its end: ")
        assert "nobody:1b is none of the models known" in lines[0]
        assert lines[-1] == "steps=2 placement_ok=1 batch_ok=1 eviction_ok=1 spill_ok=0 spill_checked=0"


# Whatever comes

MODELS = st.builds(
    lambda number, size, per_token, ctx: model(f"m{number}", size, per_token, num_ctx=ctx),
    st.integers(0, 5),
    st.floats(0.1, 30),
    st.integers(0, 1 << 18),
    st.sampled_from([None, 2048, 8192, 131072]),
)
REQUESTS = st.builds(
    LoadRequest,
    num_ctx=st.sampled_from([None, 4096, 16384]),
    num_gpu=st.sampled_from([None, None, 0, 8]),
    main_gpu=st.sampled_from([None, None, 0, 3]),
    keep_alive_seconds=st.sampled_from([None, 0, 60, float("inf")]),
)


@settings(deadline=None)
@given(
    gpus=st.lists(st.sampled_from([4, 8, 12, 24, 48]), max_size=4),
    loads=st.lists(st.tuples(MODELS, REQUESTS, st.sampled_from([0, 0, 30, 1e6])), max_size=8),
    parallel=st.integers(0, 8),
    most=st.integers(0, 4),
    spread=st.booleans(),
    fit=st.booleans(),
    context_bytes=st.sampled_from([0, 600 * MIB]),
)
def test_the_server_stays_within_its_means(
    gpus: list[float],
    loads: list[tuple[SchedulerModel, LoadRequest, float]],
    parallel: int,
    most: int,
    spread: bool,
    fit: bool,
    context_bytes: int,
) -> None:
    start = server(
        *gpus,
        sizes={f"m{number}": size for number, size in enumerate((1, 3, 6, 12, 20, 30))},
        OLLAMA_NUM_PARALLEL=str(parallel),
        OLLAMA_MAX_LOADED_MODELS=str(most),
        OLLAMA_SCHED_SPREAD="1" if spread else "0",
        LLAMA_ARG_FIT="on" if fit else "off",
    )
    start = replace(start, cuda_context_bytes=context_bytes)
    for wanted, request, seconds in loads:
        before = start
        possible = start.possible_loads(wanted, request)
        for after, outcome in possible:
            assert len(after.loaded) <= after.max_loaded_models
            assert len(set(after.loaded)) == len(after.loaded)
            assert all(free >= 0 for free in after.free_bytes())
            assert set(outcome.evicted) <= {*before.loaded, wanted.name}
            assert not set(outcome.evicted) & set(after.loaded) - {wanted.name}
            assert len(outcome.gpu_bytes) == len(gpus)
            assert outcome.explanation
            assert all(sentence.endswith(".") for sentence in outcome.explanation)
        start = possible[0][0].after(seconds)
        assert before.load(wanted, request) == possible[0]


def test_the_same_model_twice_changes_nothing() -> None:
    once, _unused = server(24, 24).load(scheduler_model_of("llama3.2_1b"))
    twice, outcome = once.load(scheduler_model_of("llama3.2_1b"))
    assert outcome.reused
    assert twice.free_bytes() == once.free_bytes()


def scheduler_model_of(name: str) -> SchedulerModel:
    return scheduler_model(shape(name))


def test_of_a_load_that_nothing_is_told_of_nothing_has_become() -> None:
    told = {name: value for name, value in vars(LoadOutcome("a")).items() if value}
    assert told == {"model": "a", "memory": ModelMemory()}
    assert ModelMemory().gpu_bytes == ModelMemory().host.total_bytes == 0
