# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of public reports that do not run as they were asked to: what a plan says of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, WantedModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, header

GIB = 1 << 30
MIB = 1 << 20
L4 = {"name": "NVIDIA L4", "compute_capability": "8.9", "memory_total_bytes": 23034 * MIB}
ONE_SLOT = "qwen3.6:27b serves one request at a time: Ollama gives its family one slot"


def installed(*others: str) -> list[dict[str, Any]]:
    one = {"name": "qwen3.6:27b", "header": header("qwen3.5:9b"), "family": "qwen35"}
    return [one, *({"name": name, "header": header(name)} for name in others)]


# Sources: ollama issues 17556, 14510, 16796, 18214.
@pytest.mark.parametrize(
    ("others", "wanted", "policy", "parallel", "is_said"),
    [
        pytest.param((), [WantedModel("qwen3.6:27b", requests=4)], {}, 1, True, id="asked for four"),
        pytest.param(
            (),
            [WantedModel("qwen3.6:27b", requests=4)],
            {"num_parallel": 4, "context_length": 8192, "kv_cache_types": ("q8_0",)},
            4,
            True,
            id="the operator's own four",
        ),
        pytest.param((), [], {}, 1, True, id="the usual four"),
        pytest.param((), [], {"requests": 1}, 1, False, id="one is enough"),
        pytest.param((), [WantedModel("qwen3.6:27b", requests=1)], {}, 1, False, id="asked for one"),
        pytest.param(
            ("llama3.1:8b",),
            [WantedModel("qwen3.6:27b", requests=4), WantedModel("llama3.1:8b", requests=4)],
            {},
            4,
            True,
            id="beside one with slots",
        ),
    ],
)
def test_a_family_with_one_slot_is_named_wherever_more_is_asked_for(
    others: tuple[str, ...], wanted: list[WantedModel], policy: dict[str, Any], parallel: int, is_said: bool
) -> None:
    plan = plan_host(
        gpu={"system_memory_total_bytes": 64 * GIB, "devices": [L4]},
        models=installed(*others),
        wanted=wanted,
        policy=Policy(**policy),
        version="0.32.1",
    )
    assert plan.num_parallel == parallel
    said = [warning for warning in plan.warnings if warning.startswith(ONE_SLOT)]
    assert bool(said) is is_said
    assert all("run a second instance of Ollama" in warning for warning in said)
    if is_said and parallel == 1:
        assert plan.reasons[0] == f"OLLAMA_NUM_PARALLEL=1: {ONE_SLOT}."


MTP = json.loads((DATA / "ahead" / "qwen3.5_9b-mtp.json").read_text())
RTX_3090 = {"name": "RTX 3090", "compute_capability": "8.6", "memory_total_bytes": 24576 * MIB}


# Sources: ollama issues 17482, 17144, 16031.
@pytest.mark.parametrize(
    ("parameters", "version", "basis", "is_warned"),
    [
        ({}, "0.33.0", "exact", True),
        ({"draft_num_predict": 4}, "0.33.0", "exact", False),
        ({"draft_num_predict": 4}, "0.31.0", "estimate", False),
        ({}, "0.24.0", "estimate", False),
    ],
)
def test_a_second_context_for_tokens_ahead_is_planned_or_warned_of(
    parameters: dict[str, int], version: str, basis: str, is_warned: bool
) -> None:
    plan = plan_host(
        gpu={"system_memory_total_bytes": 64 * GIB, "devices": [RTX_3090]},
        models=[{"name": "qwen3.5:9b-mtp", "header": MTP, "parameters": parameters}],
        wanted=[WantedModel("qwen3.5:9b-mtp", requests=1)],
        version=version,
    )
    assert (plan.safe, plan.basis) == (True, basis)
    warned = [warning for warning in plan.warnings if "does not set draft_num_predict" in warning]
    assert len(warned) == is_warned
    counted = [warning for warning in plan.warnings if "predicts 4 tokens ahead" in warning]
    assert len(counted) == (bool(parameters) and basis == "estimate")


