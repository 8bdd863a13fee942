# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order hosts are changed so that the demand is served all the while: the new place before the old one lets go."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

# So many beginnings of orders are tried before the best one so far is taken; nearly always the first one does.
MOST_TRIED = 5000


@dataclass(frozen=True)
class HostMove:
    """A host with the slots of each model that it serves before and after its change. `is_done`: it needs none."""

    name: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    is_done: bool = False


@dataclass(frozen=True)
class Order:
    """Hosts that are changed at the same time, batch by batch. `dips`: where less is served than is to be, one sentence each."""

    batches: tuple[tuple[str, ...], ...]
    dips: tuple[str, ...]


def order_of(moves: Sequence[HostMove], requests: Mapping[str, int], *, sizes: Sequence[int]) -> Order:
    """An order in which no model is ever served with fewer slots than are demanded of it, where there is one.

    What is served with fewer already is not served with fewer still. While a host is changed it serves nothing. `sizes`:
    the most hosts of each batch, the last for all that follow. Hosts that need no change come last, all together.
    """
    supply = dict.fromkeys(requests, 0)
    for move in moves:
        _add(supply, move.after if move.is_done else move.before)
    floor = {name: min(requests[name], supply[name]) for name in requests}
    pending = {move.name: move for move in moves if not move.is_done}
    names = _sequence(pending, supply, floor)
    is_forced = names is None
    if names is None:
        names = _least_dips(pending, supply, floor)
    batches, dips = _batches([pending[name] for name in names], supply, floor, sizes)
    done = tuple(move.name for move in moves if move.is_done)
    return Order((*batches, *([done] if done else [])), tuple(dips) if is_forced else ())


def _add(supply: dict[str, int], slots: Mapping[str, int], sign: int = 1) -> None:
    for name, count in slots.items():
        if name in supply:
            supply[name] += sign * count


def _missing(
    supply: Mapping[str, int], floor: Mapping[str, int], out: Collection[HostMove]
) -> dict[str, int]:
    """The slots that models lack while these hosts are being changed."""
    missing = {}
    for name, least in floor.items():
        left = supply[name] - sum(move.before.get(name, 0) for move in out)
        if left < least:
            missing[name] = least - left
    return missing


def _willing(pending: Mapping[str, HostMove], floor: Mapping[str, int]) -> list[str]:
    """The hosts, those first that serve nothing yet of what is asked for, those last that serve less afterwards."""

    def key(move: HostMove) -> tuple[int, int, int]:
        lost = sum(max(move.before.get(name, 0) - move.after.get(name, 0), 0) for name in floor)
        served = sum(move.before.get(name, 0) for name in floor)
        gained = sum(max(move.after.get(name, 0) - move.before.get(name, 0), 0) for name in floor)
        return (lost, served, -gained)

    return sorted(pending, key=lambda name: key(pending[name]))


def _sequence(
    pending: Mapping[str, HostMove], supply: Mapping[str, int], floor: Mapping[str, int]
) -> list[str] | None:
    """An order one by one without a dip; None where there is none, or it was not found in time."""
    willing = _willing(pending, floor)
    tried = 0
    hopeless: set[frozenset[str]] = set()
    path: list[str] = []
    taken: set[str] = set()
    choices = [iter(willing)]
    now = dict(supply)
    while True:
        if len(path) == len(willing):
            return path
        for name in choices[-1]:
            if (
                name in taken
                or _missing(now, floor, [pending[name]])
                or (hopeless and frozenset((*path, name)) in hopeless)
            ):
                continue
            tried += 1
            path.append(name)
            taken.add(name)
            _add(now, pending[name].before, -1)
            _add(now, pending[name].after)
            choices.append(iter(willing))
            break
        else:
            choices.pop()
            if not path or tried > MOST_TRIED:
                return None
            hopeless.add(frozenset(path))
            last = path.pop()
            taken.discard(last)
            _add(now, pending[last].after, -1)
            _add(now, pending[last].before)


def _least_dips(
    pending: Mapping[str, HostMove], supply: Mapping[str, int], floor: Mapping[str, int]
) -> list[str]:
    """An order one by one in which each step lacks as little as can be."""
    now, left, names = dict(supply), _willing(pending, floor), []
    while left:
        name = min(
            left, key=lambda one: (sum(_missing(now, floor, [pending[one]]).values()), left.index(one))
        )
        left.remove(name)
        names.append(name)
        _add(now, pending[name].before, -1)
        _add(now, pending[name].after)
    return names


def _batches(
    moves: Sequence[HostMove], supply: Mapping[str, int], floor: Mapping[str, int], sizes: Sequence[int]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Consecutive hosts in batches, as large as serve no less."""
    now = dict(supply)
    batches: list[tuple[str, ...]] = []
    dips: list[str] = []
    index = 0
    while index < len(moves):
        most = max(sizes[min(len(batches), len(sizes) - 1)], 1)
        out = [moves[index]]
        missing = _missing(now, floor, out)
        while not missing and len(out) < most and index + len(out) < len(moves):
            more = [*out, moves[index + len(out)]]
            if _missing(now, floor, more):
                break
            out = more
        for name, count in missing.items():
            has = floor[name] - count
            dips.append(
                f"while {out[0].name} is changed, {name} has {has} of the {floor[name]} slots that it is to have"
            )
        for move in out:
            _add(now, move.before, -1)
            _add(now, move.after)
        batches.append(tuple(move.name for move in out))
        index += len(out)
    return batches, dips
