# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a short journal, of one that is too long, and of none."""

from __future__ import annotations

import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _journal_parts
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._journal_parts import (
    parts_of_invocation,
)

RUN = "0" * 32
# As journalctl answers: the newest first, the first first, moments of marked messages, what was before a moment.
JOURNALCTL = """#!/bin/sh
case "$*" in
*MESSAGE=*) for moment in {moments}; do echo "$moment.500000 host ollama[1]: loaded"; done;;
*--until=*) {place};;
*--reverse*) {newest};;
*) {first};;
esac
"""
PLACE = r"""case "$*" in *=@10*) at=late;; *) at=early;; esac; printf "after\nloaded\n$at\nbegun\nolder\n" """


@pytest.fixture
def journalctl(tmp_path, monkeypatch):
    """Puts a journalctl in place that answers with these shell commands."""

    def put(newest: str, first: str = "yes first", moments: str = "", place: str = PLACE) -> None:
        program = tmp_path / "journalctl"
        program.write_text(JOURNALCTL.format(newest=newest, first=first, moments=moments, place=place))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return put


def test_a_short_journal_is_read_whole_and_the_oldest_first(journalctl):
    journalctl(r"printf 'c\nb\na\n'")
    found = parts_of_invocation(RUN)
    assert (found.parts, found.is_whole, found.is_empty) == ((("a", "b", "c"),), True, False)


def test_of_a_long_journal_the_first_and_the_newest_are_read(journalctl):
    journalctl("yes newest")
    found = parts_of_invocation(RUN, newest_bytes=1000)
    first, latest = found.parts
    assert not found.is_whole
    assert set(first) == {"first"}
    assert set(latest) == {"newest"}
    assert 900 < len("\n".join(latest)) <= 1000


def test_a_line_that_was_cut_is_left_out(journalctl):
    journalctl("echo whole; yes 1234567890")
    latest = parts_of_invocation(RUN, newest_bytes=100).parts[-1]
    assert latest[-1] == "whole"
    assert set(latest[:-1]) == {"1234567890"}


def test_what_was_written_before_a_mark_is_found_by_the_index(journalctl):
    journalctl("yes newest", moments="8 5")
    found = parts_of_invocation(RUN, ["loaded"], "begun", newest_bytes=1000)
    assert found.parts[1:3] == (("begun", "early", "loaded", "after"), ("begun", "late", "loaded", "after"))


@pytest.mark.parametrize("moments", ["7 6", "8 6"])
def test_of_two_marks_that_stand_close_each_has_its_own_place(journalctl, moments):
    both = r"printf 'after\nloaded\nlate\nbegun\nloaded\nearly\nbegun\nolder\n'"
    journalctl("yes newest", moments=moments, place=both)
    found = parts_of_invocation(RUN, ["loaded"], "begun", newest_bytes=1000)
    assert found.parts[1:3] == (("begun", "early", "loaded"), ("begun", "late", "loaded", "after"))


def test_a_mark_whose_place_was_not_read_has_none(journalctl):
    journalctl("yes newest", moments="7 6", place=r"printf 'loaded\nlate\nbegun\nolder\n'")
    found = parts_of_invocation(RUN, ["loaded"], "begun", newest_bytes=1000)
    assert found.parts[1:3] == ((), ("begun", "late", "loaded"))


def test_before_a_mark_no_more_is_read_than_where_its_place_begins(journalctl, monkeypatch):
    monkeypatch.setattr(_journal_parts, "_PATIENCE_SECONDS", 30)
    journalctl("yes newest", moments="7", place=r"printf 'loaded\nlate\nbegun\nolder\n'; sleep 60")
    began = time.monotonic()
    assert parts_of_invocation(RUN, ["loaded"], "begun", newest_bytes=1000).parts[1] == ("begun", "late", "loaded")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("end", ["", r"\n"])
def test_the_last_line_of_a_short_journal_counts_however_it_ends(journalctl, end):
    journalctl(rf"printf 'b\na{end}'")
    assert parts_of_invocation(RUN).parts == (("a", "b"),)


