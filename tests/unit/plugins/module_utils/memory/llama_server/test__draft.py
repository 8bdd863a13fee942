# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What predicting ahead takes, held against what the real engine allocated for it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    LoadSettings,
    first_context,
    host_estimate,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import EngineLoad, Launch
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._draft import (
    with_second_context,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerModel,
    scheduler_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, shape

MIB = 1 << 20
GIB = 1 << 30
AHEAD = DATA / "ahead"
ROWS = [row for file in sorted(AHEAD.glob("*.csv")) for row in csv.DictReader(file.open())]
HEADERS = {header["name"]: header for header in map(json.loads, (file.read_text() for file in AHEAD.glob("*.json")))}
QWEN = "qwen3.5:9b-mtp"


def model(ahead: int, name: str = QWEN, **more: Any) -> SchedulerModel:
    header = {**HEADERS[name], "metadata": {**HEADERS[name]["metadata"], **more}}
    parameters = {"draft_num_predict": ahead} if ahead else {}
    return scheduler_model(shape_from_header(header, name="m", parameters=parameters))


def load(
    ahead: int | SchedulerModel, free: tuple[int, ...] = (80 * GIB,), version: str = "0.33.0", **values: Any
) -> EngineLoad:
    plain = {
        "context_length": 4096,
        "parallel": 1,
        "batch": 512,
        "kv_cache_type": "f16",
        "flash_attention": "auto",
        "fit": True,
    }
    launch = Launch(
        **{**plain, **values},
        num_gpu=-1,
        fit_targets_bytes=(1024 * MIB,) * len(free),
        projector_on_gpu=True,
        version=version,
    )
    return MemoryEngine().start(model(ahead) if isinstance(ahead, int) else ahead, launch, free)


def of_row(row: dict[str, str]) -> EngineLoad:
    return load(
        model(int(row["draft_num_predict"]), row["model"]),
        (80 * GIB,) * int(row["gpus"]),
        context_length=int(row["ctx"]),
        parallel=int(row["parallel"]),
        batch=int(row["ubatch"]),
        kv_cache_type=row["kv_type"],
        flash_attention=row["fa"],
        build=parse_build(row["engine"]),
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(list(row.values())[:10]))
def test_both_contexts_are_the_engines(row: dict[str, str]) -> None:
    memory = of_row(row).memory
    gpu = memory.gpus[int(row["device"])]
    assert gpu.weights_bytes / MIB == pytest.approx(float(row["model_mib"]), abs=0.011)
    assert gpu.kv_cache.recurrent_bytes / MIB == pytest.approx(float(row["kv_rs_mib"]), abs=0.011)
    caches = float(row["kv_full_mib"]) + float(row["second_kv_mib"])
    assert gpu.kv_cache.full_attention_bytes / MIB == pytest.approx(caches, abs=0.011)
    buffers = float(row["compute_mib"]) + float(row["second_compute_mib"])
    assert gpu.compute_bytes / MIB == pytest.approx(buffers, abs=0.011)
    assert float(row["grown_mib"]) * MIB <= gpu.pool_bytes
    assert memory.basis == "exact"


def test_its_cache_is_of_half_precision_whatever_the_models_is() -> None:
    halves, quantised = load(1).memory.gpus[0], load(1, kv_cache_type="q8_0").memory.gpus[0]
    (own_halves,), (own_quantised,) = load(0).memory.gpus, load(0, kv_cache_type="q8_0").memory.gpus
    added = [one.kv_cache.full_attention_bytes - own.kv_cache.full_attention_bytes for one, own in (
        (halves, own_halves), (quantised, own_quantised))]  # fmt: skip
    assert added == [16 * MIB, 16 * MIB]


# A graph that is not known: that of glm-4.7 was measured, and its second compute buffer was 1.08 times the first.
def test_where_the_graph_is_not_known_it_is_a_bound_with_a_note() -> None:
    shape_of = model(4).shape
    assert shape_of is not None
    other = scheduler_model(replace(shape_of, architecture="qwen3next"))
    exact, bound = load(4).memory, load(other).memory
    assert (exact.basis, exact.note, bound.basis) == ("exact", "", "estimate")
    assert "predicts 4 tokens ahead (draft_num_predict): its layers" in bound.note
    assert bound.gpus[0].compute_bytes > exact.gpus[0].compute_bytes
    assert bound.gpus[0].kv_cache.full_attention_bytes == 9 * (exact.gpus[0].kv_cache.full_attention_bytes // 9) * 16 // 9


# Ollama issue 17482: 581.77 MiB for the second context at 4096 tokens and a batch of 512; logits of a whole batch are in it.
def test_a_build_that_was_not_measured_may_keep_the_logits_of_a_whole_batch() -> None:
    loads = [load(ahead, version="0.31.0", build=parse_build("b9840")) for ahead in (4, 0)]
    (ahead,), (plain,) = (one.memory.gpus for one in loads)
    states = 4 * plain.kv_cache.recurrent_bytes
    assert ahead.total_bytes - plain.total_bytes - states - (ahead.weights_bytes - plain.weights_bytes) >= 581.77 * MIB
    assert loads[0].memory.basis == "estimate"


# llama.cpp common/fit.cpp: the second context competes for the same memory (b11218); before, it raised what is left free.
def test_layers_are_fitted_to_what_it_leaves_free() -> None:
    def enough(ahead: int) -> int:
        """States are there already while the engine looks at what is free."""
        gpu = load(ahead).memory.gpus[0]
        return gpu.total_bytes + gpu.kv_cache.recurrent_bytes + 1024 * MIB

    assert enough(4) - enough(0) > 600 * MIB
    for ahead in (0, 4):
        assert [load(ahead, (enough(ahead) + more,)).spilled for more in (0, -MIB)] == [False, True]


def test_without_fit_too_little_memory_is_a_failure() -> None:
    needs = load(0).used_bytes[0] + 10 * MIB
    assert load(0, (needs,), fit=False).failure == ""
    failed = load(4, (needs,), fit=False)
    assert failed.is_out_of_memory
    assert "predicts tokens ahead" in failed.failure


def test_of_several_gpus_the_last_one_holds_the_second_context() -> None:
    ahead, plain = load(1, (12 * GIB, 12 * GIB)).memory, load(0, (12 * GIB, 12 * GIB)).memory
    grown = [one.total_bytes - other.total_bytes for one, other in zip(ahead.gpus, plain.gpus)]
    assert grown[0] == plain.gpus[0].kv_cache.recurrent_bytes
    assert grown[1] > grown[0] + 100 * MIB


def test_without_a_gpu_it_lies_in_system_memory() -> None:
    ahead, plain = load(1, ()).memory.host, load(0, ()).memory.host
    assert ahead.total_bytes - plain.total_bytes > 100 * MIB
    assert ahead.weights_bytes == plain.weights_bytes


def test_a_draft_model_has_a_cache_and_buffers_of_its_own() -> None:
    launch = Launch(4096, 1, 512, "f16", "auto", -1, True, (1024 * MIB,), True, "0.33.0")
    drafted = scheduler_model(replace(shape("llama3.1:8b"), parameters={"draft_bytes": 700 * MIB}))
    ahead = MemoryEngine().start(drafted, launch, (80 * GIB,)).memory
    plain = MemoryEngine().start(scheduler_model(shape("llama3.1:8b")), launch, (80 * GIB,)).memory
    grown = ahead.gpu_bytes - plain.gpu_bytes
    assert grown > plain.gpus[0].kv_cache.total_bytes + plain.gpus[0].compute_bytes
    assert ahead.gpus[0].kv_cache.total_bytes == 2 * plain.gpus[0].kv_cache.total_bytes
    assert (
        "predicts 4 tokens ahead (draft_num_predict): its draft model runs in a second context" in ahead.note
    )


def test_before_0_30_nothing_is_predicted_ahead() -> None:
    assert load(4, version="0.24.0").memory == load(0, version="0.24.0").memory


DRAFTED = replace(shape("llama3.1:8b"), parameters={"draft_bytes": 700 * MIB})
VOCABULARY, WIDTH = 128256, 4096


@pytest.mark.parametrize(
    ("build_name", "slots", "logits_bytes"),
    [
        ("b10488", 1, 0),
        ("b10488", 3, 0),
        # One that was not measured may reserve logits of the whole batch.
        ("b9840", 3, 4 * VOCABULARY * 512),
    ],
)
def test_the_bound_of_a_second_context_adds_up(build_name: str, slots: int, logits_bytes: int) -> None:
    settings = LoadSettings(4096, slots, build=parse_build(build_name))
    first = first_context(DRAFTED, settings)
    (before,), (after,) = first.gpus, with_second_context(DRAFTED, settings, first).gpus
    # Four tokens ahead and the one after them, of each slot, twice; a quarter more than the first compute buffer.
    outputs = 2 * 4 * VOCABULARY * slots * 5
    assert after.compute_bytes - before.compute_bytes == before.compute_bytes * 5 // 4 + outputs + logits_bytes
    assert after.kv_cache.total_bytes == 2 * before.kv_cache.total_bytes
    assert (after.weights_bytes, after.pool_bytes) == (before.weights_bytes, before.pool_bytes)


def test_the_first_contexts_results_grow_on_the_host() -> None:
    settings = LoadSettings(4096, 3, 256)
    first = first_context(DRAFTED, settings)
    grown = with_second_context(DRAFTED, settings, first).host
    # Logits of the tokens ahead too, and for each token of a batch what the second context is handed.
    assert grown.output_bytes - first.host.output_bytes == 4 * VOCABULARY * 3 * 5 + 4 * WIDTH * 256
    assert (grown.compute_bytes, grown.kv_cache) == (first.host.compute_bytes, first.host.kv_cache)


def test_on_a_cpu_the_host_has_the_second_cache_and_buffer() -> None:
    settings = LoadSettings(4096, 1)
    first = host_estimate(DRAFTED, settings)
    grown = with_second_context(DRAFTED, settings, first)
    outputs = 2 * 4 * VOCABULARY * 5
    assert grown.host.kv_cache.total_bytes == 2 * first.host.kv_cache.total_bytes
    assert grown.host.compute_bytes - first.host.compute_bytes == first.host.compute_bytes * 5 // 4 + outputs
    assert (grown.gpus, grown.host.weights_bytes) == ((), first.host.weights_bytes)
    second_mib = (first.host.kv_cache.total_bytes + first.host.compute_bytes * 5 // 4 + outputs) // MIB
    assert grown.note.endswith(f"counted with {second_mib} MiB at the most")
    assert (grown.basis, first.basis) == ("estimate", "exact")


def test_the_host_hands_a_second_context_what_its_graph_reads() -> None:
    shape_of = model(4).shape
    assert shape_of is not None
    settings = LoadSettings(4096, 3)
    ahead, plain = with_second_context(shape_of, settings, first_context(shape_of, settings)), first_context(shape_of, settings)
    tokens, width = 513, shape_of.embedding_length
    # Embeddings beside what the first context made; four positions of each token; a mask in half precision; where keys
    # and values go; which rows are wanted, of each slot one and four ahead.
    inputs = 2 * 4 * width * tokens + 4 * 4 * tokens + 2 * 4096 * tokens + 2 * 8 * tokens + 4 * 3 * 5
    assert abs(ahead.host.compute_bytes - plain.host.compute_bytes - inputs) <= 4 * 3 * 4


def test_a_load_that_has_just_enough_for_it_does_not_fail() -> None:
    needs = load(4, fit=False).used_bytes[0]
    enough, short = load(4, (needs,), fit=False), load(4, (needs - 1,), fit=False)
    assert enough.failure == ""
    assert enough.whole_bytes == enough.used_bytes[0] == needs
    assert f"for which {(needs - 1) // MIB} MiB free" in short.failure
    assert (short.layers, short.used_bytes) == (enough.layers, ())
