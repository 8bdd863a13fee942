# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A variable that looks like a role's and that no role knows is refused, because Ansible would ignore it."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError
from ansible_collections.gpufleet.ollama.plugins.action.known_variables import ActionModule


@pytest.fixture
def result(action_of):
    """`result(name, ...)` is the result for a host with these variables."""
    return lambda *names: action_of(ActionModule, "known_variables", {}).run(task_vars=dict.fromkeys(names))


def test_known_variables_change_nothing(result):
    assert result("ollama_plan_requests", "gpufleet_serial")["changed"] is False


def test_all_that_no_role_knows_fail_in_one_message(result):
    refused = result("ollama_override_enviroment", "ollama_verify_laod", "ollama_verify_load")
    assert refused["failed"] is True
    assert "ollama_override_enviroment: ollama_override knows no such variable" in refused["msg"]
    assert "; ollama_verify_laod: ollama_verify knows no such variable" in refused["msg"]
    assert "ollama_verify_load:" not in refused["msg"]


def test_there_are_no_options(action_of):
    with pytest.raises(AnsibleError, match="Unsupported parameters"):
        action_of(ActionModule, "known_variables", {"role": "ollama_plan"}).run(task_vars={})
