# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of roles by name and by value, as the argument specs and the READMEs have them."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import (
    FACTS,
    ROLES,
    unfit_values,
    unknown_variables,
)

OUTBOUND = re.compile(r"^\| `(ollama_[a-z_]+)", re.MULTILINE)


def unfit(**variables):
    return "; ".join(unfit_values("ollama_plan", variables, dict))


@pytest.mark.parametrize(
    "name",
    [
        "ollama_plan_requests",
        "ollama_plan_json_path",  # of another entry point than main
        "ollama_override_changed",  # a fact that the role leaves
        "ollama_plan",
        "ollama_planner",
        "gpufleet_serial",
    ],
)
def test_options_facts_and_variables_of_others_are_known(name):
    assert unknown_variables([name]) == []


def test_a_misspelt_option_is_named_with_what_to_do():
    (sentence,) = unknown_variables(["ollama_plan_request", "ollama_plan_requests"])
    assert sentence.startswith("ollama_plan_request: ollama_plan knows no such variable")
    assert "correct the name" in sentence


def test_values_that_fit_are_fine_as_are_those_of_other_roles():
    wanted = ["gemma3:4b"]
    assert unfit(ollama_plan_requests="4", ollama_plan_wanted=wanted, ollama_verify_load="perhaps") == ""


def test_values_that_do_not_fit_are_named():
    said = unfit(ollama_plan_requests="many", ollama_plan_on_misfit="shrug")
    assert "ollama_plan: argument 'ollama_plan_requests' is of type str" in said
    assert "value of ollama_plan_on_misfit must be one of: fail, subset, got: shrug" in said


def test_a_value_is_judged_by_what_it_comes_to():
    assert (
        unfit_values(
            "ollama_plan", {"ollama_plan_requests": "{{ 2 * 2 }}"}, lambda _: {"ollama_plan_requests": 4}
        )
        == []
    )


def test_every_role_is_looked_after():
    assert set(FACTS) == {path.name for path in ROLES.iterdir()}


@pytest.mark.parametrize("role", sorted(FACTS))
def test_what_a_role_documents_as_a_fact_is_known_and_the_other_way_round(role):
    readme = (ROLES / role / "README.md").read_text()
    outbound = {name for name in OUTBOUND.findall(readme.partition("| Outbound")[2]) if name != role}
    assert outbound <= FACTS[role]
    documented = readme + (ROLES / role / "meta" / "argument_specs.yml").read_text()
    assert [name for name in FACTS[role] if name not in documented] == []
