# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history has a line for each host that changed its state, is bounded, and tells since when and the trend."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.report import _history
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._history import (
    StateChange,
    read_lines,
    recorded,
    seconds_of,
    with_history,
)
from hypothesis import given
from hypothesis import strategies as st

MONDAY, TUESDAY, WEDNESDAY = (f"2026-11-{day}T05:00:00Z" for day in (23, 24, 25))
PAST = (
    StateChange(MONDAY, "a", "in sync"),
    StateChange(MONDAY, "b", "failed"),
    StateChange(TUESDAY, "a", "drifted"),
)


def report(at: str = WEDNESDAY, **states: str) -> dict[str, Any]:
    hosts = [{"name": name, "state": state} for name, state in states.items()]
    bad = sum(state in ("failed", "drifted", "unreachable", "unknown") for state in states.values())
    return {"generated_at": at, "hosts": hosts, "summary": {"not_as_planned": bad}}


@pytest.mark.parametrize(
    ("states", "added"),
    [
        ({"a": "drifted", "b": "failed"}, []),
        ({"a": "in sync", "b": "failed"}, [("a", "in sync")]),
        ({"c": "planned"}, [("c", "planned")]),
        ({}, []),
    ],
)
def test_a_host_in_another_state_is_a_line(states: dict[str, str], added: list[tuple[str, str]]) -> None:
    told = recorded(PAST, report(**states))
    assert told.added == tuple(StateChange(WEDNESDAY, *one) for one in added)
    assert (told.changes, told.put_aside) == ((*PAST, *told.added), ())


def test_a_host_is_in_its_state_since_it_was_first_found_in_it() -> None:
    told = with_history(report(a="drifted", b="in sync", c="planned"), PAST)
    assert {host["name"]: host["since"] for host in told["hosts"]} == {
        "a": TUESDAY,
        "b": WEDNESDAY,
        "c": WEDNESDAY,
    }


def test_the_trend_counts_the_hosts_of_the_report_that_were_not_as_planned() -> None:
    told = with_history(report(a="in sync", b="failed"), PAST)
    assert [(one["at"], one["not_as_planned"]) for one in told["trend"]] == [
        (MONDAY, 1),
        (TUESDAY, 2),
        (WEDNESDAY, 1),
    ]
    assert [one["age_seconds"] for one in told["trend"]] == [2 * 86400, 86400, 0]
    only_a = with_history(report(a="in sync"), PAST)
    assert [one["not_as_planned"] for one in only_a["trend"]] == [0, 1, 0]


def test_a_trend_has_so_many_points_and_no_more() -> None:
    changes = [
        StateChange(
            f"2026-10-01T{count // 60:02}:{count % 60:02}:00Z", "a", ("drifted", "in sync")[count % 2]
        )
        for count in range(100)
    ]
    trend = with_history(report(a="in sync"), changes)["trend"]
    assert (len(trend), trend[-1]["at"]) == (_history.MOST_POINTS, WEDNESDAY)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "null",
        '{"at": "2026-11-23T05:00:00Z", "host": "a"}',
        '{"at": "yesterday", "host": "a", "state": "failed"}',
        '{"at": 5, "host": "a", "state": "failed"}',
        '{"at": "2026-11-23T05:00:00Z", "host": 5, "state": "failed"}',
        '{"at": "2026-11-23T05:00:00Z", "host": "a", "state": "asleep"}',
        '{"at": "2026-11-23T05:00:00Z", "host": "a", "state": ["failed"]}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_none_is_passed_over(line: str) -> None:
    assert read_lines("".join([PAST[0].line, line + "\n", PAST[2].line])) == (PAST[0], PAST[2])


@given(
    st.lists(st.tuples(st.sampled_from((MONDAY, TUESDAY)), st.text(), st.sampled_from(("failed", "planned"))))
)
def test_what_is_written_is_read_again(told: list[tuple[str, str, str]]) -> None:
    changes = sorted((StateChange(*one) for one in told), key=lambda one: one.at)
    assert read_lines("".join(one.line for one in changes)) == tuple(changes)


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert isinstance(read_lines(text), tuple)


def test_a_file_that_is_full_is_put_aside_and_each_host_keeps_its_last_line() -> None:
    def change(count: int) -> StateChange:
        return StateChange(TUESDAY, "busy", ("failed", "planned")[count % 2])

    quiet = StateChange(MONDAY, "quiet", "in sync")
    full = (quiet, *(change(count) for count in range(_history.MOST_LINES - 1)))
    assert recorded(full, report(busy=full[-1].state, quiet="in sync")).put_aside == ()
    told = recorded(full, report(new="failed"))
    assert told.put_aside == (*full, *told.added)
    assert len(told.changes) == _history.MOST_LINES // 2 + 1
    assert (told.changes[0], told.changes[-1]) == (quiet, StateChange(WEDNESDAY, "new", "failed"))


def test_hosts_that_are_gone_do_not_fill_it() -> None:
    gone = tuple(StateChange(MONDAY, f"gone{count}", "failed") for count in range(_history.MOST_LINES))
    assert len(recorded(gone, report(a="failed")).changes) == _history.MOST_LINES * 3 // 4


@pytest.mark.parametrize(
    ("moment", "seconds"), [("1970-01-01T00:00:00Z", 0), ("2026-11-23T05:47:29Z", 1795412849)]
)
def test_a_moment_in_seconds(moment: str, seconds: int) -> None:
    assert seconds_of(moment) == seconds


def test_the_bounds() -> None:
    assert (_history.MOST_LINES, _history.MOST_POINTS) == (20_000, 60)
