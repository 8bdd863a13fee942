# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another setting is set and taken back in one task, in an order in which nothing is left behind that nobody removes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.gpufleet.ollama.plugins.action.ollama_benchmark_setting import (
    ARGUMENT_SPEC,
    IDLE_SECONDS,
    RESTARTING,
    RETURNS,
    ActionModule,
)
from ansible_collections.gpufleet.ollama.plugins.modules import ollama_benchmark_setting as module
from ansible_collections.gpufleet.ollama.plugins.plugin_utils import _waiting
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import SPECS
from ansible_collections.gpufleet.ollama.tests.unit.answers import completed

NAME = "zzz-b.conf"
FOUR = {"environment": {"OLLAMA_NUM_PARALLEL": "4"}, "dropin_name": NAME}
BACK = {"dropin_name": NAME}
DETAILS = {"main_pid": 7, "active_state": "active", "need_daemon_reload": False}
STALE = {"differences": [{"layer": "process"}]}
WRITTEN = {"changed": True, "change": "change-1"}
SET = [
    ("ollama_wait", "idle"),
    ("systemd_dropin_timer", "present"),
    ("systemd_environment_info", None),
    ("systemd_dropin", "present"),
    ("ollama_wait", "idle"),
    ("systemd_restart", None),
    ("ollama_wait", None),
    ("systemd_dropin", "proven"),
]


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(_waiting.Display, "display", lambda _self, line, stderr: lines.append(line))
    return lines


@pytest.fixture
def run(action_of, said):
    """`run(options, answers, variables)` gives the result, and what the modules were asked in their order."""

    def execute(options, answers=None, **variables):
        asked: list[tuple[str, dict[str, Any]]] = []

        def answer_of(name, given, returns, _variables):
            asked.append((name, given))
            told = (answers or {}).get((name, given.get("state") or given.get("condition")), {})
            if told.get("failed") or told.get("unreachable"):
                return dict(told)
            idle = {"idle": True} if given.get("condition") == "idle" else {}
            looked = DETAILS if name == "systemd_environment_info" else {}
            return {"changed": False, **completed({**looked, **idle, **told}, returns)}

        action = action_of(ActionModule, "ollama_benchmark_setting", dict(options))
        action._task.check_mode = False
        action.answer_of = answer_of
        result = action.run(task_vars={"inventory_hostname": "gpu1", **variables})
        return result, asked

    return execute


def steps(asked):
    return [(name, given.get("state") or given.get("condition")) for name, given in asked]


LOOK, PUT = ("systemd_environment_info", None), ("systemd_dropin", "present")


def test_it_is_guarded_before_it_is_set_and_proven_when_it_is_healthy(run):
    result, asked = run(FOUR, {LOOK: STALE, PUT: WRITTEN})
    assert (result["changed"], steps(asked)) == (True, SET)
    given = dict(asked[index] for index in (1, 3, 5))
    assert given["systemd_dropin_timer"]["seconds"] == 3600
    assert given["systemd_dropin"] == {
        "unit": "ollama.service",
        "scope": "system",
        "name": NAME,
        "runtime": True,
        "state": "present",
        "content": '[Service]\nEnvironment="OLLAMA_NUM_PARALLEL=4"\n',
        "rollout": "benchmark",
    }
    assert (given["systemd_restart"]["main_pid"], given["systemd_restart"]["timeout_seconds"]) == (7, 180)
    assert asked[-1][1]["change"] == "change-1"


def test_a_server_that_has_it_is_not_restarted(run):
    result, asked = run(FOUR, {})
    assert (result["changed"], steps(asked)) == (False, SET[:4])


def test_files_that_systemd_has_not_read_are_read(run):
    _result, asked = run(FOUR, {LOOK: {"need_daemon_reload": True}})
    assert asked[-1] == ("systemd_restart", {"unit": "ollama.service", "scope": "system", "restart": False})


def test_it_is_taken_back_and_only_then_the_guard(run):
    result, asked = run(BACK, {LOOK: STALE, ("systemd_dropin", "absent"): WRITTEN})
    assert steps(asked) == [
        LOOK,
        ("systemd_dropin", "absent"),
        ("ollama_wait", "idle"),
        ("systemd_restart", None),
        ("ollama_wait", None),
        ("systemd_dropin", "proven"),
        ("systemd_dropin_timer", "absent"),
    ]
    assert (asked[0][1]["dropin_content"], asked[3][1]["dropin_content"], result["changed"]) == ("", "", True)


