# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of what predicting tokens ahead takes, made of what the probe says."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

Program = Callable[[str], ModuleType]

MIB = 1 << 20


def devices(*allocated_mib: float) -> list[dict[str, Any]]:
    return [{"allocated": int(one * MIB)} for one in allocated_mib]


def test_a_row_for_each_gpu(program: Program) -> None:
    ahead, probe = program("ahead"), program("probe")
    header = {"name": "m", "metadata": {"general.architecture": "qwen35"}}
    loaded = probe.Loaded(True, {"before": devices(0, 0), "model": devices(10, 20)})
    outcome = probe.Outcome(
        "ok",
        {
            "before": devices(10, 20),
            "context": devices(19, 24),
            "prediction": devices(19, 31),
            "predicted": devices(23, 31),
            "log": "llama_kv_cache: CUDA0 KV buffer size = 4.00 MiB\nllama_memory_recurrent: CUDA1 RS buffer size = 1.00 MiB",
            "prediction_log": "llama_kv_cache: CUDA1 KV buffer size = 2.00 MiB\n"
            "sched_reserve: CUDA_Host compute buffer size = 6.00 MiB",
        },
    )
    first, second = ahead.rows_of("v0.5.0", header, probe.Point(4096, 1), 4, loaded, outcome)
    assert (first.device, first.model_mib, first.kv_mib, first.kv_rs_mib, first.compute_mib) == (0, 10, 4, 0, 5)
    assert (first.second_kv_mib, first.second_compute_mib, first.grown_mib) == (0, 0, 4)
    assert (second.device, second.gpus, second.kv_rs_mib, second.compute_mib) == (1, 2, 1, 3)
    assert (second.second_kv_mib, second.second_compute_mib, second.second_host_mib) == (2, 5, 6)


def test_each_run_is_made_with_and_without_flash_attention(program: Program) -> None:
    ahead = program("ahead")
    assert {(point.cache_type, point.flash_attention) for point in ahead.points((1,))} == set(ahead.KINDS)
    assert {point.parallel for point in ahead.points((1, 4))} == {1, 4}
