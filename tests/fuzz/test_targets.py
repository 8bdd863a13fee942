# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a host, its files or its programs say is read or refused as documented, in bounded time and memory."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.gpufleet.ollama.tests.fuzz.inputs import inputs
from ansible_collections.gpufleet.ollama.tests.fuzz.target import MEMORY_BYTES, Target, TooSlow, changed
from ansible_collections.gpufleet.ollama.tests.fuzz.targets import TARGETS
from hypothesis import given, settings

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@each_target
def test_honest_input_is_taken(target: Target) -> None:
    assert all(map(target.takes, target.honest))


@each_target
def test_what_once_ended_in_another_error_does_so_no_more(target: Target) -> None:
    for data in target.crashed:
        target.takes(data)


@each_target
def test_any_input_is_taken_or_refused_as_documented(target: Target) -> None:
    @settings(max_examples=settings().max_examples // target.share)
    @given(inputs(target))
    def check(data: bytes) -> None:
        target.takes(data)

    check()


def test_an_error_that_is_not_documented_is_found() -> None:
    with pytest.raises(KeyError):
        Target("x", lambda _data: {}["a"], (ValueError,)).takes(b"")


def test_an_input_that_takes_too_long_is_found() -> None:
    with pytest.raises(TooSlow):
        Target("x", lambda _data: sum(1 for _number in itertools.count())).takes(b"", cpu_seconds=0.05)


def test_an_input_that_takes_too_much_memory_is_found() -> None:
    with pytest.raises(MemoryError):
        Target("x", lambda _data: bytes(2 * MEMORY_BYTES)).takes(b"")


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", {"a": [1, 2]}),
        (b"\x01\x00\x00\x04", {"a": None}),
        (b"\x01\x00\x00\x00", {}),
        (b"\x02\x00\x02\x01", {"a": [1, 2, 1, 1]}),
        (b"\x02\x00\x03\x02", {"a": [8, 2]}),
        (b"\x01\x00\x13\x03", {"a": [1, 2], "x": [1, 2]}),
        (b"\x01\x00\x00\x04\x01\x00\x01\x04", {"a": True}),
    ],
)
def test_plain_data_is_changed_as_the_input_says(data: bytes, value: object) -> None:
    assert changed({"a": [1, 2]}, data) == value
