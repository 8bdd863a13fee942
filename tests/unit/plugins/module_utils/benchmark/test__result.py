# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From measurements to the result that is kept, and to the page."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._conditions import Conditions, Gpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._measured import measured_parallel
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._page import benchmark_report
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._result import (
    Rules,
    for_any_such_host,
    result_of,
)

MIB = 1 << 20
CONDITIONS = Conditions((Gpu("L4", "GPU-1"),), "570.1", "0.33.0", {"m": "sha256-aa"}, 4096, "f16")


def level(concurrency, rate, **change):
    return {
        "concurrency": concurrency,
        "requests": 8,
        "failed": 0,
        "busy": 0,
        "tokens_per_second": rate,
        "spread": 0.01,
        "latency_seconds": {"p50": 1, "p95": 2, "p99": 3},
        **change,
    }


def measurement(parallel, rate, name="m", problems=(), measured=960, **change):
    memory = {
        "reported_bytes": 800 * MIB,
        "logged": {"total_bytes": 700 * MIB, "compute_bytes": 90 * MIB},
        "measured_bytes": measured * MIB,
    }
    levels = [level(clients, rate / parallel * clients, **change) for clients in range(1, parallel + 1)]
    model = {"name": name, "levels": levels, "memory": memory, "problems": list(problems)}
    return {"parallel": parallel, "models": [model], "problems": []}


def plan(parallel):
    share = {"total_bytes": 1000 * MIB, "compute_bytes": 100 * MIB, "projector_bytes": 0, "projector_compute_bytes": 0}
    model = {"name": "m", "context_length": 4096, "num_parallel": parallel, "batch": 512, "gpus": [share]}
    return {"num_parallel": parallel, "models": [model], "environment": {"OLLAMA_NUM_PARALLEL": parallel}}


def made(measurements, **change):
    return result_of(
        **{
            "measured_at": "2026-01-01T00:00:00Z",
            "plans": [plan(parallel) for parallel in range(1, 9)],
            "measurements": measurements,
            "skipped": [{"parallel": 16, "reason": "too large"}],
            "conditions": CONDITIONS,
            "workload": {"rounds": 3},
            "rules": Rules(),
            **change,
        }
    )


def test_a_result_holds_knee_curve_memory_and_conditions_and_is_understood_by_a_plan():
    found = made([measurement(1, 40), measurement(2, 78), measurement(4, 80)])
    assert found["knee"]["parallel"] == 2
    assert [point["tokens_per_second"] for point in found["models"][0]["points"]] == [40, 78, 80]
    assert found["correction"] == {"cuda_context_bytes": 260 * MIB, "compute_excess_bytes": 0}
    assert found["warnings"] == []
    kept = json.loads(json.dumps(found))
    assert measured_parallel(kept, CONDITIONS).parallel == 2


def test_problems_failures_and_missing_levels_do_not_count():
    found = made(
        [
            measurement(1, 40),
            measurement(2, 80, problems=["it lies partly on the CPU"]),
            measurement(3, 120, failed=1),
            {**measurement(4, 160), "models": [{**measurement(3, 160)["models"][0], "problems": []}]},
        ]
    )
    reasons = [point["unusable"] for point in found["models"][0]["points"]]
    assert reasons == [
        "",
        "it lies partly on the CPU",
        "1 of 8 requests failed",
        "it was not measured with as many requests as slots",
    ]
    assert found["knee"]["parallel"] == 1
    assert "m at 2 at once: it lies partly on the CPU" in found["warnings"]


def test_memory_far_from_the_prediction_is_a_warning_with_all_inputs():
    (warning,) = made([measurement(2, 80, measured=1200)])["warnings"]
    for part in (
        "+20.0%",
        "sha256-aa",
        "context 4096",
        "2 slots",
        "batch 512",
        "f16",
        "0.33.0",
        "570.1",
        "L4",
    ):
        assert part in warning


def test_a_latency_bound_is_kept():
    found = made([measurement(1, 40), measurement(2, 80)], rules=Rules(latency_bound_s=1.0))
    assert found["knee"]["parallel"] is None


def test_nothing_measured_has_no_knee():
    assert made([])["knee"]["parallel"] is None


def test_a_result_for_a_kind_of_host_names_no_card():
    found = for_any_such_host(made([measurement(1, 40)]))
    assert found["conditions"]["gpus"] == [{"name": "L4", "uuid": None}]


def test_what_is_not_in_the_form_is_refused():
    with pytest.raises(ValueError, match="not in the form of ollama_benchmark"):
        made([{"parallel": 1}])


def test_the_page_s_data_hold_two_curves_of_each_model():
    report = benchmark_report({"gpu02": made([measurement(1, 40), measurement(2, 80)])}, "now")
    (host,) = report["hosts"]
    assert host["name"] == "gpu02"
    assert [chart["unit"] for chart in host["models"][0]["charts"]] == [
        "tokens/s, all requests together",
        "s, 95 % of the requests",
    ]
    assert host["models"][0]["charts"][0]["knee_x"] == host["models"][0]["charts"][0]["points"][1]["x"]


def test_one_host_whose_result_is_none_costs_the_others_nothing():
    report = benchmark_report({"gpu02": {}, "gpu03": made([measurement(1, 40)])}, "now")
    assert [host["name"] for host in report["hosts"]] == ["gpu03"]
    (left_out,) = report["left_out"]
    assert left_out["name"] == "gpu02"
    assert left_out["reason"].startswith("its result is not in the form of role ollama_benchmark: KeyError")
