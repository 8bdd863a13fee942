# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be demanded of a fleet, and what is said of a demand that makes no sense."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import (
    MOST_DEMANDS,
    MOST_PRIORITY,
    MOST_REPLICAS,
    MOST_REQUESTS,
    FleetDemand,
    demands_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import MOST_CONTEXT_LENGTH
from hypothesis import given
from hypothesis import strategies as st


def test_a_model_needs_a_name_and_requests_and_has_one_replica_anywhere() -> None:
    assert demands_from_list([{"name": "gemma3", "requests": 4}]) == (FleetDemand("gemma3:latest", 4),)
    assert demands_from_list([{"name": "gemma3", "requests": "4"}])[0].requests == 4
    assert demands_from_list([{"name": " gemma3:4b ", "requests": 4}])[0].name == "gemma3:4b"


def test_the_most_urgent_come_first_then_by_name() -> None:
    items = [
        {"name": "b", "requests": 1},
        {"name": "c", "requests": 1, "priority": 2},
        {"name": "a", "requests": 1},
    ]
    assert [one.name for one in demands_from_list(items)] == ["c:latest", "a:latest", "b:latest"]


def test_all_that_can_be_asked_for() -> None:
    asked = {
        "name": "llama3.1:8b",
        "requests": 40,
        "context_length": 16384,
        "replicas": 3,
        "spread": "rack",
        "hosts": "ollama_80gb:!canary",
        "priority": -1,
    }
    assert demands_from_list([asked]) == (FleetDemand(**asked),)


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([], "gpufleet_demand is empty"),
        ({"gemma3": 4}, "gpufleet_demand must be a list"),
        ("gemma3", "gpufleet_demand must be a list"),
        (["gemma3"], "must be a mapping with name and requests, found 'gemma3'"),
        ([{"requests": 4}], "needs the name of a model"),
        ([{"name": " ", "requests": 4}], "needs the name of a model"),
        ([{"name": "x" * 601, "requests": 4}], "needs the name of a model"),
        ([{"name": "a"}], "requests is missing: how many requests at once"),
        (
            [{"name": "a", "requests": 0}],
            "requests must be a whole number from 1 to .*found 0 .leave the model out",
        ),
        ([{"name": "a", "requests": MOST_REQUESTS + 1}], "requests must be"),
        ([{"name": "a", "requests": "many"}], "requests must be a whole number"),
        ([{"name": "a", "requests": True}], "requests must be a whole number"),
        ([{"name": "a", "requests": 1.5}], "requests must be a whole number"),
        ([{"name": "a", "requests": 1, "context_length": 0}], "context_length must be .* found 0"),
        ([{"name": "a", "requests": 1, "context_length": MOST_CONTEXT_LENGTH + 1}], "context_length must be"),
        ([{"name": "a", "requests": 1, "replicas": 0}], "replicas must be"),
        ([{"name": "a", "requests": 1, "replicas": MOST_REPLICAS + 1}], "replicas must be"),
        ([{"name": "a", "requests": 1, "priority": MOST_PRIORITY + 1}], "priority must be"),
        ([{"name": "a", "requests": 1, "spread": ["rack"]}], "spread must be a text"),
        ([{"name": "a", "requests": 1, "hosts": ""}], "hosts must be a text"),
        ([{"name": "a", "requests": 1, "replica": 2}], "'replica' is unknown, known are name, requests"),
        (
            [{"name": "a", "requests": 1}, {"name": "A:latest", "requests": 2}],
            "'a:latest' twice, and they contradict: requests is 1 and 2; keep one",
        ),
        (
            [{"name": "a", "requests": 1}, {"name": "a", "requests": 1, "spread": "rack"}],
            "contradict: spread is '' and 'rack'",
        ),
        ([{"name": "a", "requests": 1}] * 2, "'a:latest' twice: name it once"),
        ([{"name": f"m{one}", "requests": 1} for one in range(MOST_DEMANDS + 1)], "at most 256 are placed"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_sentence(items: object, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        demands_from_list(items)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "item",
    [
        {"name": "a", "requests": MOST_REQUESTS, "replicas": MOST_REPLICAS, "priority": MOST_PRIORITY},
        {"name": "a", "requests": 1, "context_length": MOST_CONTEXT_LENGTH, "priority": -MOST_PRIORITY},
        {"name": "x" * 600, "requests": 1, "context_length": 1},
    ],
)
def test_the_bounds_themselves_are_taken(item: dict[str, object]) -> None:
    assert demands_from_list([item])


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ["name", "requests", "context_length", "replicas", "spread", "hosts", "priority", "other"]
            ),
            st.one_of(
                st.none(), st.integers(), st.text(max_size=8), st.floats(), st.booleans(), st.lists(st.none())
            ),
        )
        | st.none()
        | st.text(max_size=4),
        max_size=4,
    )
)
def test_whatever_is_written_is_taken_or_refused_in_one_sentence(items: list[object]) -> None:
    try:
        demands = demands_from_list(items)
    except ValueError as refusal:
        demands, said = (), str(refusal)
    else:
        said = "gpufleet_demand"
    assert re.match(r"(gpufleet_demand|an entry of gpufleet_demand)", said)
    assert all(1 <= demand.requests <= MOST_REQUESTS and demand.replicas >= 1 for demand in demands)
