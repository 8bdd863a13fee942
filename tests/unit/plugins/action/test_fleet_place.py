# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions of a placement and its router: what they read of hosts, what they refuse, and in which order a rollout goes."""

from __future__ import annotations

import json
import sys
from typing import ClassVar

import pytest
from ansible_collections.gpufleet.ollama.plugins.action.fleet_place import (
    ActionModule,
    lost_hosts,
    read_hosts,
    solver_seconds,
)
from ansible_collections.gpufleet.ollama.plugins.action.placement_order import (
    not_in_inventory,
    ordered,
    sizes_of,
)
from ansible_collections.gpufleet.ollama.plugins.action.router_upstreams import routes
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import demands_from_list
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._described_hosts import DescribedHosts
from ansible_collections.gpufleet.ollama.tests.unit.data import header

GIB = 1 << 30
INPUTS = {
    "gpu": {"devices": [{"memory_total_bytes": 24 * GIB}]},
    "models": [{"name": "gemma3:4b", "header": header("gemma3:4b")}],
    "version": "0.33.0",
}
DEMANDS = demands_from_list([{"name": "a", "requests": 2, "spread": "rack"}, {"name": "b", "requests": 1}])
ALL = {"a:latest": frozenset(["h"]), "b:latest": frozenset()}


@pytest.fixture
def run(action_of):
    """`run(option=value, ...)` gives the result of the action for a host that was described."""

    def act(**options):
        given = {"demand": [{"name": "gemma3:4b", "requests": 4}], "hosts": ["h", "gone"], **options}
        known = {
            "h": {"ollama_plan_result": {"inputs_json": json.dumps(INPUTS)}},
            "gone": {"ollama_plan_result": {"unreachable": True, "msg": "no route {{ 1/0 }}"}},
        }
        return action_of(ActionModule, "fleet_place", given).run(task_vars={"hostvars": known})

    return act


def described_in(hostvars):
    return DescribedHosts({"hostvars": hostvars}, [demand.name for demand in DEMANDS])


class TestThePlacement:
    def test_is_returned_and_written_as_data_and_as_an_inventory(self, run, tmp_path) -> None:
        result = run(dir=str(tmp_path / "report"), file=str(tmp_path / "placement.yml"))
        assert result["changed"] is False
        assert result["is_met"] is True
        assert json.loads((tmp_path / "report" / "placement.json").read_text()) == result["placement"]
        assert '"h":' in (tmp_path / "placement.yml").read_text()
        assert "inventory" not in result

    def test_names_hosts_that_cannot_be_reached_and_writes_nothing_of_theirs_into_the_inventory(self, run, tmp_path) -> None:
        left_out = run(file=str(tmp_path / "placement.yml"))["placement"]["left_out"]
        assert left_out["gone"].startswith("it cannot be reached: no route")
        assert "{{" not in (tmp_path / "placement.yml").read_text()

    def test_is_not_made_where_only_the_demand_is_looked_at(self, run) -> None:
        assert run(check_only=True) == {"changed": False, "to_read": ["h", "gone"]}

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"demand": []}, "gpufleet_demand is empty"),
            ({"survive": 2}, "gpufleet_survive must be 0 or 1"),
            ({"solver_seconds": 0}, "gpufleet_solver_seconds must be from 1"),
            ({"demand": [{"name": "nix", "requests": 1}]}, "no host has it and so none may pull it"),
        ],
    )
    def test_is_refused_in_one_sentence(self, run, options, says) -> None:
        result = run(**options)
        assert result["failed"] is True
        assert says in result["msg"]

    def test_needs_the_solver(self, run, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "highspy", None)
        result = run(check_only=True)
        assert result["failed"] is True
        assert "pip install highspy" in result["msg"]


