# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the control node makes of a host's whole answer: what of it is taken, the plan, and the report of the fleet."""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.action.ollama_plan import HOST_INFO_RETURNS
from ansible_collections.gpufleet.ollama.plugins.filter.benchmark_result import benchmark_result
from ansible_collections.gpufleet.ollama.plugins.filter.fleet_page import fleet_page
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._page import benchmark_report
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._answer import answer
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._gathered import parts
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import ARGUMENT_SPEC
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import HostData
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import fleet_report, state_lines
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import (
    UnfitAnswer,
    checked,
    documented,
    shown,
)
from ansible_collections.gpufleet.ollama.tests.fuzz.gpu import FACTS
from ansible_collections.gpufleet.ollama.tests.fuzz.ollama import HEADER
from ansible_collections.gpufleet.ollama.tests.fuzz.target import Target, changed
from ansible_collections.gpufleet.ollama.tests.unit.answers import completed
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

MODEL = shape_from_header(HEADER, name="m:latest", digest="sha256-" + "a" * 64).to_dict()
_TOLD = {
    "ansible_facts": {"gpufleet_gpu": FACTS},
    "models": {
        "models": [MODEL],
        "unplannable": [{"name": "a", "reason": "b"}],
        "loaded": [{"name": "m:latest", "context_length": 4096}],
        "unseen": ["a sentence"],
        "version": "0.33.0",
    },
    "service": {
        "process_environment": {"OLLAMA_HOST": "0.0.0.0"},
        "dropin_path": "/x",
        "variables": {"OLLAMA_NUM_PARALLEL": {"value": "4", "file": "/etc/zz.conf"}},
        "conflicts": [{"variable": "OLLAMA_NUM_PARALLEL", "message": "m"}],
        "refusals": ["r"],
        "problems": ["p"],
        "notes": ["n"],
    },
    "planned_gpus": [{"uuid": "GPU-9", "name": "A GPU"}],
    "planned_gpus_problem": "",
    "measured": {
        "format": 1,
        "measured_at": "x",
        "knee": {"parallel": 2, "reason": "r"},
        "conditions": {
            "gpus": [{"name": "A GPU", "uuid": "GPU-0"}],
            "driver_version": None,
            "ollama_version": "0.33.0",
            "models": {"m:latest": MODEL["digest"]},
            "context_length": 4096,
            "kv_cache_type": "f16",
        },
        "correction": {"cuda_context_bytes": 1, "compute_excess_bytes": 2},
    },
    "measured_problem": "",
    "msg": "",
    "warnings": [],
}
ANSWER = completed(_TOLD, HOST_INFO_RETURNS)
PAGE = CHECKOUT / "roles/ollama_benchmark/templates/benchmark.html.j2"
OPTIONS = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}


def _gate(data: bytes) -> None:
    _taken(data)


def _taken(data: bytes) -> dict[str, Any]:
    """What is taken is documented and plain data that a terminal and a file can show."""
    told = changed(ANSWER, data)
    taken = checked(told if isinstance(told, dict) else {}, HOST_INFO_RETURNS)
    assert json.dumps(taken, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert set(taken) <= {*HOST_INFO_RETURNS, "changed", "failed", "skipped", "msg", "warnings", "diff"}
    assert set(taken.get("ansible_facts") or {}) <= {"gpufleet_gpu"}
    assert taken.get("msg", "") == shown(taken.get("msg", ""))
    return taken


def _plan(data: bytes) -> None:
    """A host's answer is a plan or one sentence, and the report of the fleet has both."""
    way, data = data[:1], data[1:]
    options = {
        **OPTIONS,
        "use_measured_memory": way > b"\x40",
        "on_gpu_fault": "exclude" if way > b"\x80" else "fail",
    }
    taken = _taken(data)
    outcome = answer(options, taken, "gpu01")
    failure = outcome.get("msg", "")
    assert "plan" in outcome or 0 < len(failure) < 2000
    json.dumps(outcome)
    report = fleet_report([HostData("gpu01", outcome.get("plan"), gpu=parts(taken)["gpu"], failure=failure)], "now")
    json.dumps(report)
    state_lines(report)


_NAME = "m:latest"
_RATES = {1: 40.0, 2: 78.0, 4: 80.0}
_SHARE = {"total_bytes": 1000, "compute_bytes": 100, "projector_bytes": 0, "projector_compute_bytes": 0}
_PLANS = [
    {
        "num_parallel": parallel, "version": "0.33.0", "context_length": 4096, "kv_cache_type": "f16", "environment": {},
        "models": [{"name": _NAME, "context_length": 4096, "num_parallel": parallel, "batch": 512, "gpus": [_SHARE]}],
    }
    for parallel in _RATES
]
_MEASURED = [
    {
        "parallel": parallel, "requests": 4, "problems": [],
        "models": [
            {
                "name": _NAME,
                "problems": [],
                "memory": {"reported_bytes": 1000, "logged": {"total_bytes": 900, "compute_bytes": 90}, "measured_bytes": 1200},
                "levels": [
                    {
                        "concurrency": parallel, "requests": 4, "failed": 0, "busy": 0,
                        "tokens_per_second": rate,
                        "spread": 0.0,
                        "latency_seconds": {"p50": 1.0, "p95": 2.0, "p99": 2.0},
                    }
                ],
            }
        ],
    }
    for parallel, rate in _RATES.items()
]
_BENCHMARK_RETURNS = documented("ollama_benchmark")


def _benchmark_page(data: bytes) -> None:
    """What a host answers of a benchmark is a result or one sentence, and a page has it beside those of other hosts."""
    said = changed(_MEASURED, data)
    answers = [
        checked(one if isinstance(one, dict) else {}, _BENCHMARK_RETURNS)
        for one in (said if isinstance(said, list) else [])
    ]
    result = benchmark_result(answers, plans=_PLANS, facts=FACTS, installed=[MODEL], measured_at="now")
    json.dumps(result, allow_nan=False)
    report = benchmark_report({"gpu01": result}, "now")
    assert report["hosts"]
    assert "<h2>gpu01: " in fleet_page(report, PAGE.read_text(encoding="utf-8"))


TARGETS = (
    Target("benchmark-page", _benchmark_page, (UnfitAnswer, AnsibleFilterError), share=10),
    Target("answer", _gate, (UnfitAnswer,)),
    Target("plan", _plan, (UnfitAnswer, ValueError), crashed=(b"\x00\x0c\x90\x00\x02", b"\x00\x0c \x00\x02", b"\x00\xa3+U\x01")),
)
