# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module is asked with, by the variables of its role."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import ARGUMENT_SPEC
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._plan_options import (
    PRIVATE,
    described_models,
    plan_options,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

ALL = ["gpu", "models", "service", "server", "measured"]
GPU = {"devices": []}
ROLE = CHECKOUT / "roles" / "ollama_plan"


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ({}, {}),
        ({"ollama_plan_requests": "2", "ollama_plan_nothing": 1, "other": 2}, {"requests": "2"}),
        ({"ollama_plan_model_descriptions": [{"name": "a"}], "ollama_plan_gather_models": True}, {"models": [{"name": "a"}]}),
        ({"ollama_plan_measured": {"a": 1}, "ollama_plan_use_measured": "no", "ollama_plan_gather_models": "yes"}, {}),
        ({"__ollama_plan_compare": True, "__ollama_plan_refusals": ["x"]}, {"compare": True, "refusals": ["x"]}),
    ],
)
def test_options_are_the_variables_of_their_names(values, options):
    found = plan_options(values, ARGUMENT_SPEC)
    found.pop("gather")
    assert found == options


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({}, ALL),
        ({"ollama_plan_gpu": {}, "ollama_plan_measured": {}}, ALL),
        ({"ollama_plan_gpu": GPU}, ["models"]),
        ({"ollama_plan_gpu": GPU, "ollama_plan_model_descriptions": ["a"]}, []),
        ({"ollama_plan_gpu": GPU, "ollama_plan_gather_models": "no"}, []),
        ({"ollama_plan_gpu": GPU, "ollama_plan_gather_environment": "true"}, ["models", "service"]),
        ({"ollama_plan_gather_environment": False}, ["gpu", "models", "server", "measured"]),
        ({"ollama_plan_model_descriptions": ["a"]}, ["gpu", "service", "server", "measured"]),
        ({"ollama_plan_measured": {"a": 1}}, ALL[:-1]),
        ({"ollama_plan_use_measured": "no"}, ALL[:-1]),
    ],
)
def test_what_nobody_describes_is_read(values, parts):
    assert plan_options(values, ARGUMENT_SPEC)["gather"] == parts


@pytest.mark.parametrize(
    ("given", "models"),
    [
        ([], []),
        ("", []),
        ([{"name": "a"}], [{"name": "a"}]),
        ('[{"name": "a"}]\n', [{"name": "a"}]),
    ],
)
def test_models_are_described_as_a_list_or_as_json_text(given, models):
    assert described_models(given) == models


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("a, b", "and the text is no JSON: Expecting value"),
        ('{"name": "a"}', "found {'name': 'a'}"),
        ({"name": "a"}, "found {'name': 'a'}"),
        (["a"], "found ['a']"),
        ("5", "found 5"),
    ],
)
def test_a_description_that_is_none_is_refused(given, says):
    with pytest.raises(ValueError, match=r"^models \(ollama_plan_model_descriptions\) must be a list of") as error:
        described_models(given)
    assert says in str(error.value)


def test_every_variable_of_the_role_is_an_option_or_decides_one():
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    shown = {"ollama_plan_json_path", "ollama_plan_details_up_to"}
    named = {f"ollama_plan_{name}" for name in ARGUMENT_SPEC} | {"ollama_plan_model_descriptions"}
    assert set(defaults) - named == {*shown, "ollama_plan_use_measured"}


def test_what_the_playbooks_set_besides_is_known():
    entries = [ROLE / "tasks" / f"{name}.yml" for name in ("compute", "compare", "inputs")]
    files = [*(CHECKOUT / "playbooks").rglob("*.yml"), *entries]
    found = {name for path in files for name in re.findall(r"__ollama_plan_\w+(?=:)", path.read_text())}
    assert found == set(PRIVATE)
