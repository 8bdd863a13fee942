# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A GPU that is gone is known by its UUID; what is remembered changes only where the host was read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._hardware import (
    changes_since,
    gone,
    gone_gpus,
    hardware,
)

A, B = ({"uuid": f"GPU-{name}", "name": "RTX"} for name in "ab")


@pytest.mark.parametrize(
    ("before", "devices", "missing"),
    [
        ([A, B], [A, B], []),
        ([A, B], [B], ["RTX (GPU-a)"]),
        ([A], [], ["RTX (GPU-a)"]),
        ([], [A], []),
        ([A], [{"uuid": "GPU-a", "name": "renamed", "index": 3}], []),
        ([A], [{"index": 0}], ["RTX (GPU-a)"]),
    ],
)
def test_a_gpu_is_known_again_by_its_uuid(before: Any, devices: Any, missing: list[str]) -> None:
    assert gone(before, devices) == missing


FOR = {"version": "0.33.0", "engine_build": None, "observed": []}


def read_of(*devices: dict[str, str], **planned: object) -> dict[str, Any]:
    return {"ansible_facts": {"gpufleet_gpu": {"devices": list(devices)}}, **planned}


@pytest.mark.parametrize(
    ("read", "told"),
    [
        pytest.param({}, ([], None, ""), id="described, not read"),
        pytest.param(read_of(A), ([], None, ""), id="GPUs read by a module that remembers none"),
        pytest.param(read_of(A, planned_gpus=[A], planned_for=FOR), ([], None, ""), id="as remembered"),
        pytest.param(read_of(A, planned_gpus=None), ([], [A], ""), id="never applied"),
        pytest.param(read_of(A, planned_gpus=[A, B]), (["RTX (GPU-b)"], [A], ""), id="one is gone"),
        pytest.param(
            read_of(A, planned_gpus=[{**A, "name": "other"}]), ([], [A], ""), id="renamed by a driver"
        ),
        pytest.param(
            read_of(A, planned_gpus=None, planned_gpus_problem="it is torn"),
            ([], None, "it is torn"),
            id="a record that cannot be read is left to who can",
        ),
    ],
)
def test_what_is_told_of_the_gpus(read: Any, told: tuple[Any, Any, str]) -> None:
    plan = {"gpus": [{**A, "index": 0, "total_bytes": 8}], "version": "0.33.0", "observed": []}
    for accepted in (True, False):
        names = ("gone", "to_remember", "problem")
        assert hardware(plan, read, gone_is_accepted=accepted) == {
            **dict(zip(names, told)),
            "gone_is_accepted": accepted,
            "planned_for": FOR,
            "changes": [],
        }


UPGRADED = "Ollama was {} from {} to {} since the plan was applied; it is planned anew by the rules of {}"


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({}, {}, []),
        ({"version": "0.33.0"}, {}, []),
        ({"version": "0.32.1"}, {}, [UPGRADED.format("upgraded", "0.32.1", "0.33.0", "0.33.0")]),
        ({"version": "0.34.2"}, {}, [UPGRADED.format("downgraded", "0.34.2", "0.33.0", "0.33.0")]),
        (
            {"version": "0.32.1", "engine_build": 9000},
            {"engine_build": 10488},
            [UPGRADED.format("upgraded", "0.32.1", "0.33.0 (llama.cpp b9000 to b10488)", "0.33.0")],
        ),
        (
            {"version": "0.34.2", "engine_build": 10500},
            {"engine_build": 10488},
            [UPGRADED.format("downgraded", "0.34.2", "0.33.0 (llama.cpp b10500 to b10488)", "0.33.0")],
        ),
        # Nobody has heard of two builds that differ.
        ({"version": "0.32.1", "engine_build": 9000}, {}, [UPGRADED.format("upgraded", "0.32.1", "0.33.0", "0.33.0")]),
        ({"version": "0.32.1"}, {"engine_build": 9000}, [UPGRADED.format("upgraded", "0.32.1", "0.33.0", "0.33.0")]),
        (
            {"version": "0.32.1", "engine_build": 9000},
            {"engine_build": 9000},
            [UPGRADED.format("upgraded", "0.32.1", "0.33.0", "0.33.0")],
        ),
        # A release after its candidate.
        ({"version": "0.33.0-rc2"}, {}, [UPGRADED.format("upgraded", "0.33.0-rc2", "0.33.0", "0.33.0")]),
        ({"version": "mine"}, {}, [UPGRADED.format("upgraded", "mine", "0.33.0", "0.33.0")]),
    ],
)
def test_another_version_than_the_plan_was_applied_for_is_said(before: Any, now: Any, told: list[str]) -> None:
    assert changes_since(before, {**FOR, **now}, [A], [A]) == told


def test_a_gpu_that_came_since_is_said_and_none_where_none_was_known() -> None:
    (sentence,) = changes_since(FOR, FOR, [A], [A, B])
    assert sentence == "RTX (GPU-b) has come since the plan was applied; it is planned anew with it"
    assert changes_since(FOR, FOR, [], [A, B]) == []


def test_a_version_that_is_not_known_is_no_other_one() -> None:
    plan = {"version": "0.33.0", "gpus": [A], "observed": []}
    before = {**FOR, "version": "0.33.0-rc2"}
    read = read_of(A, planned_gpus=[A], planned_for=before, models={"version": None})
    told = hardware(plan, read, gone_is_accepted=False)
    assert (told["changes"], told["to_remember"], told["planned_for"]) == ([], None, before)


def test_the_build_is_kept_while_the_version_is_the_same_and_nothing_was_loaded() -> None:
    plan = {"gpus": [A], "version": "0.33.0", "observed": []}
    for version, build in (("0.33.0", 10488), ("0.32.0", None)):
        read = read_of(A, planned_gpus=[A], planned_for={**FOR, "version": version, "engine_build": 10488})
        assert hardware(plan, read, gone_is_accepted=False)["planned_for"]["engine_build"] == build
    read = read_of(A, planned_gpus=[A], planned_for=FOR, server={"engine_build": 10500})
    assert hardware(plan, read, gone_is_accepted=False)["planned_for"]["engine_build"] == 10500


def test_a_build_that_is_heard_of_after_the_first_load_changes_nothing_by_itself() -> None:
    plan = {"gpus": [A], "version": "0.33.0", "observed": []}
    server = {"engine_build": 10488}

    def to_remember(**before: Any) -> Any:
        read = read_of(A, planned_gpus=[A], planned_for={**FOR, **before}, server=server)
        return hardware(plan, read, gone_is_accepted=False)["to_remember"]

    assert to_remember() is None
    assert to_remember(engine_build=10488) is None
    assert to_remember(engine_build=10361) == [A]
    assert to_remember(version="0.32.0") == [A]


@pytest.mark.parametrize("gpus", [None, 7, {"devices": 7}, {"devices": [None, 7]}])
def test_facts_that_are_none_name_no_gpu_that_is_there(gpus):
    read = {"ansible_facts": {"gpufleet_gpu": gpus}, "planned_gpus": [{"uuid": "GPU-1", "name": "A"}]}
    assert gone_gpus(read) == ["A (GPU-1)"]
