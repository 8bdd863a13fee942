# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A variable that looks like a role's and that no role knows is refused, because Ansible would ignore it."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.action.known_variables import FACTS, ROLES, ActionModule

OUTBOUND = re.compile(r"^\| `(ollama_[a-z_]+)", re.MULTILINE)


@pytest.fixture
def refusal(action_of):
    """`refusal(name, ...)` is what is said of a host with these variables, or None."""
    return lambda *names: (
        action_of(ActionModule, "known_variables", {}).run(task_vars=dict.fromkeys(names)).get("msg")
    )


def test_options_of_roles_what_they_leave_and_variables_of_others_are_fine(refusal):
    assert refusal("ollama_plan_requests", "ollama_plan", "ollama_service_changed", "gpufleet_serial") is None


def test_a_misspelt_option_of_any_role_is_named(refusal):
    said = refusal("ollama_service_enviroment", "ollama_verify_laod", "ollama_verify_load")
    assert "ollama_service_enviroment: ollama_service knows no such variable" in said
    assert "ollama_verify_laod: ollama_verify knows no such variable" in said
    assert "ollama_verify_load:" not in said


def test_options_of_every_entry_point_are_known(refusal):
    assert refusal("ollama_plan_json_path") is None


def test_every_role_is_looked_after():
    assert set(FACTS) == {path.name for path in ROLES.iterdir()}


@pytest.mark.parametrize("role", sorted(FACTS))
def test_what_a_role_documents_as_a_fact_is_known_and_the_other_way_round(role):
    readme = (ROLES / role / "README.md").read_text()
    outbound = {name for name in OUTBOUND.findall(readme.partition("| Outbound")[2]) if name != role}
    assert outbound <= FACTS[role]
    documented = readme + (ROLES / role / "meta" / "argument_specs.yml").read_text()
    assert [name for name in FACTS[role] if name not in documented] == []
