# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where not every set is made, what is reached is the best of all sets, or the gap to what is possible is told."""

from __future__ import annotations

from functools import partial

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement import _generate
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._choose import Kept, best_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._cover import (
    CHANGES,
    HOSTS,
    MOVES,
    SURVIVE,
    Cover,
    Group,
    Held,
    total,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import FleetDemand
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._generate import (
    MOST_WITHIN,
    Generator,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._patterns import Patterns
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._widen import Widener
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._highs import solver
from hypothesis import given, settings
from hypothesis import strategies as st

from .test__patterns import Boxes

OBJECTIVES = (MOVES, HOSTS, CHANGES)
SOLVE = solver()


class Fleet:
    """Hosts with room for boxes, and a demand on them."""

    def __init__(self, demands, rooms, sizes, held=(), *, survive=False):
        self.demands, self.survive = demands, survive
        self.kinds = [
            Patterns(Boxes(room, sizes), {one.name: one.requests for one in demands}) for room in rooms
        ]
        helds = [*held, *[Held()] * len(rooms)]
        self.groups = [
            Group(kind, frozenset(sizes), helds[kind], (f"h{kind}", f"i{kind}"), {})
            for kind in range(len(rooms))
        ]
        self.generator = Generator(demands, self.groups, self.kinds, survive=survive)

    def best(self, *, most_sets, is_late=lambda: False):
        """What is reached of each objective, and the gaps."""
        before, _generate.MOST_ENUMERATED = _generate.MOST_ENUMERATED, most_sets
        try:
            self.generator.generate(SOLVE, lambda: False)
        finally:
            _generate.MOST_ENUMERATED = before
        wider = None if self.generator.has_every_set else self.widener(is_late)
        patterns = list(self.generator.patterns.values())
        cover = Cover(self.demands, self.groups, patterns, survive=self.survive)
        found = best_of(cover, OBJECTIVES, SOLVE, lambda: 0.0, 300.0, survive=self.survive, wider=wider)
        shorts = [
            round(
                total(
                    found.cover.short_costs([one.name for one in self.demands if one.priority == level]),
                    found.values,
                )
            )
            for level in (1, 0)
        ]
        lost = [round(total(found.cover.costs(SURVIVE), found.values))] if self.survive else []
        return [
            *shorts,
            *lost,
            *(round(total(found.cover.costs(one), found.values)) for one in OBJECTIVES),
        ], found.gaps

    def widener(self, is_late=lambda: False):
        return Widener(self.demands, self.groups, self.generator, SOLVE, is_late, survive=self.survive)


def fleet(rooms, sizes, requests, priorities, held, survive):
    names = "abcd"[: len(sizes)]
    demands = [
        FleetDemand(name, count, priority=priority)
        for name, count, priority in zip(names, requests, priorities)
    ]
    helds = [
        Held(frozenset(one) & frozenset(names), frozenset(one) & frozenset(names), 2, 4096) for one in held
    ]
    return Fleet(demands, rooms, dict(zip(names, sizes)), helds, survive=survive)


@settings(max_examples=25, deadline=None)
@given(
    rooms=st.lists(st.integers(5, 40), min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=4),
    requests=st.lists(st.integers(1, 20), min_size=4, max_size=4),
    priorities=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    held=st.lists(st.sampled_from(["", "a", "ab", "bd"]), max_size=3),
    survive=st.booleans(),
)
def test_what_is_not_the_best_of_all_sets_has_a_gap(
    rooms, sizes, requests, priorities, held, survive
) -> None:
    arguments = (rooms, sizes, requests, priorities, held, survive)
    best, none = fleet(*arguments).best(most_sets=600)
    assert none == ()
    reached, gaps = fleet(*arguments).best(most_sets=-1)
    assert reached >= best
    assert reached == best or gaps
    if not survive:
        assert (reached, gaps) == (best, ())


# A host has room for nine slots of either, or for five of both.
HOSTS_FOR_TWO = ([20], {"a": 4, "b": 6})


def test_an_objective_is_bounded_and_what_lies_within_the_gap_is_added() -> None:
    demands = [FleetDemand("a", 9), FleetDemand("b", 9)]
    some = Fleet(demands, *HOSTS_FOR_TWO)
    some.generator.add(0, frozenset("a"), 9)
    widener = some.widener()
    short = Kept("demand", partial(Cover.short_costs, names="ab"), 0.0)
    assert widener.bound("demand", short.costs_of, []) == 0.0
    assert {"".join(sorted(one.names)) for one in some.generator.patterns.values()} >= {"a", "b"}
    assert widener.bound(HOSTS, partial(Cover.costs, objective=HOSTS), [short]) == pytest.approx(1.8)
    assert widener.add_within(5.0)
    assert {"".join(sorted(one.names)) for one in some.generator.patterns.values()} == {"a", "b", "ab"}


def test_where_there_is_no_time_nothing_is_known_of_what_is_possible() -> None:
    demands = [FleetDemand("a", 9), FleetDemand("b", 9)]
    some = Fleet(demands, *HOSTS_FOR_TWO)
    some.generator.add(0, frozenset("a"), 9)
    widener = some.widener(lambda: True)
    assert widener.is_complete
    assert widener.bound(HOSTS, partial(Cover.costs, objective=HOSTS), []) is None
    assert not widener.is_complete
    assert not widener.add_within(9.0)
    # What is known is the best of these sets.
    assert Fleet(demands, *HOSTS_FOR_TWO).best(most_sets=-1, is_late=lambda: True) == ([0, 0, 4, 2, 2], ())


def test_so_many_sets_of_a_group_are_added_at_once() -> None:
    assert MOST_WITHIN == 100
