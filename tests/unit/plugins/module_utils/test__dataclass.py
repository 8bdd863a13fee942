# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our frozen dataclasses are to their users what Python's own are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass as ours


def classes(dataclass: Callable[..., Any]) -> dict[str, Any]:
    """The same classes, made by a decorator."""

    @dataclass(frozen=True)
    class Single:
        size: int

    @dataclass(frozen=True)
    class Card:
        name: str
        size: int = 8
        seen: list[int] = dataclasses.field(default_factory=list, compare=False, repr=False)

        @property
        def doubled(self) -> int:
            return 2 * self.size

    @dataclass(frozen=True)
    class Named(Card):
        label: str = ""

    @dataclass(frozen=True)
    class Checked:
        size: int

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError(f"size is {self.size}")

        def __hash__(self) -> int:
            return 7

    @dataclass(frozen=True)
    class Nothing:
        pass

    return {one.__name__: one for one in (Single, Card, Named, Checked, Nothing)}


OURS, PYTHONS = classes(ours), classes(dataclasses.dataclass)
MADE = {
    "one field": lambda of: of["Single"](3),
    "defaults": lambda of: of["Card"]("a"),
    "all fields": lambda of: of["Card"]("a", 9, [1]),
    "another list, which is not compared": lambda of: of["Card"]("a", 9, [2]),
    "another size": lambda of: of["Card"]("a", size=10),
    "fields of the class below": lambda of: of["Named"]("a", 8, label="b"),
    "a class without a label that is otherwise alike": lambda of: of["Named"]("a"),
    "a hash of its own": lambda of: of["Checked"](1),
    "no field": lambda of: of["Nothing"](),
    "replaced": lambda of: dataclasses.replace(of["Card"]("a"), size=12),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_an_instance_looks_and_hashes_alike(make: Callable[[dict[str, Any]], Any]) -> None:
    ours, pythons = make(OURS), make(PYTHONS)
    assert repr(ours) == repr(pythons)
    assert hash(ours) == hash(pythons)
    assert dataclasses.asdict(ours) == dataclasses.asdict(pythons)
    assert [one.name for one in dataclasses.fields(ours)] == [one.name for one in dataclasses.fields(pythons)]


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_instances_are_equal_to_the_same_ones(make: Callable[[dict[str, Any]], Any]) -> None:
    equal = {name: make(OURS) == other(OURS) for name, other in MADE.items()}
    assert equal == {name: make(PYTHONS) == other(PYTHONS) for name, other in MADE.items()}
    assert any(equal.values())
    assert make(OURS) != make(PYTHONS)


def test_what_has_no_value_is_refused_and_what_is_wrong_is_too() -> None:
    for of in (OURS, PYTHONS):
        with pytest.raises(TypeError, match="size"):
            of["Single"]()
        with pytest.raises(ValueError, match="size is -1"):
            of["Checked"](-1)


def test_one_that_is_not_frozen_is_pythons_own() -> None:
    @ours
    class Counter:
        count: int = 0

    counter = Counter()
    counter.count += 1
    assert counter == Counter(1)
    assert Counter.__hash__ is None
