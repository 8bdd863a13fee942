# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A variable that looks like a role's and that no role knows is refused, because Ansible would ignore it."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible_collections.gpufleet.ollama.plugins.action.known_variables import (
    FACTS,
    ROLES,
    SPECS,
    ActionModule,
)
from ansible_collections.gpufleet.ollama.plugins.modules import known_variables

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


@pytest.fixture
def misfit(action_of):
    """`misfit(role, name=value, ...)` is what is said of a host with these variables to a task that names the role."""
    return lambda role, **variables: (
        action_of(ActionModule, "known_variables", {"role": role}).run(task_vars=variables).get("msg")
    )


def test_values_that_fit_the_named_role_are_fine(misfit):
    assert misfit("ollama_plan", ollama_plan_requests="4", ollama_plan_wanted=["gemma3:4b"]) is None


def test_a_value_that_does_not_fit_the_named_role_is_named(misfit):
    said = misfit("ollama_plan", ollama_plan_requests="many", ollama_plan_on_misfit="shrug")
    assert "ollama_plan: argument 'ollama_plan_requests' is of type str" in said
    assert "value of ollama_plan_on_misfit must be one of: fail, subset, got: shrug" in said


def test_values_of_other_roles_are_not_looked_at(misfit):
    assert misfit("ollama_plan", ollama_verify_load="perhaps") is None


def test_an_unknown_role_is_refused(misfit):
    with pytest.raises(AnsibleError, match="value of role must be one of"):
        misfit("ollama_pull")


def test_the_documented_roles_are_those_there_are():
    assert yaml.safe_load(known_variables.DOCUMENTATION)["options"]["role"]["choices"] == sorted(SPECS)


def test_every_role_is_looked_after():
    assert set(FACTS) == {path.name for path in ROLES.iterdir()}


@pytest.mark.parametrize("role", sorted(FACTS))
def test_what_a_role_documents_as_a_fact_is_known_and_the_other_way_round(role):
    readme = (ROLES / role / "README.md").read_text()
    outbound = {name for name in OUTBOUND.findall(readme.partition("| Outbound")[2]) if name != role}
    assert outbound <= FACTS[role]
    documented = readme + (ROLES / role / "meta" / "argument_specs.yml").read_text()
    assert [name for name in FACTS[role] if name not in documented] == []
