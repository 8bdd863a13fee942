# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Described hosts make of their variables what the task that reads a host makes of them, and all else is left to that task."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.gpufleet.ollama.plugins.action import ollama_plan
from ansible_collections.gpufleet.ollama.plugins.plugin_utils import _described_hosts
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._described_hosts import (
    DescribedHosts,
    set_by_the_play,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import header

CARD = {"devices": [{"name": "card", "memory_total_bytes": 24 << 30}]}
MODELS = [{"name": "gemma3:4b", "header": header("gemma3:4b")}]
DESCRIBED = {"ollama_plan_gpu": CARD, "ollama_plan_model_descriptions": MODELS, "ollama_plan_version": "0.33.0"}


@pytest.fixture
def hostvars(tmp_path):
    """`hostvars(a={...})` is the variables of hosts as a run has them; those of their group are the described ones."""

    def make(group=None, **hosts):
        file = tmp_path / "inventory.yml"
        every = {"hosts": hosts, "vars": DESCRIBED if group is None else group}
        file.write_text(yaml.safe_dump({"ollama": every}))
        loader = DataLoader()
        inventory = InventoryManager(loader=loader, sources=[str(file)])
        return HostVars(inventory, VariableManager(loader=loader, inventory=inventory), loader)

    return make


@pytest.fixture
def read(action_of):
    """`read(hostvars, 'a')` is what the task that reads a host leaves of it."""

    def make(known, name):
        given = {"role_variables": True, "only_inputs": True}
        variables = {**_described_hosts.DEFAULTS, **{key: known[name][key] for key in known[name]}}
        variables |= {"ollama_plan_wanted": ["gemma3:4b"], "ollama_plan_min_parallel": 1, "inventory_hostname": name}
        result = action_of(ollama_plan.ActionModule, "ollama_plan", given).run(task_vars=variables)
        return json.loads(result["inputs_json"])

    return make


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"ollama_plan_min_parallel": 7, "ollama_plan_wanted": ["another"]},
        {"ollama_plan_max_parallel": 8, "ollama_plan_kv_cache_types": ["f16", "q8_0"]},
        {"ollama_plan_headroom_bytes": "{{ gib * 2 }}", "gib": 1 << 30},
        {"ollama_plan_model_descriptions": json.dumps(MODELS)},
        {"ollama_plan_operator_environment": {"OLLAMA_NUM_PARALLEL": "3", "A_TOKEN": "secret"}},
        {"ollama_plan_measured": {"knee": 4}, "ollama_plan_use_measured_memory": True},
        {"ollama_plan_measured": {"knee": 4}, "ollama_plan_use_measured": False},
    ],
)
def test_a_described_host_is_as_its_task_would_read_it(hostvars, read, variables) -> None:
    known = hostvars(a=variables)
    found = DescribedHosts({"hostvars": known}, ["gemma3:4b"]).inputs_json("a")
    assert found is not None
    assert json.loads(found) == read(known, "a")


@pytest.mark.parametrize(
    "variables",
    [
        # It has to be read.
        {"ollama_plan_gpu": {}},
        {"ollama_plan_gather_models": True},
        {"ollama_plan_gather_environment": True},
        {"ollama_plan_model_descriptions": []},
        # What is wrong is said by the task.
        {"ollama_plan_max_paralel": 4},
        {"ollama_plan_max_parallel": "many"},
        {"ollama_plan_model_descriptions": "{"},
        {"ollama_plan_gpu": "{{ undefined_variable }}"},
        {"ollama_plan_gpu": "{{ 1 / 0 }}"},
        {"ollama_plan_gpu": "card"},
    ],
)
def test_everything_else_is_left_to_the_task_that_reads_a_host(hostvars, variables) -> None:
    known = hostvars(a=variables, b={})
    described = DescribedHosts({"hostvars": known}, ["gemma3:4b"])
    assert described.inputs_json("a") is None
    assert described.inputs_json("b") is not None


def test_a_host_whose_facts_would_choose_is_left_to_the_task(hostvars) -> None:
    known = hostvars(a={})
    facts = {"ansible_facts": {"ollama_plan_version": "0.1"}}
    assert DescribedHosts({"hostvars": {"a": {**DESCRIBED, **facts}}}, []).inputs_json("a") is None
    assert DescribedHosts({"hostvars": known}, []).inputs_json("a") is not None


def test_what_hosts_share_is_resolved_and_made_once_and_what_differs_is_not(hostvars, monkeypatch) -> None:
    made = []
    monkeypatch.setattr(_described_hosts, "placement_inputs", lambda options, _host: made.append(options) or {"n": len(made)})
    of_its_own = {"ollama_plan_headroom_bytes": "{{ room }}"}
    known = hostvars(a={}, b={}, c={**of_its_own, "room": 1}, d={**of_its_own, "room": 2}, e={**of_its_own, "room": 1})
    described = DescribedHosts({"hostvars": known}, ["gemma3:4b"])
    texts = {name: described.inputs_json(name) for name in "abcde"}
    assert texts == {"a": '{"n":1}', "b": '{"n":1}', "c": '{"n":2}', "d": '{"n":3}', "e": '{"n":2}'}
    assert [options["headroom_bytes"] for options in made] == [0, 1, 2]


def test_what_the_play_sets_is_told_from_what_the_inventory_says(hostvars) -> None:
    known = hostvars(a={})
    variables = {"hostvars": known, "inventory_hostname": "a", **known.raw_get("a")}
    assert set_by_the_play(variables) == []
    assert set_by_the_play({**variables, "ollama_plan_version": "0.30.0"}) == ["ollama_plan_version"]
    changed = {**variables, "ollama_plan_spread": "never"}
    assert set_by_the_play(changed) == ["ollama_plan_spread"]
    assert DescribedHosts(variables, []).inputs_json("a") is not None
    assert DescribedHosts(changed, []).inputs_json("a") is None
