# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frozen dataclasses that are made, and have instances made, in a third of the time that Python's own take.

Python compiles six methods for each of them, and sets each field of an instance by a call: on a host, which loads some
seventy, that was a fifth of the loading, and of what a question to the planner loads half. Here five of the six are the same
for all. Nothing is checked while it runs: that no field is set a second time is what mypy checks, for which this is Python's own.
Source: CPython 3.8 to 3.12, Lib/dataclasses.py, _process_class and _create_fn, which executes text for each method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, *, frozen=False):
        """What Python's own decorator of that name makes of a class."""
        return _frozen if frozen else dataclasses.dataclass(cls)


__all__ = ("dataclass",)

T = TypeVar("T")


def _frozen(cls: type[T]) -> type[T]:
    made: Any = dataclasses.dataclass(repr=False, eq=False)(cls)
    compared = _getter([one.name for one in dataclasses.fields(made) if one.compare])

    def equal(self: object, other: object) -> object:
        if self.__class__ is not other.__class__:
            return NotImplemented
        return compared(self) == compared(other)

    def hashed(self: object) -> int:
        return hash(compared(self))

    for name, method in (("__eq__", equal), ("__hash__", hashed), ("__repr__", _represented)):
        if name not in vars(cls):
            setattr(made, name, method)
    return cls


def _getter(names: list[str]) -> Callable[[object], tuple[Any, ...]]:
    """What reads the attributes of these names; attrgetter() gives a single one without a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda one: tuple([getattr(one, name) for name in names])


def _represented(self: Any) -> str:
    shown = [f"{one.name}={getattr(self, one.name)!r}" for one in dataclasses.fields(self) if one.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"
