# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of a plan."""

from __future__ import annotations

import json
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import (
    GpuShare,
    Limit,
    Plan,
    PlannedGpu,
    PlannedModel,
)

PARTS = {
    "weights_bytes": 1,
    "kv_cache_bytes": 20,
    "compute_bytes": 300,
    "projector_bytes": 4000,
    "projector_compute_bytes": 50000,
    "cuda_context_bytes": 600000,
}
SHARE = GpuShare(**PARTS, index=0, uuid="GPU-0", layers=33)
GPU = PlannedGpu(
    **PARTS,
    index=0,
    uuid="GPU-0",
    name="L4",
    total_bytes=654333,
    others_bytes=5,
    planned_bytes=654321,
    free_bytes=7,
    engine_margin_bytes=1,
    headroom_bytes=0,
)


def plan() -> Plan:
    return Plan(
        environment={"OLLAMA_NUM_PARALLEL": "2"},
        safe=True,
        basis="exact",
        placement="gpu",
        version="0.33.0",
        rules="llama.cpp b10488 (Ollama 0.33.0)",
        num_parallel=2,
        max_loaded_models=1,
        context_length=4096,
        kv_cache_type="f16",
        spread=False,
        load_order=("a",),
        order_matters=False,
        models=(PlannedModel("a", True, gpus=(SHARE,)), PlannedModel("b", False)),
        gpus=(GPU,),
        limits=(Limit("parallel", 3, False, None, "why"),),
        reasons=("because",),
        warnings=(),
    )


def test_a_share_is_the_sum_of_its_parts():
    assert SHARE.total_bytes == 654321
    assert GPU.parts_bytes == 654321
    # What is taken beside it while it computes is no part of it.
    assert (SHARE.pool_bytes, GPU.pool_bytes) == (0, 0)
    assert replace(SHARE, pool_bytes=7).total_bytes == 654321


def test_a_plan_is_plain_data_with_the_sums():
    plain = plan().to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["load_order"] == ["a"]
    assert plain["models"][0]["gpus"][0]["total_bytes"] == 654321
    # What a GPU has is not the sum of what is planned on it.
    assert plain["gpus"][0]["total_bytes"] == 654333
    # Whatever is not planned takes nothing.
    unplanned = {key: value for key, value in plain["models"][1].items() if value}
    assert unplanned == {"name": "b"}
