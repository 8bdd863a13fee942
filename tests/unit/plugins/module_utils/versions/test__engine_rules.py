# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changed between builds of the engine, and how far the rules of a build are known."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    MEASURED,
    EngineBuild,
    Standing,
    parse_build,
    pin_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import (
    AS_FIRST_READ,
    CHANGES,
    engine_rules,
    rules_name,
    standing_of,
)
from hypothesis import given
from hypothesis import strategies as st


def changed(text: str) -> set[str]:
    """What a build does otherwise than b10488."""
    first = asdict(AS_FIRST_READ)
    return {name for name, value in asdict(engine_rules(parse_build(text))).items() if value != first[name]}


B10630 = {
    "allocates_workspaces",
    "clamps_apart",
    "counts_rows_together",
    "projects_flat",
    "turns_in_place",
    "turns_whole_query",
}
B10760 = B10630 | {"keeps_experts"}
B10865 = B10760 | {"hands_over_at_once"}
V0_4_0 = B10865 | {"caches_predictions"}
V0_5_0 = V0_4_0 | {"keeps_routing", "copies_time_step", "wants_even_batches"}


@pytest.mark.parametrize(
    ("build", "names"),
    [
        ("b10068", {"turns_flash_on"}),
        ("b10361", set()),
        ("b10488", set()),
        ("b10630", B10630),
        ("b10760", B10760),
        ("b10865", B10865),
        ("v0.4.0", V0_4_0),
        ("b10970", V0_4_0),
        ("v0.5.0", V0_5_0),
        (
            "b11434",
            V0_5_0 | {"groups_shared_expert", "takes_mixed_batches", "gathers_once"},
        ),
    ],
)
def test_what_a_build_does_otherwise_than_b10488(build: str, names: set[str]) -> None:
    assert changed(build) == names


@pytest.mark.parametrize(
    ("build", "standing", "based_on"),
    [
        ("b9452", Standing.ESTIMATE, ["b10068"]),
        ("b10068", Standing.MEASURED, ["b10068"]),
        ("b10069", Standing.INHERITED, ["b10068", "b10361"]),
        ("b10353", Standing.INHERITED, ["b10068", "b10361"]),
        ("b10361", Standing.MEASURED, ["b10361"]),
        ("b10380", Standing.INHERITED, ["b10361", "b10488"]),
        ("b10434", Standing.INHERITED, ["b10361", "b10488"]),
        ("b10500", Standing.ESTIMATE, ["b10488"]),
        ("b10630", Standing.MEASURED, ["b10630"]),
        ("b10745", Standing.ESTIMATE, ["b10630"]),
        ("b10800", Standing.ESTIMATE, ["b10760"]),
        ("b10864", Standing.MEASURED, ["b10865"]),
        ("b10865", Standing.MEASURED, ["b10865"]),
        ("b10900", Standing.ESTIMATE, ["b10865"]),
        ("b10950", Standing.INHERITED, ["v0.4.0", "b10970"]),
        ("b10969", Standing.MEASURED, ["b10970"]),
        ("v0.5.0", Standing.MEASURED, ["v0.5.0"]),
        ("b11350", Standing.ESTIMATE, ["v0.5.0"]),
        ("b11434", Standing.MEASURED, ["b11434"]),
        ("b11435", Standing.ESTIMATE, ["b11434"]),
    ],
)
def test_how_far_the_rules_of_a_build_are_known(build: str, standing: Standing, based_on: list[str]) -> None:
    found, based = standing_of(parse_build(build))
    assert found is standing
    assert [str(one) for one in based] == based_on
    rules = engine_rules(parse_build(build))
    assert rules.allows_for_change == (standing is Standing.ESTIMATE)


def test_where_it_is_in_doubt_a_change_counts_where_it_takes_more() -> None:
    in_doubt = engine_rules(EngineBuild(10745))
    assert in_doubt.keeps_experts
    assert engine_rules(EngineBuild(10900)).caches_predictions


def test_a_build_that_nobody_has_read_is_never_exact() -> None:
    unread = EngineBuild(10488, is_read=False)
    assert standing_of(unread)[0] is Standing.ESTIMATE
    assert engine_rules(unread).allows_for_change


@pytest.mark.parametrize(("build", "turns_on"), [("b10068", False), ("b10090", True), ("b10091", True)])
def test_what_is_only_refused_by_one_of_two_builds_leaves_their_rows_equal(build: str, turns_on: bool) -> None:
    assert engine_rules(parse_build(build)).turns_flash_on == turns_on
    assert standing_of(parse_build(build))[0] is not Standing.ESTIMATE


@pytest.mark.parametrize("build", ["b10760", "v0.5.0", "b11434"])
def test_without_fusion_nothing_is_kept_for_it(build: str) -> None:
    rules = engine_rules(parse_build(build), fuses=False)
    assert [rules.keeps_experts, rules.keeps_routing, rules.groups_shared_expert] == [False] * 3
    assert rules.clamps_apart


@given(st.integers(0, 20000))
def test_every_build_has_rules_and_only_a_measured_or_inherited_one_is_exact(number: int) -> None:
    standing, based = standing_of(EngineBuild(number))
    assert based
    assert standing is not Standing.INHERITED or len(based) == 2
    assert standing is Standing.ESTIMATE or MEASURED[0] <= EngineBuild(number + 1) <= EngineBuild(11435)


def test_each_change_came_after_the_build_that_lacks_it() -> None:
    assert all(change.absent < change.present for change in CHANGES)
    assert len({change.name for change in CHANGES}) == len(CHANGES)


@pytest.mark.parametrize(
    ("version", "release", "name"),
    [
        ("0.33.0-rc2", (0, 33, 0), "llama.cpp b10488 (Ollama 0.33.0-rc2)"),
        (
            "0.32.14",
            (0, 32, 14),
            "llama.cpp b10434 (Ollama 0.32.14), as b10361 and b10488, between which nothing changed",
        ),
        ("0.30.0", (0, 30, 0), "llama.cpp b9452 (Ollama 0.30.0), not measured: a bound by b10068"),
        ("0.40.2", (0, 40, 2), "llama.cpp of a build that is not known (Ollama 0.40.2): a bound by b11434"),
    ],
)
def test_the_rules_are_called_by_engine_and_ollama(
    version: str, release: tuple[int, int, int], name: str
) -> None:
    pin = pin_of(release)
    assert pin is not None
    assert rules_name(pin.build, version) == name
