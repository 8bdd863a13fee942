# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module of this collection is executed on the host, and its answer taken by one rule."""

from __future__ import annotations

import importlib
import json

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.gpufleet.ollama.plugins.action.systemd_restart import ActionModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils import _host_module
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import (
    ANSWER_CHARACTERS,
    MESSAGE_CHARACTERS,
    MODULES,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._host_module import HostModule

PLUGINS = "ansible_collections.gpufleet.ollama.plugins"
# What these do is done on the control node; ollama_plan takes what it reads of a host by the same rule.
ON_THE_CONTROL_NODE = {
    "fleet_place",
    "fleet_report",
    "fleet_start",
    "known_variables",
    "placement_order",
    "report_files",
    "report_redraw",
    "router_upstreams",
    "what_if",
}


def modules():
    return sorted(path.stem for path in MODULES.glob("*.py"))


@pytest.mark.parametrize("module", modules())
def test_every_module_has_an_action_and_every_one_that_runs_on_a_host_this_way(module):
    action = importlib.import_module(f"{PLUGINS}.action.{module}")
    assert issubclass(action.ActionModule, HostModule) == (module not in ON_THE_CONTROL_NODE)


@pytest.mark.parametrize("module", [name for name in modules() if name not in ON_THE_CONTROL_NODE])
def test_no_answer_is_fetched_past_the_rule(module):
    action = importlib.import_module(f"{PLUGINS}.action.{module}")
    assert not action.ActionModule._supports_async


@pytest.fixture
def answered(action_of, monkeypatch):
    """`answered(stdout, stderr)` is the result where the host's Python has written that."""

    def run(stdout, stderr="", **shown_by_action):
        action = action_of(ActionModule, "systemd_restart", {"unit": "ollama.service"})
        for name, value in shown_by_action.items():
            setattr(action, name, value)
        action._used_interpreter = "/usr/bin/python3"

        def execute(self, module_name, module_args, task_vars):
            assert (module_name, module_args) == ("gpufleet.ollama.systemd_restart", {"unit": "ollama.service"})
            return self._parse_returned_data({"stdout": stdout, "stderr": stderr, "rc": 1}, *PROFILE)

        monkeypatch.setattr(ActionModule, "_execute_module", execute)
        return action.run(task_vars={"inventory_hostname": "gpu01"})

    return run


# ansible-core 2.19 asks for the form of what is parsed; 2.18 does not.
PROFILE = ["legacy"] if "profile" in _host_module.ActionBase._parse_returned_data.__code__.co_varnames else []


def test_an_answer_is_handed_on(answered):
    result = answered(json.dumps({"changed": True, "main_pid": 7, "main_pid_before": 5, "invocation": {}}))
    assert (result["changed"], result["main_pid"], result["main_pid_before"]) == (True, 7, 5)
    assert "invocation" not in result


def test_an_odd_answer_fails_the_host_with_one_sentence(answered):
    result = answered(json.dumps({"main_pid": "x", "ansible_facts": {"a": 1}}))
    assert result["failed"]
    assert result["msg"].startswith(
        "gpu01 has answered to systemd_restart what this collection's module does not: main_pid is str ('x'), "
        "and the module returns int;"
    )
    assert "ansible_facts" not in result


def test_an_answer_too_large_to_parse_is_not_parsed(answered):
    result = answered(json.dumps({"main_pid": 7, "x": "x" * 2 * ANSWER_CHARACTERS}))
    assert (result["failed"], result["msg"]) == (True, "the answer is larger than 8 MiB")


@pytest.mark.parametrize(
    ("stdout", "stderr", "said"),
    [
        ("", "sudo: sorry, you must have a tty to run sudo\n", "It wrote: sudo: sorry, you must have a tty"),
        ("", "OSError: [Errno 28] No space left on device", "No space left on device"),
        ("cannot \x1b[2Jexecute", "", "It wrote: cannot \\x1b[2Jexecute"),
        ("", "", "It wrote nothing."),
    ],
)
def test_where_no_module_answered_the_reason_is_told(answered, stdout, stderr, said):
    result = answered(stdout, stderr)
    assert result["failed"]
    assert said in result["msg"]


def test_which_python_was_found_is_handed_on_and_none_that_the_host_names(answered):
    whole = {"main_pid": 7, "main_pid_before": None}
    said = json.dumps({**whole, "ansible_facts": {"discovered_interpreter_python": "/tmp/evil"}})
    assert "ansible_facts" not in answered(said)
    key = "discovered_interpreter_python"
    result = answered(said, _discovered_interpreter_key=key, _discovered_interpreter="/usr/bin/python3.11")
    assert result["ansible_facts"] == {key: "/usr/bin/python3.11"}


def test_what_a_host_that_is_not_reached_wrote_is_returned_as_text_and_not_raised(action_of, monkeypatch):
    banner = "Welcome {{ lookup('pipe', 'id') }} \x1b[2J" + "x" * 10**6

    def execute(_self, **_arguments):
        raise AnsibleConnectionFailure(banner)

    monkeypatch.setattr(ActionModule, "_execute_module", execute)
    result = action_of(ActionModule, "systemd_restart", {}).run(task_vars={"inventory_hostname": "gpu01"})
    assert result["unreachable"]
    assert "{{ lookup('pipe', 'id') }} \\x1b[2J" in result["msg"]
    assert len(result["msg"]) < 2 * MESSAGE_CHARACTERS
