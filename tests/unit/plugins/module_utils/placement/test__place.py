# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is placed where: the demand met by plans that are safe, with few moves, on few hosts, and never worse than the best."""

from __future__ import annotations

from itertools import product
from typing import ClassVar

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement import _generate
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._patterns import Patterns
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._place import Limits
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._present import notes
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Experience
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    WantedModel,
    policy_from_dict,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import (
    Observed,
    observed_from_list,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import shape
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import GIB, RememberingProver

LLAMA, GEMMA, TINY, PHI, EMBED = "llama3.1:8b", "gemma3:4b", "llama3.2:1b", "phi4:14b", "mxbai-embed-large"


def holds(placement):
    return {host.name: dict(host.slots) for host in placement.hosts}


class TestADemandThatCanBeMet:
    def test_is_met_by_plans_that_the_planner_itself_makes_and_calls_safe(self, placed, described):
        demand = [
            {"name": LLAMA, "requests": 9, "context_length": 16384},
            {"name": GEMMA, "requests": 6, "context_length": 8192},
            {"name": TINY, "requests": 3},
        ]
        hosts = {"a": [24], "b": [24, 24], "c": [12], "d": [80]}
        placement = placed(hosts, demand)
        assert placement.is_met
        contexts = {one["name"]: one.get("context_length", 4096) for one in demand}
        for host in placement.hosts:
            plan = plan_host(
                gpu=described(*hosts[host.name], system_gib=256),
                models=[shape(name).to_dict() for name in contexts],
                wanted=[WantedModel(name, contexts[name], host.parallel) for name in host.slots],
                policy=policy_from_dict({"min_parallel": host.parallel}),
                version="0.33.0",
            )
            assert plan.safe
            assert plan.num_parallel == host.parallel
            assert plan.context_length == host.proof.context_length
            assert sum(gpu.planned_bytes for gpu in plan.gpus) == host.proof.planned_bytes

    def test_takes_as_few_hosts_as_can_be(self, placed):
        demand = [{"name": name, "requests": 2} for name in (LLAMA, GEMMA, TINY)]
        assert len(placed({"a": [24], "b": [24], "c": [80]}, demand).hosts) == 1

    def test_gets_no_more_slots_than_asked_for_and_leaves_the_rest_of_the_memory_free(self, placed):
        placement = placed({"a": [24], "b": [24]}, [{"name": LLAMA, "requests": 3, "replicas": 2}])
        assert holds(placement) == {"a": {LLAMA: 1}, "b": {LLAMA: 2}} or holds(placement) == {
            "a": {LLAMA: 2},
            "b": {LLAMA: 1},
        }

    def test_counts_one_slot_for_a_model_to_which_ollama_gives_one(self, placed):
        placement = placed({"a": [24], "b": [24]}, [{"name": EMBED, "requests": 2, "context_length": 512}])
        assert holds(placement) == {
            "a": {"mxbai-embed-large:latest": 1},
            "b": {"mxbai-embed-large:latest": 1},
        }

    def test_keeps_within_what_the_operator_allows_a_host(self, placed):
        hosts = {"a": {"gpus": [80], "max_parallel": 2}, "b": {"gpus": [80], "max_loaded_models": 1}}
        assert not placed({"a": hosts["a"]}, [{"name": LLAMA, "requests": 3}]).is_met
        two = [{"name": LLAMA, "requests": 2}, {"name": GEMMA, "requests": 2}]
        assert not placed({"b": hosts["b"]}, two).is_met
        assert placed(hosts, two).is_met

    def test_gives_no_host_a_context_that_its_operator_has_set_lower(self, placed):
        demand = [{"name": LLAMA, "requests": 1, "context_length": 16384}]
        assert not placed({"a": {"gpus": [80], "context_length": 8192}}, demand).is_met


def benchmark(parallel, *names, **other):
    """A benchmark of a host with one card of 80 GiB, with the models of these names."""
    return {
        "format": 1,
        "measured_at": "2026-01-01T00:00:00Z",
        "knee": {"parallel": parallel, "reason": "more bring nothing", "note": other.pop("note", "")},
        "conditions": {
            "gpus": [{"name": "GPU of 80 GiB", "uuid": None}],
            "driver_version": None,
            "ollama_version": "0.33.0",
            "models": {name: shape(name).digest for name in names},
            "context_length": 8192,
            "kv_cache_type": "f16",
            **other,
        },
    }


class TestSlotsBeyondWhatABenchmarkFoundWorthHaving:
    """They are not counted, whatever the host's memory would hold, as plan.yml plans none of them."""

    @pytest.mark.parametrize(
        ("measured", "slots"),
        [
            (None, 8),
            (benchmark(3, LLAMA), 3),
            (benchmark(3, LLAMA, TINY), 3),
            (benchmark(9, LLAMA), 8),
            # What was measured on another card, with another model, cache or less context says nothing.
            (benchmark(3, LLAMA, gpus=[{"name": "another", "uuid": None}]), 8),
            (benchmark(3, TINY), 8),
            (benchmark(3, LLAMA, kv_cache_type="q8_0"), 8),
            (benchmark(3, LLAMA, context_length=4096), 8),
            (benchmark(3, LLAMA, ollama_version="0.32.0"), 8),
            (benchmark(3, LLAMA, note="the card was hot"), 8),
            ({"problem": "torn"}, 8),
            ({"conditions": 5}, 8),
        ],
    )
    def test_one_host(self, placed, measured, slots):
        demand = [{"name": LLAMA, "requests": 8, "context_length": 8192}]
        placement = placed({"a": {"gpus": [80], "measured": measured}}, demand)
        assert holds(placement) == {"a": {LLAMA: slots}}
        assert placement.hosts[0].parallel == slots
        assert placement.is_met == (slots == 8)

    def test_another_model_beside_it_has_its_own(self, placed):
        demand = [{"name": LLAMA, "requests": 8}, {"name": TINY, "requests": 6}]
        measured = benchmark(3, LLAMA)
        placement = placed({"a": {"gpus": [80], "measured": measured}, "b": [80]}, demand)
        assert placement.is_met
        assert all(slots[LLAMA] <= 3 for name, slots in holds(placement).items() if name == "a" and LLAMA in slots)

    def test_the_operator_who_sets_the_number_decides(self, placed):
        host = {"gpus": [80], "measured": benchmark(3, LLAMA), "num_parallel": 8}
        assert placed({"a": host}, [{"name": LLAMA, "requests": 8}]).is_met


def observed(more_bytes, parallel):
    """What a host remembers of a load that took so many bytes more than foretold for its compute buffer."""
    told = Observed(shape(LLAMA).digest, "0.33.0", 10488, 8192, parallel, 512, "f16", "auto", ((0, 0, more_bytes),))
    return told.to_dict()


CORRECTION = {"cuda_context_bytes": 3 * GIB, "compute_excess_bytes": GIB}
NOTHING = dict.fromkeys(CORRECTION, 0)


class TestMemoryThatWasSeenOnTheHost:
    """It only raises what is foretold, so that nothing is placed that plan.yml calls unsafe there."""

    @pytest.mark.parametrize(
        ("more", "slots"),
        [
            ({}, 5),
            ({"observed": [observed(4 * GIB, 5)]}, 4),
            ({"observed": [observed(4 * GIB, 6)]}, 5),
            ({"observed": [observed(4 * GIB, count) for count in (4, 5)]}, 3),
            ({"measured": {**benchmark(8, LLAMA), "correction": CORRECTION}}, 5),
            ({"measured": {**benchmark(8, LLAMA), "correction": CORRECTION}, "use_measured_memory": True}, 2),
            # What was measured with another driver says nothing, and less than is foretold makes nothing safe.
            (
                {
                    "measured": {**benchmark(8, LLAMA, driver_version="1"), "correction": CORRECTION},
                    "use_measured_memory": True,
                },
                5,
            ),
            ({"measured": {**benchmark(8, LLAMA), "correction": NOTHING}, "use_measured_memory": True}, 5),
        ],
    )
    def test_is_planned_with(self, placed, host, more, slots):
        card = {"gpus": [80], "free_gib": 12, **more}
        placement = placed({"a": card}, [{"name": LLAMA, "requests": 9, "context_length": 8192}])
        (found,) = placement.hosts
        assert found.parallel == slots
        (one,) = [host(80, models=[LLAMA], **{key: card[key] for key in card if key != "gpus"})]
        plan = plan_host(
            gpu=one.inputs["gpu"],
            models=one.inputs["models"],
            wanted=[WantedModel(LLAMA, 8192, slots)],
            policy=policy_from_dict({**one.inputs["policy"], "min_parallel": slots}),
            version="0.33.0",
            experience=Experience(
                measured=one.inputs["measured"], observed=observed_from_list(one.inputs["observed"])
            ),
        )
        assert (plan.safe, plan.num_parallel) == (True, slots)


class TestReplicas:
    def test_lie_on_as_many_hosts(self, placed):
        placement = placed({"a": [80], "b": [80], "c": [80]}, [{"name": TINY, "requests": 1, "replicas": 3}])
        assert sorted(holds(placement)) == ["a", "b", "c"]

    def test_lie_in_different_racks_where_they_are_spread(self, placed):
        racks = {"a": "1", "b": "1", "c": "2", "d": ""}
        hosts = {name: {"gpus": [24], "values": {"rack": rack}} for name, rack in racks.items()}
        demand = [{"name": TINY, "requests": 2, "replicas": 2, "spread": "rack"}]
        held = holds(placed(hosts, demand))
        assert "c" in held
        assert held.keys() & {"a", "b"}

    def test_that_are_more_than_there_are_racks_are_said_to_be_missing(self, placed):
        hosts = {name: {"gpus": [24], "values": {"rack": "1"}} for name in "abc"}
        placement = placed(hosts, [{"name": TINY, "requests": 2, "replicas": 2, "spread": "rack"}])
        assert not placement.is_met
        assert placement.supplies[0].short_hosts == 1

    def test_that_the_requests_need_do_not_stand_for_racks_that_lack(self, placed):
        hosts = {name: {"gpus": [24], "max_parallel": 1, "values": {"rack": "1"}} for name in "abc"}
        hosts["d"] = {"gpus": [24], "max_parallel": 1, "values": {"rack": ""}}
        demand = [{"name": TINY, "requests": 4, "replicas": 2, "spread": "rack"}]
        placement = placed(hosts, demand)
        assert (placement.supplies[0].hosts, placement.supplies[0].short_hosts) == (4, 1)
        assert not placement.is_met
        assert f"{TINY} lacks 1 of 2 hosts of different rack" in notes(placement)
        hosts["d"]["values"] = {"rack": "2"}
        assert placed(hosts, demand).is_met

    def test_lie_only_where_they_may(self, placed):
        hosts = {"a": {"gpus": [80], "may_hold": []}, "b": {"gpus": [24], "may_hold": [TINY]}}
        assert holds(placed(hosts, [{"name": TINY, "requests": 2}])) == {"b": {TINY: 2}}


class TestMoves:
    HOSTS: ClassVar = {name: [24] for name in "abcd"}
    DEMAND: ClassVar = [
        {"name": LLAMA, "requests": 6, "context_length": 8192},
        {"name": GEMMA, "requests": 8},
    ]

    def test_are_as_few_as_can_be_from_what_is_loaded_and_installed(self, placed):
        hosts = dict(self.HOSTS)
        hosts["c"] = {"gpus": [24], "has": [LLAMA], "loaded": [LLAMA]}
        hosts["d"] = {"gpus": [24], "has": [LLAMA]}
        held = holds(placed(hosts, [{"name": LLAMA, "requests": 1}]))
        assert sorted(held) == ["c"]
        del hosts["c"]
        assert sorted(holds(placed(hosts, [{"name": LLAMA, "requests": 1}]))) == ["d"]

    def test_are_none_when_the_same_is_demanded_again(self, placed):
        first = placed(self.HOSTS, self.DEMAND)
        again = placed(self.as_placed(first), self.DEMAND)
        assert holds(again) == holds(first)
        assert not any(host.changes or host.to_load or host.to_pull for host in again.hosts)

    def test_are_none_on_hosts_that_hold_their_part_when_more_is_demanded(self, placed):
        first = placed(self.HOSTS, self.DEMAND)
        more = [*self.DEMAND, {"name": TINY, "requests": 1}]
        moved = placed(self.as_placed(first), more)
        assert moved.is_met
        assert [name for host in moved.hosts for name in host.to_load] == [TINY]

    def as_placed(self, placement):
        names = [LLAMA, GEMMA, TINY]
        hosts = {name: {"gpus": [24], "has": names} for name in self.HOSTS}
        for host in placement.hosts:
            hosts[host.name].update(
                planned=list(host.slots), parallel=host.parallel, context=host.proof.context_length
            )
        return hosts


class TestTheLossOfAHost:
    DEMAND: ClassVar = [{"name": LLAMA, "requests": 4}, {"name": GEMMA, "requests": 2}]

    @pytest.mark.parametrize("loaded", [[], [LLAMA, GEMMA]])
    def test_is_survived_where_that_is_asked_for_and_can_be(self, placed, loaded):
        hosts = {name: [24] for name in "abc"}
        hosts["a"] = {"gpus": [24], "has": loaded, "loaded": loaded, "parallel": 4, "context": 4096}
        placement = placed(hosts, self.DEMAND, survive=True)
        for supply in placement.supplies:
            assert supply.slots_without_one >= supply.demand.requests

    def test_is_met_as_far_as_can_be(self, placed):
        placement = placed({"a": [24]}, self.DEMAND, survive=True)
        assert placement.is_met
        assert [supply.slots_without_one for supply in placement.supplies] == [0, 0]

    def test_comes_after_the_demand_itself(self, placed):
        placement = placed({"a": [12], "b": [12]}, [{"name": LLAMA, "requests": 8}], survive=True)
        assert placement.supplies[0].slots == sum(host.parallel for host in placement.hosts)
        assert sorted(holds(placement)) == ["a", "b"]


class TestADemandThatCannotBeMet:
    def test_is_met_in_the_order_of_priority(self, placed):
        demand = [
            {"name": LLAMA, "requests": 2, "context_length": 16384, "priority": 1},
            {"name": PHI, "requests": 2, "context_length": 8192},
        ]
        placement = placed({"a": [16]}, demand)
        assert [(one.demand.name, one.short_slots) for one in placement.supplies] == [(LLAMA, 0), (PHI, 2)]
        demand[0]["priority"], demand[1]["priority"] = 1, 2
        placement = placed({"a": [16]}, demand)
        assert [(one.demand.name, one.short_slots) for one in placement.supplies] == [(PHI, 0), (LLAMA, 2)]

    def test_is_served_in_part(self, placed):
        supply = placed({"a": [24]}, [{"name": LLAMA, "requests": 200}]).supplies[0]
        assert 0 < supply.slots < 200
        assert supply.slots + supply.short_slots == 200

    def test_is_served_no_less_by_one_host_more(self, placed):
        demand = [
            {"name": LLAMA, "requests": 60, "context_length": 8192},
            {"name": PHI, "requests": 20, "priority": 1},
            {"name": GEMMA, "requests": 90},
        ]
        hosts: dict[str, list[int]] = {}
        before = (0, 0)
        for name, gpus in zip("abcdef", ([24], [12], [24], [80], [24, 24], [12])):
            hosts[name] = gpus
            supplies = {one.demand.name: one for one in placed(hosts, demand).supplies}
            urgent = min(supplies[PHI].slots, 20)
            served = (urgent, sum(min(one.slots, one.demand.requests) for one in supplies.values()))
            assert served >= before
            before = served


class TestHostsThatWereRead:
    def test_are_placed_on_with_a_little_less_than_was_read_so_that_the_next_reading_moves_nothing(
        self, placed
    ):
        demand = [{"name": LLAMA, "requests": 100, "context_length": 8192}]
        described = placed({"a": [24]}, demand).hosts[0].parallel
        read = placed({"a": {"gpus": [24], "has": [LLAMA], "is_read": True}}, demand)
        assert described - 1 <= read.hosts[0].parallel <= described
        parallel = read.hosts[0].parallel
        for less in (0.0, 0.1, 0.24):
            again = placed(
                {
                    "a": {
                        "gpus": [24],
                        "free_gib": 24 - less,
                        "has": [LLAMA],
                        "loaded": [LLAMA],
                        "parallel": parallel,
                        "context": 8192,
                        "is_read": True,
                    }
                },
                demand,
            )
            assert again.hosts[0].parallel == parallel
            assert not again.hosts[0].changes

    def test_hold_only_what_they_have_where_none_may_pull(self, placed):
        hosts = {
            "a": {"gpus": [80], "has": [], "is_read": True},
            "b": {"gpus": [24], "has": [TINY], "is_read": True},
        }
        assert list(holds(placed(hosts, [{"name": TINY, "requests": 1}], may_pull=False))) == ["b"]

    def test_are_told_what_to_pull_and_what_to_load(self, placed):
        hosts = {
            "a": {"gpus": [24], "has": [LLAMA], "is_read": True},
            "b": {"gpus": [8], "has": [TINY], "is_read": True},
        }
        placement = placed(
            hosts, [{"name": LLAMA, "requests": 1}, {"name": TINY, "requests": 1, "replicas": 2}]
        )
        by_name = {host.name: host for host in placement.hosts}
        assert by_name["a"].to_pull == (TINY,)
        assert by_name["a"].to_load == (LLAMA, TINY)
        assert by_name["b"].to_pull == ()


def test_where_patterns_are_asked_for_by_price_the_demand_is_met_on_as_few_hosts(placed, monkeypatch):
    demand = [
        {"name": LLAMA, "requests": 40, "context_length": 8192},
        {"name": GEMMA, "requests": 30},
        {"name": TINY, "requests": 10},
        {"name": PHI, "requests": 12},
    ]
    hosts = {f"h{one}": [24] if one % 3 else [48] for one in range(12)}
    every = placed(hosts, demand)
    monkeypatch.setattr(_generate, "MOST_ENUMERATED", 0)
    priced = placed(hosts, demand)
    assert priced.is_met
    assert priced.is_complete
    assert len(priced.hosts) == len(every.hosts)
    assert priced.planner_calls < every.planner_calls


def test_where_time_runs_out_what_is_known_is_placed_and_said_to_be_incomplete(placed, monkeypatch):
    monkeypatch.setattr(_generate, "MOST_ENUMERATED", 0)
    ticks = iter(range(1000000))
    limits = Limits(clock=lambda: float(next(ticks)), pattern_seconds=3.0, solver_seconds=1e9)
    placement = placed(
        {"a": [24], "b": [24]}, [{"name": LLAMA, "requests": 4}, {"name": TINY, "requests": 2}], limits=limits
    )
    assert placement.is_met
    assert not placement.is_complete


KINDS = ([8], [12], [24], [12, 12])
NAMES = (TINY, GEMMA, LLAMA)
CONTEXTS = {TINY: 8192, GEMMA: 4096, LLAMA: 8192}


@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    hosts=st.lists(
        st.tuples(st.integers(0, len(KINDS) - 1), st.sets(st.sampled_from(NAMES))), min_size=1, max_size=3
    ),
    requests=st.lists(st.integers(1, 24), min_size=1, max_size=3),
    priorities=st.lists(st.integers(0, 1), min_size=3, max_size=3),
    replicas=st.integers(1, 2),
    survive=st.booleans(),
)
def test_no_placement_of_a_small_fleet_is_better(
    placed, hosts, requests, priorities, replicas, survive
) -> None:
    names = NAMES[: len(requests)]
    demand = [
        {
            "name": name,
            "requests": count,
            "context_length": CONTEXTS[name],
            "priority": priority,
            "replicas": replicas if name == TINY else 1,
        }
        for name, count, priority in zip(names, requests, priorities)
    ]
    fleet = {
        f"h{index}": {"gpus": KINDS[kind], "has": sorted(loaded), "loaded": sorted(loaded)}
        for index, (kind, loaded) in enumerate(hosts)
    }
    placement = placed(fleet, demand, survive=survive)
    loads = [loaded for _kind, loaded in hosts]
    chosen = [
        (frozenset(held), next((host.parallel for host in placement.hosts if host.name == name), 0))
        for name in fleet
        for held in [holds(placement).get(name, {})]
    ]
    reached = score(chosen, loads, demand, survive)
    options = [possible(placement, index) for index in range(len(hosts))]
    best = min(score(option, loads, demand, survive) for option in product(*options))
    assert reached == best