QWEN_27B = json.loads((DATA / "newer" / "headers" / "qwen3.6_27b-mtp.json").read_text())
RTX_5090 = {
    "name": "RTX 5090",
    "compute_capability": "12.0",
    "memory_total_bytes": 32607 * MIB,
    "memory_free_bytes": 31500 * MIB,
}


# Source: ollama issue 18186: with MTP of 2 a context of 200000 puts 19 % on the CPU, without it all of it lies on the GPU.
@pytest.mark.parametrize(("ahead", "is_whole"), [(0, True), (2, False)])
def test_layers_that_predict_ahead_cost_layers_where_memory_is_short(ahead: int, is_whole: bool) -> None:
    def planned() -> Any:
        return plan_host(
            gpu={"system_memory_total_bytes": 64 * GIB, "devices": [RTX_5090]},
            models=[{"name": "qwen3.8:27b", "header": QWEN_27B, "parameters": {"draft_num_predict": ahead}}],
            wanted=[WantedModel("qwen3.8:27b", requests=1)],
            policy=Policy(context_length=200000),
            version="0.33.1",
        )

    if is_whole:
        assert planned().safe
    else:
        with pytest.raises(ValueError, match="the engine moves layers to the CPU"):
            planned()


# Source: ollama issue 17482, of a build that nobody has measured here: context 411, compute 170, and 581.77 MiB for the second.
def test_a_reported_load_with_mtp_is_within_the_bound() -> None:
    shape = shape_from_header(QWEN_27B, name="qwen3.6:27b", parameters={"draft_num_predict": 1})
    memory = estimate(shape, LoadSettings(4096, 1, 512, build=parse_build("b9888")))
    (gpu,) = memory.gpus
    assert memory.basis == "estimate"
    assert gpu.kv_cache.total_bytes + gpu.compute_bytes >= (411 + 170 + 581.77) * MIB


VISION = {"name": "gemma3:4b", "header": header("gemma3:4b"), "projector_bytes": 933 * MIB}
W7500 = {"name": "Radeon Pro W7500", "vendor": "amd", "gfx_target": "gfx1102", "memory_total_bytes": 8176 * MIB}
GB10 = {"name": "NVIDIA GB10", "compute_capability": "12.1", "integrated": True, "unified_memory": True}
IMAGES_BY_CPU = "images are read by the CPU"


# Sources: ollama issues 16496 (a card of 8 GB) and 16419 (a GB10).
@pytest.mark.parametrize(
    ("gpu", "version", "is_warned"),
    [
        (W7500, "0.30.3", True),
        (W7500, "0.30.11", False),
        ({**W7500, "memory_total_bytes": 10240 * MIB}, "0.30.10", True),
        ({**W7500, "memory_total_bytes": 16368 * MIB}, "0.30.3", False),
        ({**GB10, "memory_total_bytes": 120 * GIB}, "0.30.0", True),
        ({**GB10, "memory_total_bytes": 120 * GIB}, "0.31.1", True),
        ({**GB10, "memory_total_bytes": 120 * GIB}, "0.31.2", False),
    ],
)
def test_a_projector_that_the_version_keeps_off_a_gpu_is_no_spill_and_is_told(
    gpu: dict[str, Any], version: str, is_warned: bool
) -> None:
    plan = plan_host(
        gpu={"driver_version": "580.95.05", "system_memory_total_bytes": 128 * GIB, "devices": [gpu]},
        models=[VISION],
        wanted=[WantedModel("gemma3:4b", requests=1)],
        version=version,
    )
    assert (plan.safe, plan.placement) == (True, "gpu")
    assert (sum(one.projector_bytes for one in plan.models[0].gpus) == 0) is is_warned
    said = [warning for warning in plan.warnings if IMAGES_BY_CPU in warning]
    assert len(said) == is_warned
