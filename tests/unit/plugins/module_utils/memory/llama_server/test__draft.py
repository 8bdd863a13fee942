# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What predicting ahead takes, held against what the real engine allocated for it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    LoadSettings,
    estimate,
    first_context,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import EngineLoad, Launch
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerModel,
    scheduler_model,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, shape

MIB = 1 << 20
GIB = 1 << 30
ROWS = list(csv.DictReader((DATA / "ahead" / "qwen3.5_9b-mtp.csv").open()))
HEADER = json.loads((DATA / "ahead" / "qwen3.5_9b-mtp.json").read_text())


def model(ahead: int) -> SchedulerModel:
    parameters = {"draft_num_predict": ahead} if ahead else {}
    return scheduler_model(shape_from_header(HEADER, name="m", parameters=parameters))


def load(
    ahead: int, free: tuple[int, ...] = (80 * GIB,), version: str = "0.33.0", **values: object
) -> EngineLoad:
    plain = {
        "context_length": 4096,
        "parallel": 1,
        "batch": 512,
        "kv_cache_type": "f16",
        "flash_attention": "auto",
    }
    launch = Launch(
        **{**plain, **values},
        num_gpu=-1,
        fit=True,
        fit_targets_bytes=(1024 * MIB,) * len(free),
        projector_on_gpu=True,
        version=version,
    )
    return MemoryEngine().start(model(ahead), launch, free)


def of_row(row: dict[str, str]) -> EngineLoad:
    return load(
        int(row["draft_num_predict"]),
        context_length=int(row["ctx"]),
        parallel=int(row["parallel"]),
        batch=int(row["ubatch"]),
        kv_cache_type=row["kv_type"],
        flash_attention=row["fa"],
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(list(row.values())[:7]))
def test_weights_states_and_caches_are_the_engines_and_buffers_no_less(row: dict[str, str]) -> None:
    (gpu,) = of_row(row).memory.gpus
    assert gpu.weights_bytes / MIB == pytest.approx(float(row["model_mib"]), abs=0.01)
    assert gpu.kv_cache.recurrent_bytes / MIB == pytest.approx(float(row["kv_rs_mib"]), abs=0.01)
    caches = float(row["kv_full_mib"]) + float(row["second_kv_mib"])
    assert gpu.kv_cache.full_attention_bytes / MIB == pytest.approx(caches, abs=0.01)
    buffers = float(row["compute_mib"]) + float(row["second_compute_mib"])
    logits = 4 * 248320 * int(row["ubatch"]) / MIB
    assert buffers + logits <= gpu.compute_bytes / MIB <= 1.26 * buffers + logits + 48


def test_it_is_an_estimate_with_a_note() -> None:
    ahead, plain = load(4), load(0)
    assert (ahead.memory.basis, plain.memory.basis) == ("estimate", "exact")
    assert "predicts 4 tokens ahead (draft_num_predict): its layers" in ahead.memory.note
    assert ahead.whole_bytes - plain.whole_bytes == ahead.memory.gpu_bytes - plain.memory.gpu_bytes > 0


# Ollama issue 17482: 581.77 MiB for the second context at 4096 tokens and a batch of 512.
def test_a_reported_second_context_is_within_the_bound() -> None:
    (ahead,), (plain,) = load(4).memory.gpus, load(0).memory.gpus
    states = 4 * plain.kv_cache.recurrent_bytes
    weights = ahead.weights_bytes - plain.weights_bytes
    assert ahead.total_bytes - plain.total_bytes - states - weights >= 581.77 * MIB


def test_what_is_fitted_is_without_it() -> None:
    shape_of = model(4).shape
    assert shape_of is not None
    settings = LoadSettings(4096, 1, 512)
    whole, first = estimate(shape_of, settings), first_context(shape_of, settings)
    assert first == first_context(model(0).shape or shape_of, settings)
    assert (whole.basis, first.basis) == ("estimate", "exact")
    assert whole.gpu_bytes == load(4).memory.gpu_bytes > first.gpu_bytes


def test_of_several_gpus_the_last_one_holds_the_second_context() -> None:
    ahead, plain = load(1, (12 * GIB, 12 * GIB)).memory, load(0, (12 * GIB, 12 * GIB)).memory
    grown = [one.total_bytes - other.total_bytes for one, other in zip(ahead.gpus, plain.gpus)]
    assert grown[0] == plain.gpus[0].kv_cache.recurrent_bytes
    assert grown[1] > 600 * MIB


def test_without_a_gpu_it_lies_in_system_memory() -> None:
    ahead, plain = load(1, ()).memory.host, load(0, ()).memory.host
    assert ahead.total_bytes - plain.total_bytes > 500 * MIB
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
