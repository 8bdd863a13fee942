# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet's report: each host in its state, the worst first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._lines import LINE_CHARACTERS
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import (
    GpuShare,
    Limit,
    Plan,
    PlannedGpu,
    PlannedModel,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import HostData
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import (
    causes_of,
    fleet_report,
    state_lines,
    warning_lines,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._states import STATES

GIB = 1 << 30
NOW = "2026-11-23T05:47:29Z"
IN_SYNC = {
    "in_sync": True,
    "differences": [],
    "conflicts": [],
    "problems": ["no journal"],
    "overrides": ["ours wins"],
}


def plan(safe: bool = True, free: int = 15 * GIB, limits: tuple[Limit, ...] = ()) -> dict[str, Any]:
    parts = (4 * GIB, 2 * GIB, GIB // 2, 0, 0, GIB // 2)
    share = GpuShare(*parts, 0, "GPU-0", 33)
    gpu = PlannedGpu(*parts, 0, "GPU-0", "card", 7 * GIB + free + 2 * GIB, 2 * GIB, 7 * GIB, free, GIB, 0)
    models = (
        PlannedModel("llama3.1:8b", True, 4096, 3, 1024, basis="exact", gpus=(share,)),
        PlannedModel("other:1b", False),
    )
    return Plan(
        environment={"OLLAMA_NUM_PARALLEL": "3"},
        safe=safe,
        basis="exact",
        placement="gpu",
        version="0.33.0",
        rules="llama.cpp b10488 (Ollama 0.33.0)",
        num_parallel=3,
        max_loaded_models=1,
        context_length=4096,
        kv_cache_type="f16",
        spread=False,
        load_order=("llama3.1:8b",),
        order_matters=False,
        models=models,
        gpus=(gpu,),
        limits=limits,
        reasons=("three are enough",),
        warnings=(),
    ).to_dict()


def drifted(count: int = 1) -> dict[str, Any]:
    differences = [
        {"layer": "process", "variable": f"V{number}", "found": "1", "wanted": "3", "message": "m"}
        for number in range(count)
    ]
    return {**IN_SYNC, "in_sync": False, "differences": differences}


FLEET = [
    HostData("planned", plan=plan()),
    HostData("good", plan=plan(), verified=IN_SYNC),
    HostData("unsafe", plan=plan(safe=False), verified=IN_SYNC),
    HostData("stale", plan=plan(), verified=drifted()),
    HostData("blind", plan=plan(), verified=drifted(), unseen=("run as root", "read the journal")),
    HostData("staler", plan=plan(), verified=drifted(2)),
    HostData(
        "broken",
        gpu={"devices": [{"index": 0, "memory_total_bytes": 8 * GIB}]},
        failure="model 'x' is not installed",
    ),
    HostData("gone", unreachable="timed out"),
]


@pytest.fixture
def report() -> dict[str, Any]:
    return fleet_report(FLEET, NOW)


def test_the_worst_hosts_come_first(report: dict[str, Any]) -> None:
    assert [host["name"] for host in report["hosts"]] == [
        "gone", "broken", "blind", "staler", "stale", "unsafe", "good", "planned",
    ]  # fmt: skip


def test_states_are_counted(report: dict[str, Any]) -> None:
    summary = report["summary"]
    assert list(summary["states"]) == list(STATES)
    assert summary["states"] == {
        "unreachable": 1,
        "failed": 1,
        "unknown": 1,
        "drifted": 2,
        "unsafe": 1,
        "in sync": 1,
        "planned": 1,
    }
    assert (summary["hosts"], summary["not_as_planned"], summary["gpus"]) == (8, 5, 7)
    assert summary["mended_by_site"] == 2


def test_memory_is_summed_over_the_fleet(report: dict[str, Any]) -> None:
    assert report["summary"]["gpu_memory_total_bytes"] == 6 * 24 * GIB + 8 * GIB
    assert report["summary"]["gpu_memory_free_bytes"] == 6 * 14 * GIB
    assert "ollama" not in report["summary"]["kinds"]


def test_a_host_shows_its_plan(report: dict[str, Any]) -> None:
    (good,) = (host for host in report["hosts"] if host["name"] == "good")
    assert (good["num_parallel"], good["context_length"], good["max_loaded_models"]) == (3, 4096, 1)
    assert [(model["name"], model["gpu_memory_bytes"]) for model in good["models"]] == [
        ("llama3.1:8b", 7 * GIB)
    ]
    assert (good["gpus"][0]["weights_bytes"], good["gpus"][0]["headroom_bytes"]) == (4 * GIB, GIB)
    assert (good["notes"], good["limit"]) == (["no journal", "ours wins"], "")


def test_the_limit_is_the_first_step_that_is_not_possible() -> None:
    limits = (
        Limit("context_length", 8192, True, GIB, "would fit"),
        Limit("num_parallel", 4, False, GIB, "too large"),
    )
    (host,) = fleet_report([HostData("a", plan=plan(limits=limits))], NOW)["hosts"]
    assert host["limit"] == "too large"


def test_without_such_a_step_the_limit_is_why_the_first_was_not_taken() -> None:
    limits = (
        Limit("parallel", 5, True, GIB, "4 are asked for"),
        Limit("context", 8192, True, GIB, "not asked for"),
    )
    (host,) = fleet_report([HostData("a", plan=plan(limits=limits))], NOW)["hosts"]
    assert host["limit"] == "4 are asked for"


def test_a_plan_that_lacks_headroom_comes_before_one_that_does_not() -> None:
    hosts = [HostData("a", plan=plan(safe=False)), HostData("b", plan=plan(safe=False, free=GIB // 2))]
    assert [host["name"] for host in fleet_report(hosts, NOW)["hosts"]] == ["b", "a"]


def test_an_unreachable_host_is_not_called_drifted() -> None:
    (host,) = fleet_report([HostData("a", plan=plan(), verified=drifted(), unreachable="timed out")], NOW)[
        "hosts"
    ]
    assert (host["state"], host["drift"]) == ("unreachable", [])


def test_the_report_is_plain_json(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report)) == report


def test_the_table_has_a_line_for_each_host_and_the_counts(report: dict[str, Any]) -> None:
    lines = state_lines(report)
    assert lines[0].split() == ["HOST", "STATE", "PARALLEL", "MODELS", "CONTEXT", "WHY"]
    assert lines[1] == "gone     unreachable  -         -       -        timed out"
    assert lines[5] == "stale    drifted      3         1       4096     stale process: V0 1, not 3"
    assert lines[7] == "good     in sync      3         1       4096"
    assert lines[-1] == "1 unreachable, 1 failed, 1 unknown, 2 drifted, 1 unsafe, 1 in sync, 1 planned"


def test_the_table_tells_each_cause_once(report: dict[str, Any]) -> None:
    assert state_lines(report)[4].endswith("  stale process: V0 1, not 3, V1 1, not 3")


def test_the_table_tells_why_a_service_does_not_run() -> None:
    stopped = {"layer": "process", "variable": "", "found": "inactive", "wanted": "active", "message": "m"}
    report = fleet_report([HostData("a", verified={**IN_SYNC, "differences": [stopped]})], NOW)
    assert state_lines(report)[1].endswith("  not running: m")


def test_the_table_shows_a_conflict_that_has_not_struck_yet() -> None:
    conflict = {"variable": "V0", "file": "/x.conf", "line": 1, "message": "/x.conf:1 sets it after ours"}
    report = fleet_report([HostData("a", verified={**IN_SYNC, "conflicts": [conflict]})], NOW)
    assert state_lines(report)[1].endswith("  other file: V0")


def test_an_empty_fleet_has_a_report() -> None:
    report = fleet_report([], NOW)
    assert (report["hosts"], state_lines(report)[-1]) == ([], "no hosts")


def test_what_was_not_seen_is_not_in_sync_and_the_table_says_what(report: dict[str, Any]) -> None:
    blind = next(host for host in report["hosts"] if host["name"] == "blind")
    assert (blind["state"], blind["problem"]) == ("unknown", "run as root; read the journal")
    assert not blind["mended_by_site"]
    assert any(
        line.startswith("blind") and line.endswith("run as root; read the journal") for line in state_lines(report)
    )


def test_a_gpu_that_is_gone_is_drift_although_every_layer_is_as_planned() -> None:
    report = fleet_report([HostData("a", plan=plan(), verified=IN_SYNC, gpus_gone=("RTX (GPU-1)",))], NOW)
    (host,) = report["hosts"]
    assert (host["state"], host["drift"][0]["cause"], host["mended_by_site"]) == (
        "drifted",
        "gpu gone",
        False,
    )
    assert "RTX (GPU-1), which the plan was applied for, is gone" in host["drift"][0]["message"]


NOT_FINITE = {"devices": [{"memory_total_bytes": float("inf"), "memory_free_bytes": 1}]}


@pytest.mark.parametrize(
    "odd",
    [
        {"plan": {"models": []}},
        {"plan": {"gpus": [{}], "models": []}},
        {"plan": "text"},
        {"plan": {**plan(), "limits": [{"step": "parallel"}]}},
        {
            "plan": {
                **plan(),
                "limits": [{"step": "x", "value": 1, "possible": True, "cost_bytes": "y", "reason": ""}],
            }
        },
        {"plan": {**plan(), "num_parallel": float("nan")}},
        {"plan": {**plan(), "version": "\ud800"}},
        {"gpu": NOT_FINITE},
        {"gpu": {"devices": [{"memory_total_bytes": 10**400, "memory_free_bytes": 1}]}},
        {"gpu": {"devices": [{"memory_total_bytes": "x"}]}},
        {"gpu": {"devices": 5}},
        {"verified": {"in_sync": True}},
        {"verified": {**IN_SYNC, "differences": ["x"]}},
        {"verified": {**IN_SYNC, "problems": 3}},
    ],
)
def test_odd_data_of_one_host_cost_that_host_its_row_and_the_others_nothing(odd: Any) -> None:
    report = fleet_report([HostData("good", plan=plan(), verified=IN_SYNC), HostData("odd", **odd)], NOW)
    first, second = report["hosts"]
    assert (first["name"], first["state"]) == ("odd", "failed")
    assert "its data are not in the form of ollama_plan" in first["problem"]
    assert (second["name"], second["state"]) == ("good", "in sync")
    assert json.loads(json.dumps(report, allow_nan=False)) == report


SEEN = {
    "model": "llama3.1:8b",
    "kind": "compute",
    "gpu": 0,
    "parallel": 4,
    "context_length": 8192,
    "basis": "exact",
    "when": "2026-11-28T02:00:00Z",
    "is_beyond": True,
    "is_absurd": False,
    "predicted_bytes": 100,
    "seen_bytes": 150,
    "difference_bytes": 50,
}
DROPPED = {"index": 0, "uuid": "GPU-1", "name": "card", "reason": "too old", "message": "GPU card is not used: too old"}


def test_what_the_server_said_of_its_loads_and_what_runs_today_are_told() -> None:
    history = {"model": "gemma3:4b", "loads": 15, "evicted": 14, "spilled": 0, "failed": 0, "error": "", "at_least": False}
    told = {"seen": [SEEN], "history": [history], "today": {"sentences": ["1 request"]}, "difference": ["4 planned"]}
    (host,) = fleet_report([HostData("a", plan={**plan(), **told})], NOW)["hosts"]
    assert host["seen"][0]["settings"] == "4 x 8192"
    assert host["seen"][0]["difference_bytes"] == 50
    assert (host["history"], host["today"], host["difference"]) == ([history], ["1 request"], ["4 planned"])


def test_a_host_whose_ollama_was_upgraded_says_so_first_and_is_mended_by_the_next_run() -> None:
    upgraded = "Ollama was upgraded from 0.33.0 to 0.34.2 since the plan was applied"
    data = HostData("a", plan=plan(), verified=drifted(), changes=(upgraded,))
    report = fleet_report([data], NOW)
    (host,) = report["hosts"]
    assert (host["drift"][0]["cause"], host["drift"][0]["message"]) == ("changed since", upgraded)
    assert host["mended_by_site"]
    assert f"changed since: {upgraded}" in " ".join(" ".join(state_lines(report)[1:3]).split())


def test_a_gpu_that_ollama_does_not_use_is_drift_that_no_run_mends() -> None:
    report = fleet_report([HostData("a", plan={**plan(), "dropped_gpus": [DROPPED]}, verified=IN_SYNC)], NOW)
    (host,) = report["hosts"]
    assert (host["state"], host["mended_by_site"]) == ("drifted", False)
    assert host["drift"][0]["cause"] == "gpu dropped"
    assert host["drift"][0]["message"].startswith("GPU card is not used: too old; when that is repaired, restart")


def test_why_goes_on_below_where_it_is_long() -> None:
    told = state_lines(fleet_report([HostData("a", failure="word " * 60), HostData("b", failure="x")], NOW))
    assert [line.split()[0] for line in told] == ["HOST", "a", *["word"] * (len(told) - 4), "b", "2"]
    assert sum(line.count("word") for line in told) == 60
    assert max(map(len, told)) <= LINE_CHARACTERS


def test_each_cause_counts_its_hosts_once_the_most_frequent_first(report: dict[str, Any]) -> None:
    assert report["summary"]["causes"] == {"stale process": 3}
    assert [causes_of(host) for host in report["hosts"]][2:5] == [["stale process"]] * 3


def test_what_plans_warn_of_is_said_once() -> None:
    hosts = [HostData(f"gpu{number}", plan={**plan(), "warnings": ["hot"]}) for number in (10, 8, 9)]
    assert warning_lines(fleet_report(hosts, NOW)) == ["Warnings", "  - gpu8-gpu10: hot"]
    assert warning_lines(fleet_report([HostData("a", plan=plan())], NOW)) == []