class TestHosts:
    def test_are_read_with_what_they_may_hold_held_and_where_they_stand(self) -> None:
        variables = {
            "ollama_plan_result": {"inputs_json": '{"gpu": {}}'},
            "ollama_plan_wanted": ["a", {"name": "b"}],
            "rack": 7,
        }
        found, left_out = read_hosts(["h"], DEMANDS, ALL, {"h": variables}, described_in({"h": variables}))
        assert left_out == {}
        assert found["h"].inputs == {"gpu": {}}
        assert found["h"].may_hold == {"a:latest"}
        assert found["h"].planned == ("a", "b")
        assert found["h"].values == {"rack": "7"}

    def test_of_two_names_of_one_service_one_counts(self) -> None:
        known = {
            name: {"ollama_plan_result": {"inputs_json": json.dumps({"service_id": service})}}
            for name, service in (("a", "x"), ("b", "x"), ("c", ""), ("d", ""), ("e", "y"))
        }
        found, left_out = read_hosts(list(known), DEMANDS, ALL, known, described_in(known))
        assert list(found) == ["a", "c", "d", "e"]
        assert left_out == {
            "b": "a and it are names of one service of one machine: give each its own ollama_override_unit or address, or leave "
            "only one in the inventory"
        }

    @pytest.mark.parametrize(("rack", "value"), [("r1", "r1"), (0, "0"), (" r1 ", "r1"), (None, ""), ("", "")])
    def test_stand_nowhere_where_the_variable_is_empty(self, rack, value) -> None:
        variables = {"ollama_plan_result": {"inputs_json": "{}"}, "rack": rack}
        found, _left_out = read_hosts(["h"], DEMANDS, ALL, {"h": variables}, described_in({"h": variables}))
        assert found["h"].values == {"rack": value}

    @pytest.mark.parametrize(
        ("variables", "says"),
        [
            (
                {"ollama_plan_result": {"unreachable": True, "msg": "no route"}},
                "it cannot be reached: no route",
            ),
            ({"ollama_report_failure": "its driver does not answer"}, "its driver does not answer"),
            ({"ollama_plan_result": {"failed": True, "msg": "no sudo"}}, "no sudo"),
            ({}, "it was not read"),
        ],
    )
    def test_that_were_not_read_are_left_out_with_the_reason(self, variables, says) -> None:
        found = read_hosts(["h"], DEMANDS, ALL, {"h": variables}, described_in({"h": variables}))
        assert found == ({}, {"h": says})

    def test_that_are_described_are_not_what_an_earlier_play_has_left_of_them(self) -> None:
        described = {"ollama_plan_gpu": {"devices": []}, "ollama_plan_model_descriptions": [{"name": "a"}]}
        known = {"h": {**described, "ollama_plan_result": {"inputs_json": "{}"}, "ollama_report_failure": "old"}}
        found, left_out = read_hosts(["h"], DEMANDS, ALL, known, described_in(known))
        assert left_out == {}
        assert found["h"].inputs["models"] == [{"name": "a"}]


@pytest.mark.parametrize(("value", "survive"), [(0, False), ("0", False), (1, True), ("1", True)])
def test_one_host_may_be_lost_or_none(value, survive) -> None:
    assert lost_hosts(value) is survive


@pytest.mark.parametrize("value", [2, -1, "yes", None, 0.5])
def test_no_other_number_of_hosts_may_be_lost(value) -> None:
    with pytest.raises(ValueError, match="gpufleet_survive must be 0 or 1"):
        lost_hosts(value)


@pytest.mark.parametrize("value", [1, "1", 30, 0.5e3, 86400])
def test_the_solver_has_so_many_seconds(value) -> None:
    assert solver_seconds(value) == float(value)


@pytest.mark.parametrize("value", [0, 0.9, -1, 86401, "soon", None, float("nan")])
def test_the_solver_has_no_other_time(value) -> None:
    with pytest.raises(ValueError, match="gpufleet_solver_seconds must be from 1 to 86400"):
        solver_seconds(value)


def summary(**hosts):
    return json.dumps(
        {
            "format": 1,
            "requests": {"a": 4},
            "hosts": {
                name: {"before": {"a": before} if before else {}, "after": {"a": after} if after else {}}
                for name, (before, after) in hosts.items()
            },
        }
    )


