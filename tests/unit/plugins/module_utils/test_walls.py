# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walls of the house: which room may import which, read from the source of every file."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from functools import lru_cache

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT
from graphlib import TopologicalSorter

ROOMS = CHECKOUT / "plugins" / "module_utils"
TESTS = CHECKOUT / "tests" / "unit" / "plugins" / "module_utils"
PACKAGE = "ansible_collections.gpufleet.ollama.plugins.module_utils."

# The pure rooms, the lowest first: each may import those before it.
FLOORS = ("versions", "model", "memory", "scheduler", "planning", "placement")
# What every room may use.
SHARED = ("_dataclass", "_lines", "_remembered", "_sizes")
# The other rooms, and which they may import. Nobody else imports planning or the report.
BESIDE: Mapping[str, Collection[str]] = {
    "bounds": (),
    "systemd": ("bounds",),
    "ollama": ("bounds", "systemd", "versions", "model"),
    "gpu": ("bounds", "systemd", "ollama", "versions"),
    "benchmark": ("bounds", "systemd", "model", "ollama", "gpu"),
    "report": (),
}
# Where a pure room reads on in a room beside it, because a word is parsed or a fact described there.
LENT: Mapping[str, Collection[str]] = {
    "report": ("systemd._secrets",),
    "scheduler": ("ollama._go_text", "ollama._settings", "ollama._values"),
    "placement": ("gpu._device", "ollama._names"),
    "planning": (
        "benchmark._conditions",
        "benchmark._measured",
        "gpu._admission",
        "gpu._cards",
        "gpu._device",
        "gpu._taken",
        "gpu._vendors",
        "gpu._visibility",
        "ollama._names",
        "ollama._server_log",
        "ollama._settings",
        "systemd._arguments",
        "systemd._assignments",
        "systemd._secrets",
    ),
}
# Tables whose rows open the file of an edge when it is asked for: nothing of it is loaded with the table, which is tried below.
OPENED_WHEN_ASKED = ("gpu._vendors",)
# By these a file can reach the world outside, and is an edge.
WORLD = {
    *(
        "ansible",
        "ctypes",
        "fcntl",
        "glob",
        "http",
        "importlib",
        "io",
        "multiprocessing",
        "os",
        "pathlib",
        "pwd",
    ),
    *(
        "random",
        "select",
        "shutil",
        "signal",
        "socket",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib",
    ),
}


def imports(source: str, *, at_once: bool = False) -> set[str]:
    """The modules that a file imports: `room._file` of ours, else the first part of the name.

    `at_once`: only those that are loaded with the file, not those that a function of it imports when it is called.
    """
    found = set()
    module = ast.parse(source)
    for node in module.body if at_once else ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            is_room = module.startswith(PACKAGE[:-1]) and not module.rpartition(".")[2].startswith("_")
            found |= {f"{module}.{alias.name}" for alias in node.names} if is_room else {module}
    return {
        name[len(PACKAGE) :] if name.startswith(PACKAGE) else name.partition(".")[0]
        for name in found - {"__future__", "urllib.parse"}  # the latter only takes text apart
    }


@lru_cache(maxsize=None)
def house() -> dict[str, set[str]]:
    """What each file imports, by its name as `room._file`."""
    names = {".".join(path.relative_to(ROOMS).with_suffix("").parts): path for path in ROOMS.rglob("*.py")}
    return {
        name: imports(path.read_text(encoding="utf-8"), at_once=name in OPENED_WHEN_ASKED)
        for name, path in names.items()
    }


def room_of(name: str) -> str:
    return name.partition(".")[0]


def may_import(room: str) -> set[str]:
    """The rooms that a room may import, itself among them."""
    below = FLOORS[: FLOORS.index(room)] if room in FLOORS else BESIDE[room]
    return {room, *SHARED, *below}


def breaches(files: Mapping[str, Collection[str]]) -> set[tuple[str, str]]:
    """Each import, as (file, imported file), that goes through a wall."""
    return {
        (name, imported)
        for name, imported_names in files.items()
        for imported in imported_names
        if room_of(imported) in {*FLOORS, *BESIDE}
        and room_of(imported) not in may_import(room_of(name))
        and imported not in LENT.get(room_of(name), ())
    }


def edges(files: Mapping[str, Collection[str]]) -> set[str]:
    """The files that can reach the world, by themselves or by what they import."""
    found: set[str] = set()
    while True:
        more = {name for name, imported in files.items() if WORLD & set(imported) or found & set(imported)}
        if more == found:
            return found
        found = more


def test_every_room_has_its_place() -> None:
    assert {room_of(name) for name in house()} == {*FLOORS, *BESIDE, *SHARED}


