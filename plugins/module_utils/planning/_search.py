# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The search for the best safe settings: what is tried, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Goal
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._rank import Choice, rank


def promising(judges: Sequence[Judge], goal: Goal) -> Iterator[list[Candidate]]:
    """The settings that no judge finds hopeless, the best first, in one list for each parallel value.

    What is hopeless with one context is so with every longer one, so few lengths have to be looked at.
    """
    loaded = len(goal.models) if goal.wanted else 1
    for parallel in sorted(goal.parallels, reverse=True):
        settings = []
        for kv_cache_type, spread in product(goal.kv_cache_types, goal.spreads):
            some = [
                Candidate(parallel, length, kv_cache_type, spread) for length in sorted(goal.context_lengths)
            ]
            low, high = 0, len(some)
            while low < high:
                middle = (low + high) // 2
                if any(judge.is_hopeless(goal.models, some[middle], loaded) for judge in judges):
                    high = middle
                else:
                    low = middle + 1
            settings += some[:low]
        yield sorted(settings, key=lambda candidate: rank(Choice(candidate, 0)), reverse=True)


def best_choice(judges: Sequence[Judge], goal: Goal) -> Choice | None:
    """The best choice that every judge finds safe; None where nothing that may be tried is.

    Several judges look at the same models on hosts that differ.
    """
    if not goal.models:
        return None
    if goal.wanted:
        return _best_for_wanted(judges, goal)
    return _best_for_any(judges, goal)


def some_choice(judges: Sequence[Judge], goal: Goal, likely: Candidate | None) -> Candidate | None:
    """Settings that every judge finds safe for the wanted models, whichever they are; None where there are none.

    `likely` are tried first.
    """
    for settings in promising(judges, goal):
        first = [candidate for candidate in settings if candidate == likely]
        for candidates in (first, [candidate for candidate in settings if candidate != likely]):
            for look in (_wanted_in_any_order, _wanted_in_some_order):
                for candidate in candidates:
                    if look(judges, goal, candidate):
                        return candidate
    return None


def safe_choice(judge: Judge, goal: Goal, candidate: Candidate, loaded: int) -> Choice | None:
    """The choice of these very settings, if it is safe."""
    if candidate not in set(goal.settings()):
        return None
    judges = (judge,)
    if not goal.wanted:
        return _any_of_them(judges, goal, candidate, loaded)
    return _wanted_in_any_order(judges, goal, candidate) or _wanted_in_some_order(judges, goal, candidate)


def _best_for_wanted(judges: Sequence[Judge], goal: Goal) -> Choice | None:
    """Tries the settings from the best down, first in any order of loading, then in a prescribed one."""
    for settings in promising(judges, goal):
        for look in (_wanted_in_any_order, _wanted_in_some_order):
            for candidate in settings:
                choice = look(judges, goal, candidate)
                if choice:
                    return choice
    return None


def _wanted_in_any_order(judges: Sequence[Judge], goal: Goal, candidate: Candidate) -> Choice | None:
    if not all(judge.any_order(goal.models, candidate).is_safe for judge in judges):
        return None
    return Choice(candidate, len(judges[0].runners(goal.models, candidate)))


def _wanted_in_some_order(judges: Sequence[Judge], goal: Goal, candidate: Candidate) -> Choice | None:
    """In the order that the first judge finds."""
    verdict = judges[0].some_order(goal.models, candidate)
    if verdict.is_safe and all(judge.is_safe_in(verdict.order, candidate) for judge in judges[1:]):
        return Choice(candidate, len(verdict.order), verdict.order)
    return None


def _best_for_any(judges: Sequence[Judge], goal: Goal) -> Choice | None:
    """For the largest parallel value under which every model is safe alone, the best of its settings.

    The shortest context sets how many models are to be loaded at once; longer ones are tried from the longest
    down, and the first that allows as many is taken. Models are divided over all GPUs only where nothing else
    is safe.
    """
    for settings in promising(judges, goal):
        for spread in sorted(goal.spreads):
            best = _best_of(judges, goal, [candidate for candidate in settings if candidate.spread is spread])
            if best:
                return best
    return None


def _best_of(judges: Sequence[Judge], goal: Goal, best_first: Sequence[Candidate]) -> Choice | None:
    best = None
    for candidate in _shortest(best_first):
        # They differ in the type of the KV cache, the best first: a further one has to allow more models.
        choice = _any_of_them(judges, goal, candidate, len(goal.models), best.loaded + 1 if best else 1)
        if choice and (best is None or rank(choice) > rank(best)):
            best = choice
        if best and best.loaded == len(goal.models):
            break
    for candidate in best_first:
        if best and rank(Choice(candidate, len(goal.models))) < rank(best):
            break
        choice = _any_of_them(judges, goal, candidate, len(goal.models), best.loaded if best else 1)
        if choice and (best is None or rank(choice) > rank(best)):
            return choice
    return best


def _shortest(settings: Sequence[Candidate]) -> tuple[Candidate, ...]:
    least = min((candidate.context_length for candidate in settings), default=None)
    return tuple(candidate for candidate in settings if candidate.context_length == least)


def _any_of_them(
    judges: Sequence[Judge], goal: Goal, candidate: Candidate, most: int, least: int = 1
) -> Choice | None:
    """The choice of this setting with up to `most` models loaded, if that are `least` and what the goal asks."""
    least = min(max(least, goal.least_loaded), len(judges[0].runners(goal.models, candidate)))
    for judge in judges:
        most = judge.most_loaded(goal.models, candidate, most, least)
        if most < least:
            return None
    return Choice(candidate, most)
