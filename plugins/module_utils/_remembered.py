# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties that are found once for each object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class remembered(Generic[T]):
    """A property that is found when it is first read.

    It is functools.cached_property without the lock that it takes before Python 3.12, as long as many a property takes.
    """

    def __init__(self, find: Callable[[Any], T]) -> None:
        self._find = find
        self._name = find.__name__
        self.__doc__ = find.__doc__

    def __get__(self, one: Any, _owner: Any = None) -> T:
        """What is found; from then on the object itself has it."""
        found = one.__dict__[self._name] = self._find(one)
        return found
