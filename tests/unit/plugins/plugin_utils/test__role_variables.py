# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of roles by name and by value, as the argument specs and the READMEs have them."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import (
    FACTS,
    KNOWN,
    PLAYBOOK_VARIABLES,
    ROLES,
    SPECS,
    given_values,
    unfit_values,
    unknown_variables,
)
from hypothesis import given
from hypothesis import strategies as st

ROOT = ROLES.parent
OUTBOUND = re.compile(r"^\| `(ollama_[a-z_]+)", re.MULTILINE)


def unfit(**variables):
    return "; ".join(unfit_values("ollama_plan", variables))


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_what_is_known_is_known(name):
    assert unknown_variables([name]) == []


@pytest.mark.parametrize(
    "name",
    [
        # githubixx.ai and other collections that install Ollama
        "ollama_service_enabled",
        "ollama_service_started",
        "ollama_service_environment",
        "ollama_service_unit",
        "ollama_models",
        "ollama_host",
        "ollama_port",
        "ollama_version",
        "ollama_environment",
        "ollama_install_dir",
        "ollama_pull_models",
        "ollama_pull_unit",
        # an inventory's own, whatever it begins with
        "ollama_plan_my_own_note",
        "ollama_plan_wanted_of_team",
        "ollama_planner",
        "ollama_report_footer",
        "ollama_verify_nothing",
        "gpufleet_owner",
        "gpufleet",
        "groups",
        "group_names",
        "omit",
    ],
)
def test_variables_of_others_are_let_be(name):
    assert unknown_variables([name]) == []


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("ollama_plan_num_paralel", "ollama_plan_num_parallel"),
        ("ollama_plan_requsts", "ollama_plan_requests"),
        ("ollama_plan_request", "ollama_plan_requests"),
        ("ollama_plan_kv_cache_type", "ollama_plan_kv_cache_types"),
        ("ollama_plan_contxt_lenght", "ollama_plan_context_length"),
        ("ollama_plan_wantd", "ollama_plan_wanted"),
        ("Ollama_Plan_Wanted", "ollama_plan_wanted"),
        ("olama_plan_wanted", "ollama_plan_wanted"),
        ("ollama_plans_wanted", "ollama_plan_wanted"),
        ("ollama_overide_unit", "ollama_override_unit"),
        ("ollama_override_enviroment", "ollama_override_environment"),
        ("ollama_override_roled_back", "ollama_override_rolled_back"),
        ("ollama_verify_laod", "ollama_verify_load"),
        ("ollama_verfiy_load", "ollama_verify_load"),
        ("ollama_benchmark_model", "ollama_benchmark_models"),
        ("ollama_report_titel", "ollama_report_title"),
        # a word too few, or in another place
        ("ollama_plan_context", "ollama_plan_context_length or ollama_plan_lower_context"),
        (
            "ollama_plan_parallel",
            "ollama_plan_max_parallel or ollama_plan_min_parallel or ollama_plan_num_parallel",
        ),
        ("ollama_plan_length_context", "ollama_plan_context_length"),
        ("ollama_plan_loaded_models", "ollama_plan_max_loaded_models"),
        ("gpufleet_sreial", "gpufleet_serial"),
        ("gpufleet_serail", "gpufleet_serial"),
        ("gpufleet_report_dirs", "gpufleet_report_dir"),
        ("gpufleet_dir", "gpufleet_report_dir"),
        ("gpufleet_host", "gpufleet_hosts"),
    ],
)
def test_a_slip_of_the_pen_is_named_with_what_was_meant(slip, meant):
    (sentence,) = unknown_variables([slip, "ollama_plan_requests"])
    assert sentence.startswith(f"{slip}: ")
    asked = sentence.partition("did you mean ")[2].partition("?")[0]
    assert sorted(asked.split(" or ")) == sorted(meant.split(" or "))


def test_the_sentence_says_who_knows_no_such_variable_and_what_to_do():
    of_role, of_playbooks = unknown_variables(["ollama_plan_request", "gpufleet_host"][::-1])[::-1]
    assert of_role.startswith("ollama_plan_request: ollama_plan knows no such variable, so it would be ignored")
    assert of_playbooks.startswith("gpufleet_host: the playbooks know no such variable")
    assert "Correct the name" in of_role


@given(st.sampled_from(sorted(KNOWN)), st.data())
def test_any_one_letter_left_out_of_an_option_is_noticed(name, data):
    place = data.draw(st.integers(1, len(name) - 1))
    slip = name[:place] + name[place + 1 :]
    # The name of a role alone and the names of other options are no slips.
    if name not in SPECS and slip not in KNOWN:
        assert len(unknown_variables([slip])) == 1


def test_no_variable_of_the_example_inventories_is_taken_for_a_slip():
    files = [*ROOT.glob("docs/examples/**/*.yml"), *ROOT.glob("molecule/**/*.yml"), *ROOT.glob("playbooks/**/*.yml")]
    names = {name for path in files for name in re.findall(r"\b[a-z]\w+\b", path.read_text(encoding="utf-8"))}
    assert len(names) > 500
    assert unknown_variables(names) == []


def test_what_the_playbooks_read_is_known():
    files = [*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/defaults/main.yml")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    read = {name for text in texts for name in re.findall(r"(?<!\w)gpufleet_[a-z_]+", text)}
    assert read | {"gpufleet_gpu"} == PLAYBOOK_VARIABLES


def test_values_that_fit_are_fine_as_are_those_of_other_roles():
    wanted = ["gemma3:4b"]
    assert unfit(ollama_plan_requests="4", ollama_plan_wanted=wanted, ollama_verify_load="perhaps") == ""


def test_values_that_do_not_fit_are_named():
    said = unfit(ollama_plan_requests="many", ollama_plan_on_misfit="shrug")
    assert "ollama_plan: argument 'ollama_plan_requests' is of type str" in said
    assert "value of ollama_plan_on_misfit must be one of: fail, subset, got: shrug" in said


def test_a_value_is_judged_by_what_it_comes_to():
    variables = {"ollama_plan_requests": "{{ 2 * 2 }}", "ollama_plan": "{{ of_another_task }}"}
    given = given_values(["ollama_plan_requests", "ollama_plan_wanted"], variables, lambda one: dict.fromkeys(one, 4))
    assert given == {"ollama_plan_requests": 4}
    assert unfit_values("ollama_plan", given) == []


def test_every_role_is_looked_after():
    assert set(FACTS) == {path.name for path in ROLES.iterdir()}


@pytest.mark.parametrize("role", sorted(FACTS))
def test_what_a_role_documents_as_a_fact_is_known_and_the_other_way_round(role):
    readme = (ROLES / role / "README.md").read_text()
    outbound = {name for name in OUTBOUND.findall(readme.partition("| Outbound")[2]) if name != role}
    assert outbound <= FACTS[role]
    documented = readme + (ROLES / role / "meta" / "argument_specs.yml").read_text()
    assert [name for name in FACTS[role] if name not in documented] == []
