# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of the project name nothing that does not exist, and what they show as YAML and inventories is right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import FACTS
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT as ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "roles").glob("*/README.md"))]
INVENTORIES = sorted((ROOT / "docs/examples").glob("*/inventory.yml"))
FENCE = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, text in enumerate(FENCE.findall(page.read_text(encoding="utf-8")), 1)
] + [
    pytest.param(file.read_text(encoding="utf-8"), id=str(file.relative_to(ROOT)))
    for file in sorted((ROOT / "docs/examples").rglob("*.yml"))
]
# A variable of a role, not the file name that starts with one.
ROLE_VARIABLE = re.compile(r"\b(?:ollama_(?:plan|pull|override|verify|report|benchmark)_[a-z_]+)\b(?!\.(?:yml|json|py|j2))")
PLAYBOOK_VARIABLE = re.compile(r"(?<!__)\bgpufleet_[a-z_]+\b")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def known_role_variables() -> set[str]:
    names = set().union(*FACTS.values())
    for specs in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry_point in yaml.safe_load(specs.read_text(encoding="utf-8"))["argument_specs"].values():
            names |= set(entry_point.get("options", {}))
    return names


def known_playbook_variables() -> set[str]:
    used = [*ROOT.glob("playbooks/*.yml"), *ROOT.glob("roles/*/defaults/main.yml")]
    return {name for path in used for name in PLAYBOOK_VARIABLE.findall(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("example", EXAMPLES)
class TestExample:
    def test_it_is_yaml(self, example: str) -> None:
        assert yaml.safe_load(example) is not None

    def test_the_parts_of_the_collection_that_it_names_exist(self, example: str) -> None:
        for name in re.findall(r"\bgpufleet\.ollama\.([a-z_]+)", example):
            places = [f"plugins/modules/{name}.py", f"roles/{name}", f"playbooks/{name}.yml", f"plugins/filter/{name}.py"]
            assert any((ROOT / place).exists() for place in places), name

    def test_its_variables_exist(self, example: str) -> None:
        assert set(ROLE_VARIABLE.findall(example)) - known_role_variables() == set()
        facts = {"gpufleet_gpu"}
        assert set(PLAYBOOK_VARIABLE.findall(example)) - known_playbook_variables() - facts == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
class TestPage:
    def test_the_role_variables_that_it_names_exist(self, page: Path) -> None:
        assert set(ROLE_VARIABLE.findall(page.read_text(encoding="utf-8"))) - known_role_variables() == set()

    def test_its_links_to_files_lead_somewhere(self, page: Path) -> None:
        targets = [target for target, _anchor in LINK.findall(page.read_text(encoding="utf-8"))]
        assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.parent.name)
class TestInventory:
    def test_ansible_reads_it_and_finds_hosts_in_the_group_of_the_playbooks(self, inventory: Path) -> None:
        program = Path(sys.executable).with_name("ansible-inventory")
        answer = subprocess.run(
            [program, "-i", inventory, "--list", "--limit", "ollama"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "WARNING" not in answer.stderr
        assert json.loads(answer.stdout)["_meta"]["hostvars"]

    def test_every_file_of_variables_belongs_to_a_group_or_host_of_it(self, inventory: Path) -> None:
        program = Path(sys.executable).with_name("ansible-inventory")
        answer = subprocess.run(
            [program, "-i", inventory, "--list"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        listed = json.loads(answer.stdout)
        names = {*listed, *(host for group in listed.values() for host in group.get("hosts", []))}
        files = [*inventory.parent.glob("group_vars/*.yml"), *inventory.parent.glob("host_vars/*.yml")]
        assert [file.name for file in files if file.stem not in names] == []
