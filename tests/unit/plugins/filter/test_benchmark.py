# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of role ollama_benchmark, one after the other, down to the page."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.filter.benchmark_report import FilterModule as Report
from ansible_collections.gpufleet.ollama.plugins.filter.benchmark_result import FilterModule as Result
from ansible_collections.gpufleet.ollama.plugins.filter.benchmark_steps import FilterModule as Steps
from ansible_collections.gpufleet.ollama.plugins.filter.fleet_page import fleet_page
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

benchmark_steps = Steps().filters()["benchmark_steps"]
benchmark_result = Result().filters()["benchmark_result"]
benchmark_report = Report().filters()["benchmark_report"]
TEMPLATE = CHECKOUT / "roles" / "ollama_benchmark" / "templates" / "benchmark.html.j2"
NAME = "<b>evil</b>:latest"
RATES = {1: 40.0, 2: 78.0, 4: 80.0}


def plan(parallel):
    share = {"total_bytes": 1000, "compute_bytes": 100, "projector_bytes": 0, "projector_compute_bytes": 0}
    model = {"name": NAME, "planned": True, "context_length": 4096, "num_parallel": parallel, "batch": 512}
    return {
        "num_parallel": parallel,
        "safe": parallel < 8,
        "version": "0.33.0",
        "context_length": 4096,
        "kv_cache_type": "f16",
        "environment": {"OLLAMA_NUM_PARALLEL": str(parallel)},
        "models": [{**model, "gpus": [share]}],
        "load_order": [],
        "warnings": [],
    }


def measurement(parallel):
    level = {
        "concurrency": parallel,
        "requests": 4,
        "failed": 0,
        "busy": 0,
        "tokens_per_second": RATES[parallel],
        "spread": 0.0,
        "latency_seconds": {"p50": 1.0, "p95": 2.0, "p99": 2.0},
    }
    memory = {"reported_bytes": None, "logged": None, "measured_bytes": 1200 if parallel == 2 else None}
    return {
        "parallel": parallel,
        "problems": [],
        "models": [{"name": NAME, "levels": [level], "memory": memory, "problems": []}],
    }


def made(**change):
    plans = [plan(parallel) for parallel in RATES]
    return benchmark_result(
        [measurement(parallel) for parallel in RATES],
        **{
            "plans": plans,
            "facts": {"driver_version": "570.1", "devices": [{"name": "L4", "uuid": "GPU-1"}]},
            "installed": [{"name": NAME, "digest": "sha256-aa"}],
            "measured_at": "2026-01-01T00:00:00Z",
            "skipped": [{"parallel": 8, "reason": "too large"}],
            **change,
        },
    )


def test_plans_become_steps():
    found = benchmark_steps([plan(2), plan(8)])
    assert [step["parallel"] for step in found["steps"]] == [2]
    assert [one["parallel"] for one in found["skipped"]] == [8]


def test_a_model_that_is_not_planned_is_a_problem_for_the_role_to_show():
    found = benchmark_steps([plan(2)], ["other"])
    assert found["problem"].startswith("other is to be measured and is not planned here")
    assert found["steps"] == []


@pytest.mark.parametrize("plans", [[{}], [1]])
def test_what_are_no_plans_is_refused(plans):
    with pytest.raises(AnsibleFilterError):
        benchmark_steps(plans)


def test_the_result_knows_knee_and_conditions():
    found = made()
    assert found["knee"]["parallel"] == 2
    assert found["conditions"]["models"] == {NAME: "sha256-aa"}
    assert made(share=0.01)["knee"]["parallel"] == 4
    assert made(latency_bound_seconds="1.5")["knee"]["parallel"] is None
    assert made(any_such_host=True)["conditions"]["gpus"] == [{"name": "L4", "uuid": None}]


@pytest.mark.parametrize("change", [{"plans": []}, {"plans": [{}]}, {"share": "much"}, {"share": 2}])
def test_what_gives_no_result_is_refused(change):
    with pytest.raises(AnsibleFilterError, match="no result can be made"):
        made(**change)


def test_the_page_draws_the_curves_marks_the_knee_and_escapes_everything():
    page = fleet_page(
        benchmark_report({"gpu01": made()}, "now"), TEMPLATE.read_text(encoding="utf-8"), "Benchmarks"
    )
    assert "<script" not in page
    assert "http" not in page
    assert "<b>evil" not in page
    drawings = [ElementTree.fromstring(part.partition("</svg>")[0] + "</svg>") for part in _drawings(page)]  # noqa: S314
    assert len(drawings) == 2
    for drawing in drawings:
        assert len(drawing.findall("circle")) == 3
        assert [text.text for text in drawing.findall("text") if text.get("class") == "knee"] == ["knee"]
    assert "P = 8 was not measured: too large." in page
    assert "+20.0 % !" in page


def _drawings(page):
    return ["<svg" + part for part in page.split("<svg")[1:]]


def test_the_page_takes_a_host_without_a_knee():
    page = fleet_page(
        benchmark_report({"gpu01": made(latency_bound_seconds=1)}, "now"),
        TEMPLATE.read_text(encoding="utf-8"),
    )
    assert "no P can be used" in page
    assert ">knee<" not in page


def test_what_is_no_result_is_named_on_the_page_beside_the_others():
    report = benchmark_report({"gpu01": {}, "gpu02": made()}, "now")
    page = fleet_page(report, TEMPLATE.read_text(encoding="utf-8"))
    assert "gpu01 is not shown: its result is not in the form" in page
    assert "<h2>gpu02: P = 2</h2>" in page
