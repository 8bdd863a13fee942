# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a placement, and that its file is an inventory in which nothing is a template."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._choose import Gap
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._order import HostMove
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._present import (
    MOST_NAMED,
    MOST_ROWS,
    as_data,
    as_inventory,
    dips,
    host_moves,
    notes,
    read_summary,
    tables,
)

from .test__place import GEMMA, LLAMA, TINY, benchmark

DEMAND = [{"name": LLAMA, "requests": 4, "context_length": 8192}, {"name": TINY, "requests": 2}]


yaml.SafeLoader.add_constructor(
    "!unsafe", lambda loader, node: ("no template", loader.construct_scalar(node))
)


def test_the_terminal_shows_what_each_model_gets_and_what_each_host_holds(placed) -> None:
    lines = tables(placed({"a": [24]}, DEMAND), [])
    assert lines[0].split() == ["MODEL", "REQUESTS", "CONTEXT", "SLOTS", "HOSTS", "WITHOUT", "ONE", "MISSING"]
    assert lines[1].split() == [LLAMA, "4", "8192", "4", "1", "0"]
    assert lines[4].split()[:3] == ["HOST", "MODELS", "SLOTS"]
    assert lines[5].startswith(f"a     {LLAMA}, {TINY}  4, 2")
    assert lines[5].endswith(f"pull {LLAMA}, pull {TINY}")


def test_many_hosts_that_hold_the_same_are_one_line(placed) -> None:
    hosts = {f"h{one:02}": [8] for one in range(MOST_ROWS + 1)}
    demand = [{"name": TINY, "requests": MOST_ROWS, "replicas": MOST_ROWS}]
    rows = tables(placed(hosts, demand), [])[4:]
    assert len(rows) == MOST_ROWS
    demand[0].update(requests=MOST_ROWS + 1, replicas=MOST_ROWS + 1)
    rows = tables(placed(hosts, demand), [])[4:]
    assert len(rows) == 1
    assert rows[0].startswith(f"h00 and {MOST_ROWS} more")


def test_slots_that_do_not_count_are_told(placed) -> None:
    measured = {"gpus": [80], "measured": benchmark(3, LLAMA)}
    demand = [{"name": LLAMA, "requests": 4}]
    placement = placed({f"h{one}": measured for one in range(MOST_NAMED + 2)}, demand)
    assert notes(placement) == [
        f"{LLAMA}: of a host's slots 3 count, as many as a benchmark found worth having: h0, h1, h2, h3, h4 and 2 more"
    ]
    assert notes(placed({"a": measured}, [{"name": LLAMA, "requests": 3}])) == []
    assert notes(placed({"a": {**measured, "max_parallel": 3}}, [{"name": LLAMA, "requests": 3}])) == []


def test_what_is_missing_is_said_with_what_would_close_the_gap(placed) -> None:
    placement = placed(
        {"a": [24]}, [{"name": LLAMA, "requests": 99, "replicas": 2}], left_out={"b": "it cannot be reached"}
    )
    lines = tables(placement, ["one more host like a", "a smaller cache"])
    slots = placement.supplies[0].slots
    assert f"  - {LLAMA} lacks {99 - slots} of 99 slots and 1 of 2 hosts" in lines
    assert "  - b is left out, its slots do not count: it cannot be reached" in lines
    assert lines[-3:] == ["What would close the gap:", "  - one more host like a", "  - a smaller cache"]
    assert tables(placement, [])[-1] == "  - nothing that was looked at"


def test_a_gap_that_time_did_not_suffice_for_is_printed(placed) -> None:
    placement = replace(placed({"a": [24]}, DEMAND), gaps=(Gap("hosts", 9.0, 7.0),), is_complete=False)
    said = notes(placement)
    more = "gpufleet_solver_seconds gives the solver more time"
    assert f"not proven to be the best: 9 hosts, and 7 may be possible ({more})" in said
    assert any("no time to look for every useful set" in one for one in said)


