# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task gives goes before what was read on the host, and beside it where it is a list."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._gathered import (
    gathered,
    names_of,
    parts,
    placement_inputs,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import POLICY

GIVEN_NOTHING: dict[str, Any] = {
    "gpu": {},
    "models": [],
    "unplannable": [],
    "loaded": [],
    "version": None,
    "service": {},
    "measured": {},
    "server": {},
}
GPU, OTHER_GPU = {"devices": [1]}, {"devices": [2]}
INSTALLED = {"models": ["a"], "unplannable": ["b"], "loaded": ["c"], "version": "0.33.0", "unseen": ["torn"]}
HOST = {
    "gpu": GPU,
    "models": INSTALLED,
    "service": {"unit": "x"},
    "measured": {"knee": 4},
    "measured_problem": "",
    "server": {"version": "1"},
}


def test_what_was_read_stands_where_nothing_is_given() -> None:
    assert gathered({**GIVEN_NOTHING, "requests": 4}, HOST) == {
        "requests": 4,
        "gpu": GPU,
        **INSTALLED,
        "service": {"unit": "x"},
        "measured": {"knee": 4},
        "server": {"version": "1"},
    }


@pytest.mark.parametrize(
    ("option", "given", "taken"),
    [
        ("gpu", OTHER_GPU, OTHER_GPU),
        ("version", "0.32.0", "0.32.0"),
        ("service", {"unit": "y"}, {"unit": "y"}),
        ("measured", {"knee": 8}, {"knee": 8}),
        ("server", {"version": "2"}, {"version": "2"}),
        ("models", ["z"], ["a", "z"]),
        ("unplannable", ["z"], ["b", "z"]),
        ("loaded", ["z"], ["c", "z"]),
    ],
)
def test_what_is_given(option: str, given: object, taken: object) -> None:
    assert gathered({**GIVEN_NOTHING, option: given}, HOST)[option] == taken


def test_a_benchmark_that_cannot_be_used_is_told_as_its_problem() -> None:
    assert gathered(GIVEN_NOTHING, {**HOST, "measured_problem": "torn"})["measured"] == {"problem": "torn"}


@pytest.mark.parametrize("nothing", [{"gpu": {}}, {"gpu": {}, "models": {}}, {"gpu": {}, "models": {"loaded": None}}])
def test_where_nothing_was_read_what_is_given_stays(nothing: dict[str, Any]) -> None:
    assert gathered(GIVEN_NOTHING, nothing) == {**GIVEN_NOTHING, "unseen": []}


@pytest.mark.parametrize(
    ("read", "told"),
    [
        ({}, {"gpu": {}}),
        ({"ansible_facts": None}, {"gpu": {}}),
        ({"ansible_facts": {"gpufleet_gpu": GPU}}, {"gpu": GPU}),
        (
            {"models": INSTALLED, "service": {}, "measured": {}, "measured_problem": "x", "failures": [], "changed": False},
            {"gpu": {}, "models": INSTALLED, "service": {}, "measured": {}, "measured_problem": "x"},
        ),
    ],
)
def test_the_parts_of_what_was_read(read: dict[str, Any], told: dict[str, Any]) -> None:
    assert parts(read) == told


def test_the_names_of_wanted_models_as_far_as_there_are_any() -> None:
    assert names_of(["a:1b", {"name": "b:2b", "pin": True}, {"pin": True}, {"name": 5}, 7, None]) == ["a:1b", "b:2b"]


def test_a_placement_is_given_what_is_wanted_and_what_was_measured() -> None:
    options = {**GIVEN_NOTHING, **dict.fromkeys(POLICY), "wanted": ["a"], "models": [{"name": "a"}, {"name": "b"}]}
    options.update(operator_environment={}, use_measured_memory=True)
    read = {"gpu": GPU, "measured": {"knee": 4}, "service": {"service_id": "x"}, "server": {"version": "1"}}
    inputs = placement_inputs(options, read, [{"blob": "y"}])
    assert (inputs["policy"]["use_measured_memory"], inputs["server"]) == (True, {"version": "1"})
    assert inputs["observed"] == [{"blob": "y"}]
    assert inputs["service_id"] == "x"
    assert (inputs["models"], inputs["measured"], inputs["is_read"]) == ([{"name": "a"}], {"knee": 4}, True)


def test_a_placement_knows_what_is_installed_and_no_more_of_the_service_than_decides() -> None:
    options = {**GIVEN_NOTHING, **dict.fromkeys(POLICY), "wanted": ["A", "c:1b"]}
    options["operator_environment"] = {"OLLAMA_DEBUG": "1", "A_KEY": "hunter2"}
    told = {
        "models": [{"name": "a:latest"}, {"name": "b:latest"}],
        "unplannable": [{"name": "c:1b", "reason": "torn"}, {"name": "d:1b", "reason": "torn"}],
    }
    service = {"environment": {"PATH": "/bin"}, "dropin_path": "/d", "unit": "ollama.service"}
    inputs = placement_inputs(options, {"gpu": {}, "models": told, "service": service})
    assert inputs["installed"] == ["a:latest", "b:latest"]
    assert inputs["models"] == [{"name": "a:latest"}]
    assert inputs["unplannable"] == [{"name": "c:1b", "reason": "torn"}]
    assert inputs["service"] == {"environment": {"PATH": "/bin"}, "dropin_path": "/d"}
    assert (inputs["service_id"], inputs["is_read"]) == ("", False)
    assert inputs["policy"]["operator_environment"]["OLLAMA_DEBUG"] == "1"
    assert "hunter2" not in str(inputs)
