# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers, booleans and durations as Go takes and prints them."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._go_text import (
    INT64_MAX,
    duration_text,
    parse_bool,
    parse_duration_ns,
    parse_int,
    parse_uint,
)
from hypothesis import given
from hypothesis import strategies as st

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("5m", 300 * SECOND),
        ("24h", 86400 * SECOND),
        ("1h2m3s", 3723 * SECOND),
        ("1.5h", 5400 * SECOND),
        ("-1s", -SECOND),
        ("+1s", SECOND),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("250ms", 250_000_000),
        ("3us", 3000),
        ("3\u00b5s", 3000),
        ("3\u03bcs", 3000),
        ("7ns", 7),
        ("", None),
        ("-", None),
        ("5", None),
        ("5d", None),
        ("m", None),
        (".s", None),
        ("1h ", None),
        ("5m junk", None),
        ("99999999999h", None),
        ("\u0665m", None),
    ],
)
def test_durations_parse_as_in_go(text, nanoseconds):
    assert parse_duration_ns(text) == nanoseconds


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (300 * SECOND, "5m0s"),
        (86400 * SECOND, "24h0m0s"),
        (1_500_000_000, "1.5s"),
        (250_000_000, "250ms"),
        (1_500, "1.5\u00b5s"),
        (999, "999ns"),
        (-SECOND, "-1s"),
        (INT64_MAX, "2562047h47m16.854775807s"),
    ],
)
def test_durations_print_as_in_go(nanoseconds, text):
    assert duration_text(nanoseconds) == text


@given(st.integers(min_value=-INT64_MAX, max_value=INT64_MAX))
def test_a_printed_duration_parses_back(nanoseconds):
    assert parse_duration_ns(duration_text(nanoseconds)) == nanoseconds


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_none(text):
    for parse in (parse_uint, parse_int, parse_bool, parse_duration_ns):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", None),
        ("-1", None),
        ("+1", None),
        ("8G", None),
        ("", None),
        ("1_0", None),
    ],
)
def test_unsigned_numbers(text, value):
    assert parse_uint(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("-1", -1), ("+1", 1), ("9223372036854775807", INT64_MAX), ("9223372036854775808", None), ("x", None)],
)
def test_signed_numbers(text, value):
    assert parse_int(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("T", True), ("false", False), ("F", False), ("yes", None), ("TRue", None)],
)
def test_booleans(text, value):
    assert parse_bool(text) is value


@pytest.mark.parametrize("read", [parse_uint, parse_int, parse_duration_ns])
@pytest.mark.parametrize("text", ["9" * 5000, "9" * 5000 + "s", "²", "-²", "٣s", "1" + "0" * 5000 + "h"])
def test_more_digits_than_python_reads_are_no_number(read, text):
    assert read(text) is None


def test_digits_that_change_nothing_are_read_however_many():
    assert parse_uint("0" * 5000 + "7") == parse_int("+" + "0" * 5000 + "7") == 7
    assert parse_duration_ns("0" * 5000 + "7s") == 7 * SECOND
    assert parse_duration_ns("1." + "0" * 5000 + "7s") == SECOND
    assert parse_uint("18446744073709551616") is None
    assert parse_int("-9223372036854775808") == -(1 << 63)
