# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines for a terminal: tables that fit, names of hosts in ranges, sentences once."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._lines import (
    LEAST_OF_A_COLUMN,
    LINE_CHARACTERS,
    MOST_NAMED,
    in_order,
    named,
    said_once,
    sentences,
    table,
)
from hypothesis import given
from hypothesis import strategies as st

CALLBACK = '        "",'
TERMINAL = 120


def test_a_line_fits_a_terminal_with_what_ansible_puts_around_it():
    assert LINE_CHARACTERS + len(CALLBACK) == TERMINAL


def test_a_table_is_as_wide_as_its_widest_cells():
    assert table([("NAME", "GiB"), ("a", "12.0"), ("long name", "3.0")], "lr") == [
        "NAME        GiB",
        "a          12.0",
        "long name   3.0",
    ]


def test_a_long_last_column_goes_on_below_itself():
    lines = table([("HOST", "WHY"), ("gpu01", "because " * 30), ("gpu02", "")], "ll")
    assert [line[:5].strip() for line in lines] == ["HOST", "gpu01", "", "", "gpu02"]
    assert lines[1].startswith("gpu01  because because")
    assert all(line.startswith(" " * 7 + "because") for line in lines[2:4])
    assert max(map(len, lines)) <= LINE_CHARACTERS
    assert len(lines[1]) > LINE_CHARACTERS - len("because ")


def test_a_column_beside_a_very_wide_one_keeps_some_room():
    lines = table([("h" * 100, "word " * 20)], "ll")
    assert max(len(line) - 102 for line in lines) <= LEAST_OF_A_COLUMN
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["gpu01"], "gpu01"),
        (["gpu01", "gpu02"], "gpu01, gpu02"),
        (["gpu02", "gpu01", "gpu03"], "gpu01-gpu03"),
        ([f"gpu{number:02}" for number in range(1, 11)], "gpu01-gpu10"),
        (["gpu1", "gpu2", "gpu3", "gpu5", "web"], "gpu1-gpu3, gpu5, web"),
        (["gpu8", "gpu9", "gpu10"], "gpu8-gpu10"),
        (["gpu08", "gpu09", "gpu10"], "gpu08-gpu10"),
        (["gpu8", "gpu09", "gpu10"], "gpu8, gpu09, gpu10"),
        (["a1.example.org", "a2.example.org", "a3.example.org"], "a1-a3.example.org"),
        (["a1.b2", "a2.b2", "a3.b3"], "a1.b2, a2.b2, a3.b3"),
        (["node1-gpu", "node2-gpu", "node3-gpu"], "node1-gpu-node3-gpu"),
        (["10.0.0.1", "10.0.0.2", "10.0.0.3"], "10.0.0.1, 10.0.0.2, 10.0.0.3"),
        (list("abcdef"), "a, b, c, d, e, f"),
        (list("abcdefg"), "a, b, c, d, e and 2 more"),
        ([*"abcde", "x1", "x2", "x3", "y"], "a, b, c, d, e and 4 more"),
        ([], ""),
    ],
)
def test_names_that_follow_each_other_are_a_range(names, told):
    assert named(names) == told


@given(st.sets(st.from_regex(r"[a-c]{0,2}[0-9]{1,3}[x]?(\.z)?", fullmatch=True), max_size=MOST_NAMED))
def test_no_name_is_lost_or_made_up(names):
    read = set()
    for part in filter(None, named(names).split(", ")):
        first, _dash, last = part.partition("-")
        if not last:
            read.add(first)
            continue
        prefix, low = re.fullmatch(r"(\D*)(\d+)x?", first).groups()
        high, suffix = re.fullmatch(r"\D*(\d+)(x?(?:\.z)?)", last).groups()
        width = len(low) if low.startswith("0") else 0
        read |= {f"{prefix}{number:0{width}}{suffix}" for number in range(int(low), int(high) + 1)}
    assert read == names


def test_numbers_are_sorted_as_numbers():
    assert sorted(["gpu10", "web", "gpu9", "gpu9.a"], key=in_order) == ["gpu9", "gpu9.a", "gpu10", "web"]


def test_a_sentence_is_said_once_for_all_that_it_is_about():
    told = {"gpu01": ["hot", "hot"], "gpu02": ["old"], "gpu03": ["hot"]}
    assert said_once(told) == ["gpu01, gpu03: hot", "gpu02: old"]


def test_sentences_are_a_list():
    lines = sentences(["short", "word " * 40])
    assert lines[0] == "  - short"
    assert [line[:4] for line in lines[1:]] == ["  - ", "    "]
    assert LINE_CHARACTERS - len("word ") < len(lines[1]) <= LINE_CHARACTERS
