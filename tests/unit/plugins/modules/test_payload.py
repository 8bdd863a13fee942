# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What travels to a host with a module that every unchanged run executes: all it imports, and no room that only plans."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

PLUGINS = CHECKOUT / "plugins"
PACKAGE = "ansible_collections.gpufleet.ollama.plugins.module_utils"
# Bytes of our source that travel; Ansible packs it to a third.
MOST_BYTES = {"ollama_host_info": 566_000, "systemd_environment_info": 364_500}
# Modules that are executed on hosts; that of the plan is on the control node alone.
ON_HOSTS = sorted(
    path.stem
    for path in (PLUGINS / "modules").glob("*.py")
    if "import AnsibleModule" in path.read_text(encoding="utf-8") and path.stem != "ollama_plan"
)
# What only plans, reports or changes.
STAYS = (
    *("memory", "scheduler", "planning", "placement", "report"),
    *("versions._releases", "versions._engine_builds", "versions._engine_rules", "versions._gpu_rules"),
    *("gpu._admission", "systemd._dropin", "systemd._lock", "ollama._loading"),
)


def imported(path: Path) -> set[str]:
    """The files of ours that a file imports, wherever in it, by their names as `room._file`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            module = (node.module or "")[len(PACKAGE) + 1 :]
            names = [module] if file_of(module).is_file() else [f"{module}.{one.name}" for one in node.names]
            found.update(name.lstrip(".") for name in names)
    return found


def file_of(name: str, folder: str = "module_utils") -> Path:
    return PLUGINS / folder / f"{name.replace('.', '/')}.py"


def travelling(module: str) -> dict[str, Path]:
    """The files of ours that Ansible sends with a module, as its own search for them finds them."""
    found: dict[str, Path] = {module: file_of(module, "modules")}
    left = [module]
    while left:
        for name in imported(found[left.pop()]) - set(found):
            found[name] = file_of(name)
            left.append(name)
    return found


@pytest.mark.parametrize(("module", "most"), MOST_BYTES.items())
def test_what_travels_is_bounded(module: str, most: int) -> None:
    sizes = {name: path.stat().st_size for name, path in travelling(module).items()}
    assert len(sizes) > 30
    assert sum(sizes.values()) < most, sorted(sizes.items(), key=lambda pair: -pair[1])


@pytest.mark.parametrize("module", MOST_BYTES)
def test_what_only_the_control_node_needs_stays_there(module: str) -> None:
    names = travelling(module)
    assert [name for name in names if name in STAYS or name.partition(".")[0] in STAYS] == []


@pytest.mark.parametrize("module", ON_HOSTS)
def test_all_that_it_loads_is_compiled_once(module: str) -> None:
    statements = ast.parse(file_of(module, "modules").read_text(encoding="utf-8")).body
    written = [ast.unparse(statement) for statement in statements]
    ours = [text for text in written if PACKAGE in text or text == "compile_once()"]
    assert ours[:2] == [f"from {PACKAGE}.bounds._archive import compile_once", "compile_once()"]
