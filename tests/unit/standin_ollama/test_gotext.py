# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Go's forms of durations, JSON and times."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.tests.standin_ollama import gotext
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("5m", 300 * 10**9),
        ("1h30m", 5400 * 10**9),
        ("-1s", -(10**9)),
        ("1.5s", 15 * 10**8),
        ("0", 0),
        ("100ms", 10**8),
    ],
)
def test_reads_durations(text: str, nanoseconds: int) -> None:
    assert gotext.parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("zz", 'time: invalid duration "zz"'),
        ("5", 'time: missing unit in duration "5"'),
        ("", 'time: invalid duration ""'),
    ],
)
def test_refuses_durations_in_gos_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gotext.parse_duration(text)


@given(st.integers(min_value=0, max_value=10**15))
def test_reads_back_what_it_writes(nanoseconds: int) -> None:
    assert gotext.parse_duration(gotext.format_duration(nanoseconds)) == pytest.approx(nanoseconds, abs=1)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (87944, "87.944µs"),
        (856824368, "856.824368ms"),
        (300 * 10**9, "5m0s"),
        (3600 * 10**9, "1h0m0s"),
        (5, "5ns"),
    ],
)
def test_writes_durations(nanoseconds: int, text: str) -> None:
    assert gotext.format_duration(nanoseconds) == text


def test_escapes_what_gos_json_escapes() -> None:
    assert gotext.to_json({"a": "<|&é\n"}) == '{"a":"\\u003c|\\u0026é\\n"}'


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (1795412862627843811, "2026-11-23T05:47:42.627843811Z"),
        (0, "1970-01-01T00:00:00Z"),
        (15 * 10**8, "1970-01-01T00:00:01.5Z"),
    ],
)
def test_writes_times(nanoseconds: int, text: str) -> None:
    assert gotext.timestamp(nanoseconds) == text
