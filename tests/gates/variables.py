# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/variables.md, all variables in one table, from the argument specs; the unit tests fail where it is stale.

python tests/gates/variables.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "variables.md"
COSTS = Path(__file__).with_name("variables.yml")
HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- Made by tests/gates/variables.py from the argument specs (make variables): do not edit. -->
# All variables

What the playbooks and roles read, with what each default costs whoever leaves it as it is. A name that is nearly one of
these, and a value that does not fit, are refused before a host is changed. `-e` on the command line, the inventory, `vars`
of a play: all will do, but where a row says otherwise.

| Variable and default | What it is | What the default costs |
|---|---|---|
"""
# Markup of Ansible's documentation that stands for a name or a value.
_CODE = re.compile(r"\b[COVE]\(((?:[^()\\]|\\.|\([^()]*\))*)\)")
_PLUGIN = re.compile(r"\b[MP]\(gpufleet\.ollama\.([a-z_]+)(?:#[a-z]+)?\)")


def options() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every variable with its option: those of the playbooks, then role by role in the order of a run."""
    yield from read(ROOT / "playbooks" / "vars" / "argument_specs.yml").items()
    roles = sorted(path.parents[1].name for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
    first = [
        role for role in ("ollama_plan", "ollama_override", "ollama_verify", "ollama_report") if role in roles
    ]
    for role in [*first, *(role for role in roles if role not in first)]:
        entry_points = read(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
        found: dict[str, Mapping[str, Any]] = {}
        for spec in entry_points.values():
            for name, option in spec["options"].items():
                found.setdefault(name, option)
        yield from found.items()


def read(path: Path) -> dict[str, Any]:
    """A file of YAML."""
    told: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return told


def row(name: str, option: Mapping[str, Any], cost: str) -> str:
    """The row of a variable."""
    description = option["description"]
    text = description if isinstance(description, str) else " ".join(description)
    choices = f" One of {', '.join(f'`{one}`' for one in option['choices'])}." if "choices" in option else ""
    default = default_of(option)
    cells = (f"`{name}`{'<br>' if default else ''}{default}", markdown(text) + choices, cost.strip())
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def default_of(option: Mapping[str, Any]) -> str:
    """The default as one would write it; empty where there is none."""
    if option.get("default") is None:
        return ""
    default = option["default"]
    return f"`{default}`" if isinstance(default, str) and default else f"`{json.dumps(default)}`"


def markdown(text: str) -> str:
    """A description of Ansible's as Markdown."""
    text = _PLUGIN.sub(r"`\1`", text)
    return _CODE.sub(
        lambda match: "`" + match[1].replace("\\", "").rpartition(":")[2] + "`" if match[1] else '`""`', text
    )


def text() -> str:
    """The page."""
    costs = read(COSTS)
    return HEAD + "".join(row(name, option, costs.get(name, "")) for name, option in options())


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
    print(PAGE)
