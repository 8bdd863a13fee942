# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One dialect in docstrings and imports, beyond what ruff can hold."""

from __future__ import annotations

import ast
import collections.abc
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

PLUGINS = CHECKOUT / "plugins"
ROOMS = PLUGINS / "module_utils"
# What hosts run, which `ansible-test sanity` imports with Python 3.8 too.
ON_HOSTS = ("module_utils", "modules")

FOREIGN = {
    "marks up as ansible-doc does, write `name`": re.compile(r"\b[CVM]\("),
    "breaks the line behind 'Raises:'": re.compile(r"^ *Raises:$", re.MULTILINE),
    "says what the test of the walls knows": re.compile(r"(\A|\s)(Edge|Pure)[.:]"),
}


def docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""


def complaints(source: str) -> list[str]:
    return [
        why for text in docstrings(ast.parse(source)) for why, sign in FOREIGN.items() if sign.search(text)
    ]


class Evaluated(ast.NodeTransformer):
    """A file without its annotations, which are text by the __future__ import."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return self.visit(node.value) if node.value else None


def subscripted(source: str) -> set[str]:
    """The names that the file subscripts when it is loaded or runs."""
    tree = Evaluated().visit(ast.parse(source))
    return {
        node.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)
    }


def misplaced(source: str, *, on_hosts: bool) -> set[str]:
    """Names that come from the wrong one of typing and collections.abc, and types that Python 3.8 cannot subscript."""
    evaluated = subscripted(source) if on_hosts else set()
    imported = {
        module: {
            alias.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ImportFrom) and node.module == module
            for alias in node.names
        }
        for module in ("typing", "collections.abc")
    }
    return (
        (imported["typing"] & set(collections.abc.__all__)) - evaluated
        | imported["collections.abc"] & evaluated
        | {"dict", "frozenset", "list", "set", "tuple", "type"} & evaluated
    )


def named(path: Path) -> str:
    return str(path.relative_to(PLUGINS))


def test_docstrings_of_the_rooms_speak_one_dialect() -> None:
    found = {named(path): complaints(path.read_text(encoding="utf-8")) for path in ROOMS.rglob("*.py")}
    assert len(found) > 100
    assert {name: why for name, why in found.items() if why} == {}


def test_names_come_from_where_every_python_can_use_them() -> None:
    found = {
        named(path): misplaced(path.read_text(encoding="utf-8"), on_hosts=named(path).startswith(ON_HOSTS))
        for path in PLUGINS.rglob("*.py")
    }
    assert len(found) > 100
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("docstring", "is_refused"),
    [
        ("What C(systemctl show) says.", True),
        ("What `systemctl show` says.", False),
        ("Edge: what systemctl says.", True),
        ("Text in, text out. Pure.", True),
        ("Reads it.\n\n    Raises:\n        OSError: It cannot.\n    ", True),
        ("Reads it.\n\n    Raises: OSError when it cannot.\n    ", False),
        ("Source: strconv.ParseInt(s, 10, 64), pure Go.", False),
    ],
)
def test_another_dialect_is_found(docstring: str, is_refused: bool) -> None:
    assert bool(complaints(f'"""{docstring}"""')) is is_refused


@pytest.mark.parametrize(
    ("source", "on_hosts", "found"),
    [
        ("from typing import Mapping", True, {"Mapping"}),
        ("from typing import Any, Tuple", True, set()),
        ("from typing import Callable\nRun = Callable[[str], str]", True, set()),
        ("from typing import Callable\nRun = Callable[[str], str]", False, {"Callable"}),
        ("from collections.abc import Callable\nRun = Callable[[str], str]", True, {"Callable"}),
        ("from collections.abc import Callable\nRun = Callable[[str], str]", False, set()),
        (
            "from collections.abc import Mapping\ndef f(x: Mapping[str, str]) -> Mapping[str, str]: ...",
            True,
            set(),
        ),
        ("Names = list[str]", True, {"list"}),
        ("names: list[str] = []", True, set()),
    ],
)
def test_a_name_from_the_wrong_place_is_found(source: str, on_hosts: bool, found: set[str]) -> None:
    assert misplaced(source, on_hosts=on_hosts) == found
