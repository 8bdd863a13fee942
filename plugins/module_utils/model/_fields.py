# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the fields of a dataclass against the kinds that it declares: its data may come from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

# No size in bytes, length or count of a model comes near this.
MAX_NUMBER = 2**50
MAX_SHOWN = 40


def is_number(value: Any) -> bool:
    """Whether a value is a whole number that a size, a length or a count can be."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER


# By annotation: what a value must fulfil, and how that is called.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "int": (is_number, f"a whole number from 0 to {MAX_NUMBER}"),
    "int | None": (lambda value: value is None or is_number(value), f"a whole number up to {MAX_NUMBER}"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "str": (lambda value: isinstance(value, str), "a text"),
    "Mapping[str, int]": (
        lambda value: isinstance(value, Mapping) and all(map(is_number, value.values())),
        "a mapping of whole numbers",
    ),
    "Mapping[str, Any]": (lambda value: isinstance(value, Mapping), "a mapping"),
}
# The types of values that need no closer look.
_USUAL_TYPES = {"bool": bool, "str": str}


def check_fields(record: Any, of: str) -> None:
    """Check the numbers, texts, flags and mappings of a dataclass; what it is made of else is its own concern.

    of: what the record stands for, in the message.
    Raises: ValueError naming the field that is of another kind or out of bounds.
    """
    declared: Any = type(record)
    for name, fulfils, kind in _checks_of(declared):
        value = getattr(record, name)
        if not fulfils(value):
            raise ValueError(f"{name} of {of} is {shown(value)}, expected {kind}")


def check_all(records: Sequence[Any], of: Callable[[int], str]) -> None:
    """check_fields() of records of one kind; where nothing is unusual all of a field are looked at together.

    of: what the record of a number stands for. Raises: ValueError as check_fields() does, of the first record.
    """
    declared: Any = type(records[0])
    if all(_are_usual(kind, [getattr(one, name) for one in records]) for name, kind in _kinds_of(declared)):
        return
    for number, record in enumerate(records):
        check_fields(record, of(number))


def _are_usual(kind: str, values: Sequence[Any]) -> bool:
    """Whether values are surely of a kind, by their exact types; else each has to be looked at."""
    types = set(map(type, values))
    if kind == "int":
        return types == {int} and min(values) >= 0 and max(values) <= MAX_NUMBER
    if kind == "int | None":
        numbers = [value for value in values if value is not None]
        return not numbers or _are_usual("int", numbers)
    return types == {_USUAL_TYPES.get(kind)}


@lru_cache(maxsize=64)
def _kinds_of(record_type: Any) -> tuple[tuple[str, str], ...]:
    return tuple((one.name, str(one.type)) for one in fields(record_type) if str(one.type) in _KINDS)


@lru_cache(maxsize=64)
def _checks_of(record_type: Any) -> tuple[tuple[str, Callable[[Any], bool], str], ...]:
    """The fields of a dataclass that are checked, with what each must fulfil and how that is called."""
    return tuple((name, *_KINDS[kind]) for name, kind in _kinds_of(record_type))


def shown(value: Any) -> str:
    """A value as a message shows it: not longer than a line."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
