# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as Ansible computes it: on the control node, from options that are checked, with no connection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible_collections.gpufleet.ollama.plugins.action.ollama_plan import ActionModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._arguments import ARGUMENT_SPEC
from ansible_collections.gpufleet.ollama.plugins.modules import ollama_plan

GIB = 1 << 30
HEADERS = Path(__file__).parents[4] / "tests" / "data" / "headers"
GEMMA = {"name": "gemma3:4b", "header": json.loads((HEADERS / "gemma3_4b.json").read_text())}
HOST = {"devices": [{"memory_total_bytes": 24 * GIB}]}


@pytest.fixture
def run_action(action_of):
    """`run_action(option=value, ...)` gives the result of the action for a host that nobody can reach."""

    def run(**options):
        return action_of(ActionModule, "ollama_plan", options).run(task_vars={"inventory_hostname": "gpu01"})

    return run


def test_a_plan_changes_nothing_and_is_plain_data(run_action):
    result = run_action(gpu=HOST, models=[GEMMA], version="0.33.0")
    assert result["changed"] is False
    assert result["plan"]["environment"]["OLLAMA_NUM_PARALLEL"] == "4"
    assert "warnings" not in result
    assert json.loads(json.dumps(result["plan"])) == result["plan"]


def test_values_may_come_as_text(run_action):
    result = run_action(gpu=HOST, models=[GEMMA], version="0.33.0", requests="2", lower_context="yes")
    assert result["plan"]["num_parallel"] == 2


def test_a_client_that_asks_for_more_context_is_seen_by_what_is_loaded(run_action):
    service = {"process_environment": {"OLLAMA_CONTEXT_LENGTH": "8192"}}
    loaded = [{"name": "gemma3:4b", "context_length": 65536, "expires_at": ""}]
    result = run_action(
        gpu=HOST, models=[GEMMA], version="0.33.0", context_length=8192, service=service, loaded=loaded
    )
    assert "gemma3:4b is loaded with 65536 tokens of context, above the planned 8192" in result["warnings"][0]


def test_warnings_name_the_host(run_action):
    result = run_action(gpu=HOST, models=[GEMMA])
    assert result["warnings"] == ["gpu01: the version of Ollama is not known: planned by the rules of 0.33.0"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gpu": {"devices": "none"}}, "GPU facts has 'none' as 'devices', expected a list"),
        ({"wanted": ["gema3:4b"]}, "'gema3:4b' is wanted but not installed; did you mean 'gemma3:4b'?"),
        (
            {"wanted": ["cloud"], "unplannable": [{"name": "cloud:latest", "reason": "it runs elsewhere"}]},
            "model 'cloud:latest' is wanted but cannot be planned: it runs elsewhere",
        ),
        ({"unplannable": [{"name": "cloud"}]}, "unplannable must be a list of mappings with name and reason"),
        (
            {"loaded": [{"name": "gemma3:4b"}]},
            "loaded must be a list of mappings with name and context_length",
        ),
        ({"requests": -1}, "requests must be a whole number from 1 to 256, found -1"),
        ({"models": [{"name": "broken", "header": {}}]}, "model 'broken' cannot be planned: "),
        ({"models": [{"header": {}}]}, "a model needs a name"),
        ({"service": {"variables": 3}}, "service must be what systemd_environment_info returned"),
        ({"version": "newest"}, "'newest' is not a version"),
    ],
)
def test_what_makes_no_sense_fails_in_one_sentence(run_action, options, sentence):
    result = run_action(**{"gpu": HOST, "models": [GEMMA], **options})
    assert result["failed"] is True
    assert sentence in result["msg"]
    assert "plan" not in result


@pytest.mark.parametrize(
    "options", [{"spread": "some"}, {"num_parallel": "three"}, {"paralel": 3}, {"gpu": None}]
)
def test_options_are_those_of_the_documentation(run_action, options):
    with pytest.raises(AnsibleError):
        run_action(**{"gpu": HOST, "models": [GEMMA], **options})


def test_the_documentation_states_every_option_with_its_default():
    documented = yaml.safe_load(ollama_plan.DOCUMENTATION)["options"]
    assert {name: option.get("default") for name, option in documented.items()} == {
        name: option.get("default") for name, option in ARGUMENT_SPEC.items()
    }


def test_every_field_of_a_plan_is_documented(run_action):
    documented = yaml.safe_load(ollama_plan.RETURN)["plan"]["contains"]
    assert set(run_action(gpu=HOST, models=[GEMMA])["plan"]) == set(documented)
