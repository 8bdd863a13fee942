# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's defaults, its argument specification, its README and the playbooks name the same variables and values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import KEEP_FREE_BYTES
from ansible_collections.gpufleet.ollama.plugins.modules import ollama_model, ollama_plan
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

ROLES = sorted(path.parent.parent for path in (CHECKOUT / "roles").glob("*/tasks/main.yml"))


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def main_options(role: Path) -> dict:
    return load(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options", {})


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
class TestRole:
    def test_every_default_is_specified_with_the_same_value(self, role: Path) -> None:
        defaults = load(role / "defaults/main.yml") or {}
        specified = {name: option["default"] for name, option in main_options(role).items() if "default" in option}
        assert specified == defaults

    def test_every_variable_without_a_default_is_required_or_optional_on_purpose(self, role: Path) -> None:
        without = {name: option for name, option in main_options(role).items() if "default" not in option}
        unexplained = [name for name, option in without.items() if not option.get("description")]
        assert unexplained == []

    def test_every_variable_carries_the_role_s_name(self, role: Path) -> None:
        assert [name for name in main_options(role) if not name.startswith(role.name + "_")] == []

    def test_every_entry_point_is_specified(self, role: Path) -> None:
        specs = load(role / "meta/argument_specs.yml")["argument_specs"]
        included = {
            name
            for path in (role / "tasks").glob("*.yml")
            for name in (other.stem for other in (role / "tasks").glob("*.yml"))
            if f"{name}.yml" in path.read_text(encoding="utf-8")
        }
        entry_points = {path.stem for path in (role / "tasks").glob("*.yml")} - included
        assert entry_points <= set(specs)

    def test_the_readme_names_every_variable(self, role: Path) -> None:
        readme = (role / "README.md").read_text(encoding="utf-8")
        assert [name for name in main_options(role) if f"`{name}`" not in readme] == []


# A play has no role whose defaults it could read, and says the default again beside each variable.
SAID_AGAIN = re.compile(r"\b((?:ollama|gpufleet)_\w+) \| default\((\[[^]]*\]|[^()]*)\)")
# What the table of all variables calls so is 0 in the plays, which compute with it.
DEFAULT_OF_A_PLAY = {"gpufleet_survive": 0, "gpufleet_placement_file": ""}


def specified() -> dict:
    options = load(CHECKOUT / "playbooks/vars/argument_specs.yml")
    for role in ROLES:
        options |= main_options(role)
    return {name: option.get("default", DEFAULT_OF_A_PLAY.get(name)) for name, option in options.items()}


@pytest.mark.parametrize("path", sorted((CHECKOUT / "playbooks").rglob("*.yml")), ids=lambda path: path.name)
def test_the_plays_say_the_defaults_that_are_specified(path: Path) -> None:
    defaults = specified()
    said = [(name, text) for name, text in SAID_AGAIN.findall(path.read_text(encoding="utf-8")) if name in defaults]
    wrong = [
        (name, text) for name, text in said if text != "omit" and yaml.safe_load(text) != defaults[name]
    ]
    assert wrong == []


def test_what_stays_free_of_a_disk_is_one_number() -> None:
    assert KEEP_FREE_BYTES == 1 << 30
    defaults = specified()
    documented = [yaml.safe_load(module.DOCUMENTATION)["options"] for module in (ollama_model, ollama_plan)]
    assert {
        defaults["ollama_pull_keep_free_bytes"],
        defaults["ollama_plan_pull_keep_free_bytes"],
        documented[0]["keep_free_bytes"]["default"],
        documented[1]["pull_keep_free_bytes"]["default"],
    } == {KEEP_FREE_BYTES}
