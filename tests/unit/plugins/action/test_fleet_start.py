# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run begins with what Ansible itself would pass over in silence: no host, and settings that no play sees."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.action import fleet_start
from ansible_collections.gpufleet.ollama.plugins.action.fleet_start import ActionModule, unfit_serial


@pytest.fixture
def start(action_of, monkeypatch):
    """`start(inventory, play, extra, hosts)` gives the result; each of the first three holds variables."""

    def run(inventory=(), play=(), extra=(), hosts=("a",), **others):
        monkeypatch.setattr(fleet_start, "load_extra_vars", lambda loader: dict(extra))
        known = {**dict(inventory), **dict(extra)}
        variables = {
            **known,
            **dict(play),
            **dict(extra),
            "inventory_hostname": "a",
            "hostvars": {"a": known},
        }
        options = {"hosts": list(hosts), "pattern": "ollama"}
        return action_of(ActionModule, "fleet_start", options).run(task_vars={**variables, **others})

    return run


@pytest.mark.parametrize(
    ("others", "where"), [({}, "matches 'ollama', so"), ({"ansible_limit": "b"}, "within --limit b, so")]
)
def test_a_run_without_hosts_fails(start, others, where):
    result = start(hosts=[], **others)
    assert result["failed"]
    assert where in result["msg"]


@pytest.mark.parametrize("name", ["gpufleet_hosts", "gpufleet_serial", "gpufleet_benchmark_serial"])
def test_a_setting_that_a_play_cannot_see_is_refused_and_one_that_it_sees_is_not(start, name):
    value = {name: 2}
    assert f"{name} is set in the inventory" in start(inventory=value)["msg"]
    assert not start(extra=value).get("failed")
    assert not start(play=value).get("failed")
    assert not start(inventory={name: 3}, extra=value).get("failed")
    assert not start(inventory={name: 3}, play=value).get("failed")


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"gpufleet_serail": 1}, "did you mean gpufleet_serial?"),
        ({"gpufleet_drift_fails": True}, "did you mean gpufleet_drift_fail?"),
        ({"ollama_plan_request": 8}, "did you mean ollama_plan_requests?"),
        ({"gpufleet_drift_fail": "perhaps"}, "the playbooks: argument 'gpufleet_drift_fail' is of type"),
        (
            {"gpufleet_benchmark_restore": "yes please"},
            "the playbooks: argument 'gpufleet_benchmark_restore' is of type",
        ),
    ],
)
def test_a_slip_of_the_pen_or_a_value_on_the_command_line_that_would_be_ignored_is_refused(
    start, extra, told
):
    result = start(extra=extra)
    assert result["failed"]
    assert told in result["msg"]


def test_values_that_the_playbooks_take(start):
    fine = {
        "gpufleet_drift_fail": "yes",
        "gpufleet_report_dir": "{{ 'a' }}/b",
        "gpufleet_demand": [],
        "colour": "blue",
    }
    assert not start(extra=fine).get("failed")


@pytest.mark.parametrize("value", [1, "2", "25%", [1, "25%", "100%"], ["1"], None])
def test_batches_that_ansible_takes(value):
    assert unfit_serial("gpufleet_serial", value) == []


@pytest.mark.parametrize(
    "value", ["[1,2]", 0, -1, "", "x", [], [1, "x"], [[1]], True, 1.5, {"a": 1}, "25 %", "0"]
)
def test_batches_that_ansible_does_not_take_are_one_sentence(value):
    (sentence,) = unfit_serial("gpufleet_serial", value)
    assert sentence.startswith(f"gpufleet_serial is {value!r}, and Ansible takes")