@pytest.mark.parametrize(
    ("options", "state", "restarts"),
    [(FOUR, "inactive", True), (BACK, "inactive", False), (BACK, "activating", True)],
)
def test_a_server_that_is_down_is_started_for_a_setting_and_not_for_none(run, options, state, restarts):
    _result, asked = run(options, {LOOK: {"main_pid": None, "active_state": state}})
    assert (("systemd_restart", None) in steps(asked)) is restarts


BUSY = {"idle": False, "reason": "2 connections to the API"}


def test_whoever_uses_the_server_is_not_cut_off(run):
    result, asked = run(FOUR, {("ollama_wait", "idle"): BUSY})
    assert result["msg"] == (
        "ollama.service serves others: 2 connections to the API; measure while nobody uses it, or set "
        "ollama_benchmark_may_disturb"
    )
    assert (result["failed"], steps(asked)) == (True, [("ollama_wait", "idle")])
    assert asked[0][1]["timeout_seconds"] == IDLE_SECONDS == 5


def test_where_that_is_wanted_it_is_waited_for_them_and_said(run, said):
    _result, asked = run(
        {**FOUR, "may_disturb": True}, {("ollama_wait", "idle"): BUSY, LOOK: STALE}, ollama_override_drain_timeout="20"
    )
    drained = [given["timeout_seconds"] for name, given in asked if name == "ollama_wait" and "condition" in given]
    assert drained == [15, 5]
    assert said[-1] == "gpu1: ollama.service is restarted although it is not idle after 20 s: 2 connections to the API"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"refusals": ["it is masked"], "problems": ["x"]}, "it is masked"),
        ({"problems": ["not readable", "nor that"]}, "not readable; nor that"),
        ({"stopped": "somebody stopped it"}, "somebody stopped it"),
        ({"conflicts": [{"message": "remove that line"}]}, "remove that line"),
    ],
)
def test_what_the_role_refuses_is_refused(run, found, told):
    result, asked = run(FOUR, {LOOK: {**STALE, **found}})
    assert (result["failed"], result["msg"]) == (True, told)
    assert PUT not in steps(asked)


def test_a_service_that_may_be_started_is(run):
    found = {"main_pid": None, "stopped": "somebody stopped it"}
    assert not run(FOUR, {LOOK: found}, ollama_override_start_stopped=True)[0].get("failed")


def test_what_somebody_has_stopped_does_not_keep_it_from_being_taken_back(run):
    found = {"main_pid": None, "stopped": "somebody stopped it", "conflicts": [{"message": "x"}]}
    assert not run(BACK, {LOOK: found})[0].get("failed")


@pytest.mark.parametrize("step", [("systemd_dropin_timer", "present"), LOOK, PUT, ("systemd_restart", None)])
@pytest.mark.parametrize("ended", [{"failed": True, "msg": "no"}, {"unreachable": True, "msg": "lost"}])
def test_nothing_is_done_after_a_module_that_failed(run, step, ended):
    result, asked = run(FOUR, {LOOK: STALE, PUT: WRITTEN, step: ended})
    assert ended.items() <= result.items()
    assert steps(asked)[-1] == step


def test_a_setting_that_ollama_would_misread_is_refused_before_anything(run):
    result, asked = run({**FOUR, "environment": {"OLLAMA_NUM_PARALLEL": "four"}})
    assert "OLLAMA_NUM_PARALLEL" in result["msg"]
    assert asked == []


@pytest.mark.parametrize(
    ("options", "variables", "told"),
    [
        ({"environment": {}}, {}, "missing required arguments: dropin_name"),
        ({**FOUR, "guard_seconds": "soon"}, {}, "guard_seconds"),
        (FOUR, {"ollama_override_drain_timeout": "soon"}, "ollama_override_drain_timeout"),
    ],
)
def test_options_that_do_not_fit_are_named(run, options, variables, told):
    with pytest.raises(AnsibleActionFail, match=told):
        run(options, **variables)


def test_its_options_are_those_that_are_documented():
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    shared = {"unit", "scope"}
    assert set(documented) == set(ARGUMENT_SPEC) - shared
    assert {name: one.get("default") for name, one in documented.items()} == {
        name: one.get("default") for name, one in ARGUMENT_SPEC.items() if name not in shared
    }
    assert set(RESTARTING) <= set(SPECS["ollama_override"]["main"])
    assert all(name in module.DOCUMENTATION for name in RESTARTING)
    assert all(RETURNS.values())
