# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter takes from each host's variables what the roles have set there."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.filter.fleet_report import NOTHING_KNOWN, FilterModule
from ansible_collections.gpufleet.ollama.tests.report.fleet import fleet

VERIFIED = {"differences": [], "conflicts": [], "problems": [], "overrides": []}
FACTS = {"gpufleet_gpu": {"devices": [{"index": 0, "memory_total_bytes": 24, "memory_free_bytes": 4}]}}


def report(hostvars: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = FilterModule().filters()["fleet_report"](
        list(hostvars), hostvars, "2026-11-23T05:47:29Z"
    )
    return made


@pytest.mark.parametrize(
    ("known", "state", "problem"),
    [
        ({"ollama_verify_result": VERIFIED}, "in sync", ""),
        ({"ollama_report_failure": "no model"}, "failed", "no model"),
        ({"ollama_report_unreachable": "timed out"}, "unreachable", "timed out"),
        ({}, "failed", NOTHING_KNOWN),
        ({"ollama_verify_result": {"failed": True, "msg": "no systemd"}}, "failed", "no systemd"),
        (
            {"ollama_verify_result": {"unreachable": True, "msg": "Task failed: timed out"}},
            "unreachable",
            "timed out",
        ),
        ({"ollama_verify_result": {"failed": True, "msg": "x"}, "ollama_report_failure": "y"}, "failed", "y"),
    ],
)
def test_a_host_is_in_the_state_that_its_facts_tell(known: dict[str, Any], state: str, problem: str) -> None:
    (host,) = report({"a": known})["hosts"]
    assert (host["name"], host["state"], host["problem"]) == ("a", state, problem)


def test_a_host_without_a_plan_shows_its_gpus() -> None:
    (host,) = report({"a": {"ollama_report_failure": "no model", "ansible_facts": FACTS}})["hosts"]
    assert (host["gpus"][0]["others_bytes"], host["gpus"][0]["free_bytes"]) == (20, 4)


def test_gpus_that_a_failed_task_has_read_go_before_facts_of_another_run() -> None:
    fresh = FACTS["gpufleet_gpu"]
    known = {"ollama_report_failure": "no model", "ollama_report_gpu": fresh}
    (host,) = report({"a": {**known, "ansible_facts": {"gpufleet_gpu": {**fresh, "devices": []}}}})["hosts"]
    assert len(host["gpus"]) == len(fresh["devices"]) > 0


def test_a_plan_is_found_in_either_place_and_the_result_of_the_task_is_the_newer() -> None:
    (planned,) = fleet(1).values()
    plan = planned["ollama_plan"]
    for known in (
        {"ollama_plan_result": {"plan": plan}},
        {"ollama_plan_result": {"host": {}}, "ollama_plan": plan},
    ):
        assert report({"a": known})["hosts"][0]["num_parallel"] == plan["num_parallel"]
    older = {**plan, "num_parallel": 99}
    both = {"ollama_plan_result": {"plan": plan}, "ollama_plan": older}
    assert report({"a": both})["hosts"][0]["num_parallel"] == plan["num_parallel"]


def test_the_table_comes_with_it() -> None:
    assert report({"a": {}})["table"][-1] == "1 failed"


def test_facts_in_another_form_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="the data of host a "):
        report({"a": {"ollama_verify_result": {"in_sync": True}}})
