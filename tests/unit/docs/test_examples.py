# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every YAML example in the README files and in docs/ parses, and the variables and names that it uses exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "roles").glob("*/README.md"))]
FENCE = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, text in enumerate(FENCE.findall(page.read_text(encoding="utf-8")), 1)
]
ROLE_VARIABLE = re.compile(r"\b(?:ollama_(?:plan|service|verify|report)_[a-z_]+)\b")


def known_role_variables() -> set[str]:
    names = set()
    for specs in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry_point in yaml.safe_load(specs.read_text(encoding="utf-8"))["argument_specs"].values():
            names |= set(entry_point.get("options", {}))
    return names


@pytest.mark.parametrize("example", EXAMPLES)
class TestExample:
    def test_it_is_yaml(self, example: str) -> None:
        assert yaml.safe_load(example) is not None

    def test_its_role_variables_exist(self, example: str) -> None:
        results = {"ollama_verify_result", "ollama_plan"}
        assert set(ROLE_VARIABLE.findall(example)) - known_role_variables() - results == set()

    def test_the_parts_of_the_collection_that_it_names_exist(self, example: str) -> None:
        for name in re.findall(r"\bgpufleet\.ollama\.([a-z_]+)", example):
            places = [f"plugins/modules/{name}.py", f"roles/{name}", f"playbooks/{name}.yml", f"plugins/filter/{name}.py"]
            assert any((ROOT / place).exists() for place in places), name