def test_a_mark_among_the_newest_is_not_read_again(journalctl):
    journalctl("echo loaded; yes newest", moments="7")
    assert len(parts_of_invocation(RUN, ["loaded"], "begun", newest_bytes=1000).parts) == 2


@pytest.mark.parametrize(
    ("first", "newest", "parts"),
    [
        ("a b c d", "c d e", [("a", "b"), ("c", "d", "e")]),
        ("a b a b", "a b a b", [(), ("a", "b", "a", "b")]),
        ("a b", "c d", [("a", "b"), ("c", "d")]),
        ("a c", "c c d", [("a",), ("c", "c", "d")]),
        ("a a a", "a b", [("a", "a"), ("a", "b")]),
    ],
)
def test_lines_that_are_among_the_first_and_the_newest_come_once(journalctl, first, newest, parts):
    lines = r"\n".join(reversed(newest.split()))
    journalctl(f"printf '{lines}\\n'; yes older", r"printf '{}\ncut'".format(r"\n".join(first.split())))
    size = len(newest) + 4
    assert list(parts_of_invocation(RUN, newest_bytes=size).parts) == parts


def test_a_mark_among_the_first_lines_is_not_read_again(journalctl):
    journalctl("yes newest", r"printf 'begun\nloaded\ncut'", moments="8 5")
    found = parts_of_invocation(RUN, ["loaded"], "begun", newest_bytes=1000)
    assert [part[:3] for part in found.parts[:-1]] == [("begun", "loaded"), ("begun", "late", "loaded")]


def test_a_line_that_comes_again_and_again_is_held_against_the_newest_some_times(monkeypatch):
    before = _journal_parts._before
    assert before(["a"] * 63 + ["a", "b"], ["a", "b", "c"]) == ("a",) * 63
    assert before(["a"] * 64 + ["a", "b"], ["a", "b", "c"]) == (*["a"] * 65, "b")
    assert before(["a"], []) == ("a",)


def test_of_marks_without_end_some_are_read(journalctl, monkeypatch):
    monkeypatch.setattr(_journal_parts, "ALL_SECONDS", 60)
    journalctl("yes newest", moments="$(seq 7000 8000)")
    assert len(parts_of_invocation(RUN, ["loaded"], "begun", newest_bytes=1000).parts) == 2 + 16
    monkeypatch.setattr(_journal_parts, "ALL_SECONDS", 0)
    assert len(parts_of_invocation(RUN, ["loaded"], "begun", newest_bytes=1000).parts) == 2 + 2


def test_time_ends_the_reading_of_a_journal_that_comes_slowly(journalctl, monkeypatch):
    monkeypatch.setattr(_journal_parts, "LEAST_BYTES", 1)
    journalctl("echo newest; sleep 60")
    began = time.monotonic()
    assert parts_of_invocation(RUN).parts[-1] == ("newest",)
    assert time.monotonic() - began < 10


def test_so_much_is_read_whatever_time_it_takes(journalctl):
    journalctl("echo newest; sleep 0.5; echo older")
    assert parts_of_invocation(RUN, newest_seconds=0).parts == (("older", "newest"),)


@pytest.mark.parametrize("invocation", ["", "-f", "0" * 31, "0" * 32 + "\n"])
def test_what_is_no_invocation_is_not_handed_to_journalctl(journalctl, invocation):
    journalctl("yes newest")
    found = parts_of_invocation(invocation)
    assert (found.is_empty, found.is_whole) == (True, True)


def test_a_missing_journalctl_is_an_empty_journal(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert parts_of_invocation(RUN).is_empty


def test_the_budgets():
    """16 MiB at most, 1 MiB in any case, a quarter of a second in all where nothing else takes the host's time."""
    assert (_journal_parts.NEWEST_BYTES, _journal_parts.LEAST_BYTES) == (16 << 20, 1 << 20)
    assert (_journal_parts.NEWEST_SECONDS, _journal_parts.ALL_SECONDS) == (0.12, 0.25)
    assert (_journal_parts.FIRST_BYTES, _journal_parts.PLACE_BYTES) == (256 << 10, 256 << 10)
    assert (_journal_parts._PATIENCE_SECONDS, _journal_parts._PIECE_BYTES) == (5.0, 64 << 10)
