# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the engine starts and then aborts at a long prompt, what we predict does not fit, and no plan is called safe."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import accuracy
import pools
import probe
import pytest
import rows
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import Backend
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import WantedModel

Run = Callable[..., Any]

MIB = 1 << 20
# Measured in test_engine.py: with the first the model loads and aborts, with the second it runs.
ABORTS_MIB, RUNS_MIB = 5320, 5352
# Of the simulated card, which is of compute capability 8.6.
BACKEND = Backend(workspace_bytes=4 * MIB)


def header(model: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(probe.header_path(model).read_text())
    return read


def test_what_aborts_is_predicted_not_to_fit_although_its_buffers_do(engine: Any) -> None:
    build = accuracy.parse_build(engine.release)
    shape = shape_from_header(header("llama3.1:8b"), name="llama3.1:8b")
    (gpu,) = estimate(shape, LoadSettings(4096, 1, 512, "f16", "off", build, BACKEND)).gpus
    assert gpu.buffers_bytes < ABORTS_MIB * MIB < gpu.buffers_bytes + gpu.pool_bytes
    assert gpu.buffers_bytes + gpu.pool_bytes < (RUNS_MIB + 16) * MIB


@pytest.mark.parametrize("model", ["llama3.1:8b", "gemma3:4b", "qwen3:4b"])
@pytest.mark.parametrize(("context", "ubatch"), [(4096, 512), (4096, 2048), (8192, 1024)])
def test_the_pool_without_flash_attention_is_predicted_to_five_percent(
    engine: Any, run: Run, model: str, context: int, ubatch: int
) -> None:
    _unused, (outcome,) = run(model, [probe.Device()], [pools.full_context(context, 1, ubatch, "f16", "off")])
    measured_mib = pools.beyond_buffers(outcome.lines, "steps")
    settings = LoadSettings(
        context, 1, ubatch, "f16", "off", accuracy.parse_build(engine.release), BACKEND
    )
    (gpu,) = estimate(shape_from_header(header(model), name=model), settings).gpus
    assert gpu.pool_bytes / rows.MIB == pytest.approx(measured_mib, rel=0.05, abs=4)


@pytest.mark.parametrize("model", ["llama3.1:8b", "gpt-oss:20b", "gemma3:4b", "granite4:tiny-h"])
@pytest.mark.parametrize("ubatch", [512, 2048])
def test_the_pool_with_flash_attention_is_within_its_bound(
    engine: Any, run: Run, model: str, ubatch: int
) -> None:
    _unused, (outcome,) = run(model, [probe.Device()], [pools.full_context(4096, 1, ubatch, "f16", "auto")])
    settings = LoadSettings(
        4096, 1, ubatch, "f16", "auto", accuracy.parse_build(engine.release), BACKEND
    )
    (gpu,) = estimate(shape_from_header(header(model), name=model), settings).gpus
    assert pools.beyond_buffers(outcome.lines, "steps") <= gpu.pool_bytes / rows.MIB <= 128


def test_no_plan_puts_it_there() -> None:
    gpu = {"devices": [{
        "name": "Simulated", "compute_capability": "8.6", "memory_total_bytes": 8192 * MIB,
        "memory_free_bytes": ABORTS_MIB * MIB,
    }], "system_memory_total_bytes": 64 << 30}  # fmt: skip
    model = {"name": "llama3.1:8b", "header": header("llama3.1:8b")}
    wanted = [WantedModel("llama3.1:8b", requests=1, context_length=4096)]
    with pytest.raises(ValueError, match=r"llama3\.1:8b does not lie wholly in GPU memory"):
        plan_host(gpu=gpu, models=[model], wanted=wanted, version="0.33.0")
