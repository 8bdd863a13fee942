# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of a plan."""

from __future__ import annotations

import json

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import (
    GpuShare,
    Limit,
    Plan,
    PlannedGpu,
    PlannedModel,
)

SHARE = GpuShare(0, "GPU-0", 33, 1, 20, 300, 4000, 50000, 600000)


def plan() -> Plan:
    return Plan(
        environment={"OLLAMA_NUM_PARALLEL": "2"},
        safe=True,
        basis="exact",
        placement="gpu",
        version="0.33.0",
        num_parallel=2,
        max_loaded_models=1,
        context_length=4096,
        kv_cache_type="f16",
        spread=False,
        load_order=("a",),
        order_matters=False,
        models=(PlannedModel("a", True, gpus=(SHARE,)), PlannedModel("b", False)),
        gpus=(PlannedGpu(0, "GPU-0", "L4", 10, 1, 2, 7, 1, 0),),
        limits=(Limit("parallel", 3, False, None, "why"),),
        reasons=("because",),
        warnings=(),
    )


def test_a_share_is_the_sum_of_its_parts():
    assert SHARE.total_bytes == 654321


def test_a_plan_is_plain_data_with_the_sums():
    plain = plan().to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["load_order"] == ["a"]
    assert plain["models"][0]["gpus"][0]["total_bytes"] == 654321
    # Whatever is not planned takes nothing.
    unplanned = {key: value for key, value in plain["models"][1].items() if value}
    assert unplanned == {"name": "b"}