def test_nothing_imports_an_upper_floor_or_a_room_that_it_has_no_door_to() -> None:
    assert breaches(house()) == set()


def test_no_generation_of_memory_rules_knows_another() -> None:
    generations = ("memory.before_0_30.", "memory.llama_server.")
    for own, other in (generations, generations[::-1]):
        of_other = {one for name, names in house().items() if name.startswith(own) for one in names}
        assert {one for one in of_other if one.startswith(other)} == set()


def test_every_file_of_a_pure_room_has_a_test_of_its_own() -> None:
    tests = {
        ".".join(path.relative_to(TESTS).with_suffix("").parts).replace(".test_", ".")
        for path in TESTS.rglob("test__*.py")
    }
    pure = {name for name in house() if room_of(name) in FLOORS}
    assert pure - tests == set()


def test_every_door_is_used() -> None:
    taken = {(room_of(name), imported) for name, names in house().items() for imported in names}
    for room, lent in LENT.items():
        assert {one for one in lent if (room, one) not in taken} == set()
    rooms = {(room, room_of(imported)) for room, imported in taken}
    for room, others in BESIDE.items():
        assert {other for other in others if (room, other) not in rooms} == set()


def test_the_pure_rooms_know_no_edge() -> None:
    assert {name for name in edges(house()) if room_of(name) in (*FLOORS, "report", *SHARED)} == set()


def test_no_edge_is_loaded_with_the_pure_rooms() -> None:
    pure = [name for name in house() if room_of(name) in (*FLOORS, "report", *SHARED)]
    script = f"import importlib, sys\nfor name in {pure}: importlib.import_module({PACKAGE!r} + name)\nprint(*sys.modules)"
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", script], env=surroundings, capture_output=True, text=True, check=True
    )
    loaded = {name[len(PACKAGE) :] for name in run.stdout.split() if name.startswith(PACKAGE)}
    assert loaded >= set(pure)
    assert loaded & edges(house()) == set()


def test_what_plugins_share_knows_none_of_them() -> None:
    shared = [path for folder in ("module_utils", "plugin_utils") for path in (CHECKOUT / "plugins" / folder).rglob("*.py")]
    above = [f"{PACKAGE.removesuffix('module_utils.')}{kind}" for kind in ("action", "filter", "modules")]
    found = {path.name: [one for one in above if f"{one}." in path.read_text(encoding="utf-8")] for path in shared}
    assert len(found) > 100
    assert {name: names for name, names in found.items() if names} == {}


def test_no_circle() -> None:
    TopologicalSorter({name: imported & set(house()) for name, imported in house().items()}).prepare()
    TopologicalSorter(BESIDE).prepare()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (f"from {PACKAGE}memory._start import Launch, Engine", {"memory._start"}),
        (f"from {PACKAGE}memory.before_0_30 import _formula", {"memory.before_0_30._formula"}),
        (f"from {PACKAGE}_sizes import MIB", {"_sizes"}),
        (f"import {PACKAGE}memory._start", {"memory._start"}),
        ("def late():\n    import os.path, re", {"os", "re"}),
        ("from __future__ import annotations\nfrom urllib.request import urlopen", {"urllib"}),
        ("from urllib.parse import quote", set()),
    ],
)
def test_an_import_is_seen_however_it_is_written(source: str, found: set[str]) -> None:
    assert imports(source) == found


def test_what_is_opened_when_asked_is_told_from_what_is_loaded_at_once() -> None:
    assert imports("import re\ndef late():\n    import os", at_once=True) == {"re"}


@pytest.mark.parametrize(
    ("name", "imported", "is_breach"),
    [
        ("memory._start", "model._shape", False),
        ("memory._start", "scheduler._model", True),
        ("model._shape", "memory.llama_server.graph._graph", True),
        ("scheduler._server", "planning._plan", True),
        ("scheduler._server_settings", "ollama._go_text", False),
        ("scheduler._server", "ollama._api", True),
        ("ollama._api", "planning._plan", True),
        ("gpu._gather", "memory._estimate", True),
        ("systemd._show", "ollama._api", True),
        ("report._report", "planning._plan", True),
    ],
)
def test_a_breach_is_found(name: str, imported: str, is_breach: bool) -> None:
    assert breaches({name: {imported}}) == ({(name, imported)} if is_breach else set())


def test_a_file_is_an_edge_by_whatever_it_imports_too() -> None:
    files = {"a._reader": {"os"}, "a._parser": {"re"}, "b._user": {"a._reader"}, "c._far": {"b._user"}}
    assert edges(files) == {"a._reader", "b._user", "c._far"}