def options(*hosts, fleet=("old", "new", "idle"), serial=(1, "25%", "100%")):
    return {"hosts": list(hosts or fleet), "fleet": list(fleet), "serial": list(serial)}


class TestTheOrderOfARollout:
    def test_loads_the_new_place_before_the_old_one_lets_go(self) -> None:
        order = ordered(options(), summary(old=(4, 0), new=(0, 4)), {})
        assert order["hosts"].index("new") < order["hosts"].index("old")
        assert order["dips"] == []
        assert sum(order["serial"]) == 3

    def test_counts_hosts_that_are_as_planned_as_done(self) -> None:
        planned = {"ollama_verify_result": {"in_sync": True}, "ollama_plan_result": {"not_loaded": []}}
        order = ordered(options(), summary(old=(4, 0), new=(0, 4)), {"new": planned})
        assert order["hosts"][-1] == "new"
        assert order["dips"] == []
        planned["ollama_plan_result"] = {"not_loaded": ["a"]}
        order = ordered(options(), summary(old=(4, 0), new=(0, 4)), {"new": planned})
        assert order["hosts"].index("new") < order["hosts"].index("old")

    def test_says_where_a_limit_leaves_no_room(self) -> None:
        order = ordered(options("old"), summary(old=(4, 0), new=(0, 4)), {})
        assert order["hosts"] == ["old"]
        assert order["dips"] == ["while old is changed, a has 0 of the 4 slots that it is to have"]

    def test_names_each_host_as_a_pattern_of_it_alone(self) -> None:
        order = ordered(options("a*", "b,c", fleet=("a*", "b,c")), summary(**{"a*": (0, 4), "b,c": (0, 4)}), {})
        assert sorted(order["hosts"]) == [r"~^a\U0000002a\Z", r"~^b\U0000002cc\Z"]

    def test_refuses_a_placement_of_another_fleet(self) -> None:
        with pytest.raises(ValueError, match=r"of another fleet: x, y are none of the 3 hosts of this one"):
            ordered(options(), summary(old=(4, 0), y=(0, 4), x=(0, 4)), {})
        with pytest.raises(ValueError, match=r"x is none of the 3 hosts"):
            ordered(options(), summary(x=(0, 4)), {})

    def test_refuses_what_is_no_placement(self) -> None:
        with pytest.raises(ValueError, match=r"gpufleet_placement is not what place"):
            ordered(options(), "{}", {})

    def test_names_the_file_that_is_not_among_the_inventories(self) -> None:
        assert not_in_inventory("p.yml").endswith("add -i p.yml behind your own inventory")
        assert not_in_inventory("my p.yml").endswith("add -i 'my p.yml' behind your own inventory")

    @pytest.mark.parametrize(
        ("serial", "sizes"),
        [([1, "25%", "100%"], [1, 2, 8]), (3, [3]), ("50%", [4]), (["1%"], [1]), ("3", [3])],
    )
    def test_has_batches_as_ansible_takes_them(self, serial, sizes) -> None:
        assert sizes_of(serial, 8) == sizes

    def test_refuses_other_batches(self) -> None:
        with pytest.raises(ValueError, match="gpufleet_serial is"):
            sizes_of(["few"], 8)


def planned(**models):
    return {
        "safe": True,
        "max_loaded_models": len(models),
        "models": [
            {"name": name, "planned": True, "num_parallel": slots, "context_length": 4096}
            for name, slots in models.items()
        ],
    }


def routed(hosts, **more):
    found = routes(
        {"hosts": list(hosts), "out": [], "drifted": "leave", "port": 11434, "settings": {}, **more}, hosts
    )
    return {
        one["model"]: {server["host"]: server["slots"] for server in one["servers"]}
        for one in found["upstreams"]
    }