def test_what_is_lost_with_a_host_is_said_where_it_was_asked_for(placed) -> None:
    assert notes(placed({"a": [24]}, DEMAND)) == []
    said = notes(placed({"a": [24]}, DEMAND, survive=True))
    assert f"{TINY} has 0 of 2 slots when the host with most of them is lost" in said


def test_data_is_plain_and_tells_everything(placed) -> None:
    data = json.loads(json.dumps(as_data(placed({"a": [24]}, DEMAND), ["more"])))
    assert data["is_met"] is True
    assert [one["name"] for one in data["demand"]] == [LLAMA, TINY]
    host = data["hosts"][0]
    assert host["slots"] == {LLAMA: 4, TINY: 2}
    assert 0 < host["planned_bytes"] < host["total_bytes"] == 24 << 30
    assert data["remedies"] == ["more"]


def test_the_file_is_an_inventory_for_the_playbooks(placed) -> None:
    loaded = yaml.safe_load(as_inventory(placed({"a": [24], "b": [8]}, DEMAND)))["all"]
    assert loaded["hosts"] == {
        "a": {
            "ollama_plan_wanted": [
                {"name": ("no template", LLAMA), "context_length": 8192, "requests": 4},
                {"name": ("no template", TINY), "context_length": 4096, "requests": 4},
            ],
            "ollama_plan_min_parallel": 4,
            "ollama_override_preload": True,
            "ollama_verify_load": True,
            "ollama_verify_keep_alive": "-1",
        }
    }
    requests, hosts = read_summary(loaded["vars"]["gpufleet_placement"][1])
    assert requests == {LLAMA: 4, TINY: 2}
    assert hosts == {"a": {"before": {}, "after": {LLAMA: 4, TINY: 2}}}


@pytest.mark.parametrize("name", ["{{ 1/0 }}", "a: b", "!x", "-", '"', "\u2028", "null"])
def test_odd_names_of_hosts_stay_what_they_are(placed, name) -> None:
    loaded = yaml.safe_load(as_inventory(placed({name: [24]}, DEMAND)))["all"]
    assert list(loaded["hosts"]) == [name]


@pytest.mark.parametrize(
    "value", ["", "{}", "[]", {"format": 2}, {"format": 1, "requests": {}, "hosts": {"a": 1}}, None]
)
def test_a_summary_that_somebody_has_changed_is_refused(value) -> None:
    with pytest.raises(ValueError, match="gpufleet_placement is not what place"):
        read_summary(value)


def test_what_hosts_serve_now_is_moved_to_what_they_are_to_serve(placed) -> None:
    old = {"has": [LLAMA], "loaded": [LLAMA], "parallel": 4, "context": 8192, "may_hold": []}
    hosts = {"old": {"gpus": [24], **old}, "new": {"gpus": [24], "may_hold": [LLAMA]}, "idle": [8]}
    placement = placed(hosts, [{"name": LLAMA, "requests": 4, "context_length": 8192}])
    assert host_moves(placement) == [HostMove("old", {LLAMA: 4}, {}), HostMove("new", {}, {LLAMA: 4})]
    assert dips(placement) == []


def test_where_there_is_no_room_to_move_it_is_said(placed) -> None:
    both = {"gpus": [8], "has": [LLAMA, GEMMA]}
    hosts = {
        "a": {**both, "loaded": [LLAMA], "parallel": 1, "context": 4096, "may_hold": [GEMMA]},
        "b": {**both, "loaded": [GEMMA], "parallel": 1, "context": 4096, "may_hold": [LLAMA]},
    }
    said = dips(placed(hosts, [{"name": LLAMA, "requests": 1}, {"name": GEMMA, "requests": 1}]))
    assert len(said) == 1
    assert said[0].startswith(
        "there is no room to move without serving less: while a is changed, llama3.1:8b has 0 of the 1"
    )
