# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The builds of the engine as values, and which of them a version of Ollama pins."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    B10488,
    MEASURED,
    NEWEST_MEASURED,
    PINS,
    EngineBuild,
    neighbours,
    parse_build,
    pin_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import parse
from hypothesis import given
from hypothesis import strategies as st


def test_builds_are_told_by_their_number_or_tag_and_stand_in_order() -> None:
    assert str(B10488) == "b10488"
    assert str(parse_build("v0.5.0")) == "v0.5.0"
    assert EngineBuild(10487) < B10488 < parse_build("v0.4.0") < parse_build("v0.5.0") < EngineBuild(11434)


@given(st.integers(0, 10**9 - 1))
def test_a_build_is_read_from_what_it_is_called(number: int) -> None:
    assert parse_build(f"b{number}") == EngineBuild(number)


@pytest.mark.parametrize("text", ["", "10488", "b", "v0.6.0", "b12x", "b-1", "b1234567890"])
def test_what_is_no_build_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is no build of llama"):
        parse_build(text)


def test_measured_builds_stand_in_order_and_are_those_that_the_readme_claims() -> None:
    assert list(MEASURED) == sorted(MEASURED)
    assert [str(one) for one in MEASURED] == [
        "b10068",
        "b10361",
        "b10488",
        "b10630",
        "b10760",
        "b10865",
        "v0.4.0",
        "b10970",
        "v0.5.0",
        "b11434",
    ]


@pytest.mark.parametrize(
    ("number", "before", "after"),
    [
        (9452, None, "b10068"),
        (10069, "b10068", "b10361"),
        (10361, "b10361", "b10488"),
        (10434, "b10361", "b10488"),
        (10488, "b10488", "b10630"),
        (10863, "b10760", "b10865"),
        (10864, "b10865", "v0.4.0"),
        (10969, "b10970", "v0.5.0"),
        (11433, "v0.5.0", "b11434"),
        (11434, "b11434", None),
    ],
)
def test_a_build_lies_between_measured_ones(number: int, before: str | None, after: str | None) -> None:
    found = neighbours(EngineBuild(number))
    assert tuple(str(one) if one else None for one in found) == (before, after)


@pytest.mark.parametrize(
    ("version", "build"),
    [
        ("0.10.0", None),
        ("0.24.0", None),
        ("0.30.0", "b9452"),
        ("0.30.8", "b9509"),
        ("0.31.1", "b9840"),
        ("0.32.0", "b9888"),
        ("0.32.9", "b10353"),
        ("0.32.13", "b10380"),
        ("0.32.14", "b10434"),
        ("0.32.15", "b10488"),
        ("0.33.0-rc2", "b10488"),
        ("0.34.2", "b10760"),
    ],
)
def test_a_version_pins_the_build_that_its_source_names(version: str, build: str | None) -> None:
    found = rules(version).engine_build
    assert (str(found) if found else None) == build
    assert found is None or found.is_read


@pytest.mark.parametrize(
    ("version", "nearest"), [("0.33.1", B10488), ("0.34.3", NEWEST_MEASURED), ("0.40.2", NEWEST_MEASURED)]
)
def test_where_nobody_has_read_the_pin_the_nearest_known_build_stands_for_it(
    version: str, nearest: EngineBuild
) -> None:
    pin = pin_of(parse(version).release)
    assert pin is not None
    assert (pin.build.number, pin.build.is_read, pin.source) == (nearest.number, False, "")


def test_a_later_release_never_pins_an_earlier_build() -> None:
    assert [pin.since for pin in PINS] == sorted(pin.since for pin in PINS)
    assert [pin.build.number for pin in PINS] == sorted(pin.build.number for pin in PINS)