def possible(placement, index):
    """Every set that the host can hold, with the most slots that are of use; and nothing."""
    host = list(placement.fleet.hosts.values())[index]
    requests = {one.name: one.requests for one in placement.fleet.demands}
    patterns = Patterns(RememberingProver(host.judged), requests)
    names = sorted(requests)
    sets = [
        frozenset(name for bit, name in enumerate(names) if number >> bit & 1)
        for number in range(1, 1 << len(names))
    ]
    found = [(frozenset(), 0)]
    for one in sets:
        parallels = [parallel for parallel in range(1, 25) if patterns.holds.is_safe(one, parallel)]
        if parallels:
            found.append((one, max(parallels)))
    return found


def score(chosen, loads, demand, survive):
    """The objectives in their order, the less the better: fewest hosts last, because what leaves most room has no end."""
    slots = {one["name"]: [parallel for names, parallel in chosen if one["name"] in names] for one in demand}
    short = [0, 0]
    lost = 0
    for one in demand:
        name, requests = one["name"], one["requests"]
        useful = [min(parallel, requests) for parallel in slots[name]]
        missing = max(requests - sum(useful), 0) + max(one["replicas"] - len(useful), 0)
        short[1 - one["priority"]] += missing
        lost += max(requests - sum(useful) + max(useful, default=0), 0)
    moves = sum(
        (name not in loaded) + (name not in loaded)
        for (names, _parallel), loaded in zip(chosen, loads)
        for name in names
    )
    return (*short, lost if survive else 0, moves, sum(1 for names, _parallel in chosen if names))
