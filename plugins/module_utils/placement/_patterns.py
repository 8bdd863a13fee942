# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sets of models that hosts of one kind can hold, with the most slots each: asked of the planner as seldom as can be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Protocol

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

# What is less than this is nothing, in prices as in sums of them.
EPSILON = 1e-7


class CanHold(Protocol):
    """What is asked of a kind of hosts: `Prover` asks the planner."""

    names: frozenset[str]
    single: frozenset[str]
    least_parallel: int
    most_parallel: int
    most_models: int
    room_bytes: int

    def least_bytes(self, name: str, parallel: int) -> int: ...

    def context_length(self, names: Collection[str]) -> int: ...

    def is_safe(self, names: Collection[str], parallel: int) -> bool: ...


@dataclass(frozen=True)
class Worth:
    """What a model on a host is worth to the solver: for each slot, and for being there at all."""

    per_slot: float
    at_all: float


class Patterns:
    """Sets of models for hosts of one kind. `requests`: the most slots of a model that are of any use.

    A set that contains one that does not fit does not fit; one more slot needs no less memory. By these two, and by the
    least memory of the models, most questions are answered before the planner is asked.
    """

    def __init__(self, holds: CanHold, requests: Mapping[str, int]) -> None:
        self.holds = holds
        self._requests = requests
        self._safe: dict[frozenset[str], int] = {}
        self._unsafe: dict[frozenset[str], int] = {}
        self._least_bytes: dict[tuple[str, int], int] = {}
        self.calls = 0

    def slots(self, name: str, parallel: int) -> int:
        """The slots that a model has on a host with this parallel value, as far as they are of use."""
        return 1 if name in self.holds.single else min(parallel, self._requests[name])

    def largest(self, names: frozenset[str]) -> int:
        """The largest useful parallel value with which these models are safe together; 0 where none is."""
        least, most = self.bounds(names)
        low = self._safe.get(names, 0)
        high = min(most, self._unsafe.get(names, most + 1) - 1)
        if high < least or (low < least and not self.is_safe(names, least)):
            return 0
        low = max(low, least)
        # What is asked for is often far more than fits: from below in growing steps.
        step = 1
        while low < high:
            middle = min(low + step, high)
            if self.is_safe(names, middle):
                low, step = middle, step * 2
            else:
                high, step = middle - 1, max((high - low) // 2, 1)
        return low

    def bounds(self, names: frozenset[str]) -> tuple[int, int]:
        """The least parallel value of these hosts, and the most that is of use for these models and not ruled out."""
        useful = max((self._requests[name] for name in names if name not in self.holds.single), default=1)
        least = self.holds.least_parallel
        most = max(min(useful, self.holds.most_parallel), least)
        if len(names) > self.holds.most_models or not self.has_room(names, least):
            return least, 0
        low, high = least, most
        while low < high:
            middle = (low + high + 1) // 2
            if self.has_room(names, middle):
                low = middle
            else:
                high = middle - 1
        return least, low

    def has_room(self, names: Collection[str], parallel: int) -> bool:
        """Whether the least memory of the models is less than there is."""
        return sum(self.least_bytes(name, parallel) for name in names) <= self.holds.room_bytes

    def least_bytes(self, name: str, parallel: int) -> int:
        """What a model takes at the least."""
        key = (name, parallel)
        known = self._least_bytes.get(key)
        if known is None:
            known = self._least_bytes[key] = self.holds.least_bytes(name, parallel)
        return known

    def is_safe(self, names: frozenset[str], parallel: int) -> bool:
        """Whether the planner calls these models safe together with so many slots each."""
        known = self.known(names, parallel)
        if known is None:
            self.calls += 1
            known = self.holds.is_safe(names, parallel)
            if known:
                self._safe[names] = max(parallel, self._safe.get(names, 0))
            else:
                self._unsafe[names] = min(parallel, self._unsafe.get(names, parallel))
        return known

    def known(self, names: frozenset[str], parallel: int) -> bool | None:
        """The same as far as it is known without the planner."""
        if parallel <= self._safe.get(names, 0):
            return True
        if parallel >= self._unsafe.get(names, parallel + 1) or not self.has_room(names, parallel):
            return False
        if len(names) > 1 and any(
            self._unsafe.get(names - {name}, parallel + 1) <= parallel for name in names
        ):
            return False
        return None

    def every_set(self, allowed: frozenset[str], most: int) -> list[frozenset[str]] | None:
        """Every set of the allowed models that fits; None where more than `most` would have to be asked for."""
        found: list[frozenset[str]] = []
        fitting: list[frozenset[str]] = [frozenset()]
        asked = 0
        for size in range(1, len(allowed) + 1):
            smaller = set(fitting)
            wider = {names | {name} for names in fitting for name in allowed - names}
            fitting = []
            for names in sorted(wider, key=sorted):
                if not all(frozenset(part) in smaller for part in combinations(names, size - 1)):
                    continue
                if self.bounds(names)[1] == 0:
                    continue
                asked += 1
                if asked > most:
                    return None
                if self.largest(names):
                    fitting.append(names)
            found += fitting
            if not fitting:
                break
        return found

    def best_set(
        self, worths: Mapping[str, Worth], least_worth: float, is_time_out: Callable[[], bool]
    ) -> tuple[frozenset[str], bool]:
        """The set that is worth most, empty where none is worth more than `least_worth`; and whether that is certain.

        The parallel values that promise most come first. For each the models are taken by what they are worth for their
        least memory, and what cannot become better than the best so far is left.
        """
        best = _Best(frozenset(), least_worth + EPSILON)
        valued = {
            name: worth
            for name, worth in worths.items()
            if worth.per_slot > EPSILON or worth.at_all > EPSILON
        }
        if not valued:
            return best.names, True
        least = self.holds.least_parallel
        most = self._most_parallel(valued)
        promises = []
        for parallel in range(least, most + 1):
            items = self._items(valued, parallel)
            promises.append((_knapsack(items, self.holds.room_bytes), parallel, items))
        for promise, parallel, items in sorted(promises, key=lambda one: (-one[0], one[1])):
            if promise <= best.worth:
                break
            self._improve(best, items, parallel, is_time_out)
            if is_time_out():
                return best.names, False
        return best.names, True

    def sets_within(
        self, worths: Mapping[str, Worth], least_worth: float, most: int, is_time_out: Callable[[], bool]
    ) -> tuple[list[frozenset[str]], bool]:
        """The sets that are worth no less than this, `most` of them at the most; and whether these are all."""
        found: dict[frozenset[str], None] = {}
        names = sorted(worths)
        for parallel in range(self.holds.least_parallel, self._most_parallel(names) + 1):
            items = self._items(worths, parallel, every=True)
            if not self._collect(found, items, parallel, least_worth, most, is_time_out):
                return list(found), False
        return list(found), True

    def _collect(
        self,
        found: dict[frozenset[str], None],
        items: Sequence[tuple[float, int, str]],
        parallel: int,
        least_worth: float,
        most: int,
        is_time_out: Callable[[], bool],
    ) -> bool:
        """Adds the sets that are worth enough with this parallel value; whether there was room and time for all."""
        sets = self._safe_sets(items, parallel, lambda worth: worth >= least_worth - EPSILON, is_time_out)
        for names, _worth in sets:
            if names and names not in found:
                if len(found) == most:
                    return False
                found[names] = None
        return not is_time_out()

    def _most_parallel(self, names: Collection[str]) -> int:
        """The most that is of use for any of these models."""
        most = max((self._requests[name] for name in names), default=1)
        return max(min(most, self.holds.most_parallel), self.holds.least_parallel)

    def _items(
        self, worths: Mapping[str, Worth], parallel: int, *, every: bool = False
    ) -> list[tuple[float, int, str]]:
        """Worth, least bytes and name of the models that fit alone, those that are worth most for a byte first.

        `every`: those too that are worth nothing.
        """
        items = []
        for name, worth in worths.items():
            value = worth.per_slot * self.slots(name, parallel) + worth.at_all
            size = self.least_bytes(name, parallel)
            if (every or value > EPSILON) and size <= self.holds.room_bytes:
                items.append((value, size, name))
        return sorted(items, key=lambda item: (-item[0] / max(item[1], 1), item[2]))

    def _improve(
        self,
        best: _Best,
        items: Sequence[tuple[float, int, str]],
        parallel: int,
        is_time_out: Callable[[], bool],
    ) -> None:
        """Puts in place of the best the set that is worth most with this parallel value, where that is worth more."""
        for names, worth in self._safe_sets(items, parallel, lambda worth: worth > best.worth, is_time_out):
            best.names, best.worth = names, worth

    def _safe_sets(
        self,
        items: Sequence[tuple[float, int, str]],
        parallel: int,
        is_enough: Callable[[float], bool],
        is_time_out: Callable[[], bool],
    ) -> Iterator[tuple[frozenset[str], float]]:
        """The sets that are safe with this parallel value, with their worth, until the time is out.

        `is_enough`: whether sets are looked at that are worth so much at the most.
        """
        stack: list[tuple[int, frozenset[str], float, int]] = [(0, frozenset(), 0.0, 0)]
        while stack and not is_time_out():
            index, names, value, size = stack.pop()
            if not is_enough(value + _knapsack(items[index:], self.holds.room_bytes - size)):
                continue
            if index == len(items):
                yield names, value
                continue
            item_value, item_size, name = items[index]
            stack.append((index + 1, names, value, size))
            more = names | {name}
            if len(more) <= self.holds.most_models and self.is_safe(more, parallel):
                stack.append((index + 1, more, value + item_value, size + item_size))


@dataclass
class _Best:
    """The best set so far, and what it is worth."""

    names: frozenset[str]
    worth: float


def _knapsack(items: Sequence[tuple[float, int, str]], room: int) -> float:
    """What items are worth at the most that have room together, the last one in part."""
    worth = 0.0
    for value, size, _name in items:
        if value <= 0.0:
            break
        if size >= room:
            return worth + (value * room / size if size > 0 and room > 0 else 0.0)
        worth += value
        room -= size
    return worth
