# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engine's log says becomes a row with the sizes, layers and flags of the tables."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

MIB = 1 << 20

Program = Callable[[str], ModuleType]

MODEL_LOG = """load_tensors: layer   0 assigned to device CUDA0, is_swa = 1
load_tensors: layer   1 assigned to device CUDA1, is_swa = 0
load_tensors: layer   2 assigned to device CUDA1, is_swa = 0
load_tensors:   CPU_Mapped model buffer size =   281.81 MiB
load_tensors:        CUDA0 model buffer size =  100.00 MiB
"""
CONTEXT_LOG = """llama_context:  CUDA_Host  output buffer size =     1.47 MiB
llama_kv_cache_iswa: creating non-SWA KV cache, size = 4096 cells
llama_kv_cache:      CUDA1 KV buffer size =   192.00 MiB
llama_kv_cache_iswa: creating     SWA KV cache, size = 1024 cells
llama_kv_cache:      CUDA0 KV buffer size =   120.00 MiB
llama_memory_recurrent:      CUDA0 RS buffer size =    55.37 MiB
llama_context: pipeline parallelism enabled
resolve_fused_ops: Flash Attention enabled
sched_reserve:      CUDA0 compute buffer size =   112.23 MiB
sched_reserve:      CUDA0 compute buffer size =   113.23 MiB
sched_reserve:      CUDA1 compute buffer size =   300.00 MiB
sched_reserve:  CUDA_Host compute buffer size =    20.05 MiB
sched_reserve: graph: nodes = 1062, splits = 3, input objects = 4, input tensors = 6
~llama_context:      CUDA0 compute buffer size is 113.2290 MiB, matches expectation of 113.2290 MiB
"""


def device(allocated_mib: float) -> dict[str, int]:
    return {"allocated": int(allocated_mib * MIB), "mapped": 0, "peak": 0}


@pytest.fixture
def run(program: Program) -> tuple[Any, ...]:
    """A header, a point, a loaded model and what came of it, on two devices."""
    probe = program("probe")
    header = {
        "name": "m:1b",
        "file_bytes": 7,
        "quantization": "Q4_K_M",
        "metadata": {"general.architecture": "gemma3"},
    }
    loaded = probe.Loaded(
        True,
        {"before": [device(0), device(0)], "model": [device(100), device(200)], "log": MODEL_LOG},
    )
    outcome = probe.Outcome(
        "ok",
        {"before": [device(100), device(200)], "context": [device(500), device(1000)], "cells": 12288},
        CONTEXT_LOG,
    )
    return header, probe.Point(4096, 3, 1024, "q8_0", "auto"), loaded, outcome


@pytest.mark.parametrize(
    ("device_and_kind", "mib"),
    [
        (("CUDA1", "full"), 192.0),
        (("CUDA0", "swa"), 120.0),
        (("CUDA0", "rs"), 55.37),
        (("CUDA0", "compute"), 113.229),  # the last reservation, as the end of the context tells it
        (("CUDA1", "compute"), 300.0),
        (("CUDA_Host", "output"), 1.47),
    ],
)
def test_a_size_belongs_to_its_device_and_kind(
    program: Program, device_and_kind: tuple[str, str], mib: float
) -> None:
    assert program("rows").read_log(CONTEXT_LOG).mib[device_and_kind] == mib


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sched_reserve: graph splits = 2", 2),
        ("sched_reserve: graph: nodes = 1062, splits = 3, input objects = 4", 3),
    ],
)
def test_splits_are_read_as_each_release_prints_them(program: Program, line: str, expected: int) -> None:
    assert program("rows").read_log(line).splits == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("llama_context: Flash Attention was auto, set to enabled", True),
        ("llama_context: Flash Attention was auto, set to disabled", False),
        ("resolve_fused_ops: Flash Attention enabled", True),
        ("llama_context: flash_attn            = disabled", False),
        ("llama_context: flash_attn            = enabled", True),
    ],
)
def test_flash_attention_is_read_as_it_was_resolved(program: Program, line: str, expected: bool) -> None:
    assert program("rows").read_log(line).has_flash_attention is expected


def test_memory_of_the_host_is_what_lies_on_no_device(program: Program) -> None:
    assert program("rows").read_log(MODEL_LOG).on_host("model") == 281.81
    assert program("rows").read_log(CONTEXT_LOG).on_host("compute") == 20.05


def test_a_row_of_one_gpu(program: Program, run: tuple[Any, ...]) -> None:
    row = program("rows").one_gpu_row(*run)
    assert row == {
        "model": "m:1b", "arch": "gemma3", "quant": "Q4_K_M", "file_bytes": 7, "ctx": 4096, "parallel": 3,
        "kv_type": "q8_0", "fa": "auto", "ubatch": 1024, "backend": "cuda", "status": "ok", "error": "",
        "fa_resolved": 1, "n_ctx_alloc": 12288, "model_mib": 100.0, "model_host_mib": 281.81, "kv_full_mib": 0.0,
        "kv_swa_mib": 120.0, "kv_rs_mib": 55.37, "kv_mib": 286.771, "compute_mib": 113.229,
        "compute_host_mib": 20.05, "output_mib": 1.47, "total_gpu_mib": 500.0, "total_host_mib": 303.33,
        "graph_splits": 3,
    }  # fmt: skip


def test_rows_of_several_gpus_have_the_layers_of_each(program: Program, run: tuple[Any, ...]) -> None:
    first, second = program("rows").several_gpus_rows(*run, {"mode": "default", "gpu_mem_gib": "24+24"})
    of_first = {name: first[name] for name in ("device", "layers", "layer_first", "layer_last", "swa_layers", "has_output")}
    of_second = {name: second[name] for name in of_first}
    assert of_first == {
        "device": 0, "layers": 1, "layer_first": 0, "layer_last": 0, "swa_layers": 1, "has_output": 0,
    }  # fmt: skip
    assert of_second == {
        "device": 1, "layers": 1, "layer_first": 1, "layer_last": 1, "swa_layers": 0, "has_output": 1,
    }  # fmt: skip
    assert (first["total_mib"], second["total_mib"]) == (500.0, 1000.0)
    assert (first["compute_mib"], second["compute_mib"]) == (113.229, 300.0)
    assert (first["pipeline"], first["n_copies"], first["gpu_mem_gib"]) == (1, 4, "24+24")


@pytest.mark.parametrize("status", ["fail", "crash", "load"])
def test_a_run_that_did_not_start_has_its_complaint_and_no_sizes(
    program: Program, run: tuple[Any, ...], status: str
) -> None:
    header, point, loaded, _unused = run
    outcome = program("probe").Outcome(status, error="out of luck")
    row = program("rows").one_gpu_row(header, point, loaded, outcome)
    assert (row["status"], row["error"], "total_gpu_mib" in row) == (status, "out of luck", False)
    (row,) = program("rows").several_gpus_rows(header, point, loaded, outcome, {"mode": "default"})
    assert (row["status"], row["error"], "total_mib" in row) == (status, "out of luck", False)