class TestARouter:
    HOST: ClassVar = {"ollama_plan_result": {"plan_json": json.dumps(planned(a=4))}}

    def test_sends_to_the_address_of_a_host(self) -> None:
        for variables, address in (
            ({}, "h:11434"),
            ({"ansible_host": "10.0.0.1"}, "10.0.0.1:11434"),
            ({"ansible_host": "10.0.0.1", "ollama_router_address": "gpu:80"}, "gpu:80"),
        ):
            hosts = {"h": {"ollama_plan": planned(a=4), **variables}}
            found = routes(
                {"hosts": ["h"], "out": [], "drifted": "leave", "port": 11434, "settings": {}}, hosts
            )
            assert found["upstreams"][0]["servers"][0]["address"] == address

    def test_leaves_out_hosts_whose_facts_would_choose_for_it(self) -> None:
        for fact in ("ollama_plan", "ollama_router_address"):
            chosen = {**self.HOST, "ansible_facts": {fact: "10.0.0.9:22"}, fact: "10.0.0.9:22"}
            assert routed({"h": self.HOST, "i": chosen}) == {"a:latest": {"h": 4}}

    def test_leaves_out_hosts_that_are_out_of_service(self) -> None:
        out = {**self.HOST, "ollama_router_is_out": True}
        assert routed({"h": self.HOST, "i": out}) == {"a:latest": {"h": 4}}
        assert routed({"h": self.HOST, "i": self.HOST}, out=["i"]) == {"a:latest": {"h": 4}}

    def test_leaves_out_hosts_that_have_drifted_until_they_are_as_planned_again(self) -> None:
        drifted = {**self.HOST, "ollama_verify_result": {"in_sync": False}}
        assert routed({"h": self.HOST, "i": drifted}) == {"a:latest": {"h": 4}}
        back = {**drifted, "ollama_router_is_out": False}
        assert routed({"h": self.HOST, "i": back}) == {"a:latest": {"h": 4, "i": 4}}
        rolled_back = {**back, "ollama_override_rolled_back": True}
        assert routed({"h": self.HOST, "i": rolled_back}) == {"a:latest": {"h": 4}}

    def test_keeps_hosts_that_a_rollout_has_not_come_to_with_what_they_held(self) -> None:
        placement = json.dumps(
            {"format": 1, "requests": {}, "hosts": {"i": {"before": {"b": 2}, "after": {"a": 4}}}}
        )
        waiting = {**self.HOST, "ollama_verify_result": {"in_sync": False}, "gpufleet_placement": placement}
        hosts = {"h": self.HOST, "i": waiting}
        assert routed(hosts, drifted="keep") == {"a:latest": {"h": 4}, "b:latest": {"i": 2}}
        hosts["i"] = {**waiting, "ollama_router_is_out": False}
        assert routed(hosts, drifted="keep") == {"a:latest": {"h": 4, "i": 4}}
        del hosts["i"]["gpufleet_placement"]
        assert routed(
            {**hosts, "i": {**self.HOST, "ollama_verify_result": {"in_sync": False}}}, drifted="keep"
        ) == {"a:latest": {"h": 4, "i": 4}}

    def test_loses_no_host_that_a_limit_leaves_out_of_the_run(self) -> None:
        with pytest.raises(ValueError, match="i was not planned in this run, so that the router would lose it"):
            routed({"h": self.HOST, "i": {}}, drifted="keep")
        placement = json.dumps(
            {"format": 1, "requests": {}, "hosts": {"i": {"before": {"b": 2}, "after": {"a": 4}}}}
        )
        hosts = {"h": self.HOST, "i": {"gpufleet_placement": placement}}
        assert routed(hosts, drifted="keep") == {"a:latest": {"h": 4, "i": 4}}
        assert routed(hosts) == {"a:latest": {"h": 4}}

    def test_with_nothing_behind_it_is_refused_with_the_reasons(self) -> None:
        with pytest.raises(ValueError, match=r"no host holds a model for certain.*h has no plan"):
            routed({"h": {}})
