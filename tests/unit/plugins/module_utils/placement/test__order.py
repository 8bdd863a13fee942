# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of changes: the new place before the old one lets go; where that cannot be, it is said."""

from __future__ import annotations

from itertools import permutations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._order import HostMove, order_of
from hypothesis import given, settings
from hypothesis import strategies as st


def order(*moves, requests, sizes=(100,)):
    return order_of([HostMove(*move) for move in moves], requests, sizes=sizes)


def test_the_new_place_comes_before_the_old_one_lets_go() -> None:
    found = order(("old", {"a": 4}, {}), ("new", {}, {"a": 4}), requests={"a": 4})
    assert found.batches == (("new",), ("old",))
    assert found.dips == ()


def test_hosts_that_may_be_out_together_are_changed_together() -> None:
    moves = [(f"h{one}", {"a": 2}, {"a": 2}) for one in range(4)]
    assert order(*moves, requests={"a": 4}).batches == (("h0", "h1"), ("h2", "h3"))
    assert order(*moves, requests={"a": 6}).batches == (("h0",), ("h1",), ("h2",), ("h3",))


@pytest.mark.parametrize(("sizes", "lengths"), [((1, 2, 9), [1, 2, 5]), ((3,), [3, 3, 2]), ((0,), [1] * 8)])
def test_no_batch_is_larger_than_it_may_be(sizes, lengths) -> None:
    moves = [(f"h{one}", {}, {"a": 1}) for one in range(8)]
    assert [len(batch) for batch in order(*moves, requests={"a": 1}, sizes=sizes).batches] == lengths


def test_where_there_is_no_room_it_is_said_which_model_lacks_what() -> None:
    found = order(("h1", {"a": 4}, {"b": 4}), ("h2", {"b": 4}, {"a": 4}), requests={"a": 4, "b": 4})
    assert found.batches == (("h1",), ("h2",))
    assert found.dips[0] == "while h1 is changed, a has 0 of the 4 slots that it is to have"


def test_a_third_host_makes_room() -> None:
    moves = [("h1", {"a": 4}, {"b": 4}), ("h2", {"b": 4}, {"a": 4}), ("h3", {}, {"a": 4, "b": 4})]
    found = order(*moves, requests={"a": 4, "b": 4})
    assert found.dips == ()
    assert found.batches[0] == ("h3",)


def test_what_is_served_with_too_few_slots_already_does_not_get_fewer() -> None:
    found = order(("h1", {"a": 2}, {"a": 3}), ("h2", {}, {"a": 5}), requests={"a": 8})
    assert found.batches == (("h2",), ("h1",))


def test_hosts_that_need_no_change_come_last_and_serve_as_placed() -> None:
    found = order(("h1", {"a": 4}, {}), ("h2", {}, {"a": 4}, True), requests={"a": 4})
    assert found.batches == (("h1",), ("h2",))
    assert found.dips == ()


def test_models_that_nobody_asked_for_keep_nothing_waiting() -> None:
    assert order(("h1", {"z": 4}, {"a": 4}), requests={"a": 4}).dips == ()


SLOTS = st.dictionaries(st.sampled_from("ab"), st.integers(0, 3))


@settings(max_examples=400, deadline=None)
@given(
    moves=st.lists(st.tuples(SLOTS, SLOTS, st.booleans()), min_size=1, max_size=4),
    requests=st.fixed_dictionaries({"a": st.integers(0, 6), "b": st.integers(0, 6)}),
    size=st.integers(1, 3),
)
def test_an_order_that_never_serves_less_is_found_where_there_is_one(moves, requests, size) -> None:
    hosts = [HostMove(f"h{one}", *move) for one, move in enumerate(moves)]
    found = order_of(hosts, requests, sizes=(size,))
    assert sorted(name for batch in found.batches for name in batch) == sorted(host.name for host in hosts)
    pending = [host for host in hosts if not host.is_done]
    there_is_one = any(
        never_less(hosts, [(one,) for one in some], requests) for some in permutations(pending)
    )
    by_name = {host.name: host for host in hosts}
    batches = [tuple(by_name[name] for name in batch if not by_name[name].is_done) for batch in found.batches]
    assert never_less(hosts, batches, requests) == there_is_one
    assert (found.dips == ()) == there_is_one


def never_less(hosts, batches, requests):
    supply = {
        name: sum((host.after if host.is_done else host.before).get(name, 0) for host in hosts)
        for name in requests
    }
    floor = {name: min(requests[name], supply[name]) for name in requests}
    for batch in batches:
        for name in requests:
            supply[name] -= sum(host.before.get(name, 0) for host in batch)
        if any(supply[name] < floor[name] for name in requests):
            return False
        for name in requests:
            supply[name] += sum(host.after.get(name, 0) for host in batch)
    return True
