# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host changed its state when: the lines of history.jsonl, and what a report makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._states import DRIFTED, NOT_SEEN, STATES

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
# When there are so many lines, they are put aside, and half as many go on.
MOST_LINES = 20_000
# Of so many points a reader sees a trend.
MOST_POINTS = 60
_NOT_AS_PLANNED = (*NOT_SEEN, DRIFTED)


@dataclass(frozen=True)
class StateChange:
    """A host that a run has found in another state than the run before. `at` in ISO 8601, UTC."""

    at: str
    host: str
    state: str

    @property
    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True)
class Recorded:
    """What the file holds from now on, and what of it is new; `put_aside` is all of it where the file begins anew."""

    changes: tuple[StateChange, ...]
    added: tuple[StateChange, ...]
    put_aside: tuple[StateChange, ...] = ()


@lru_cache(maxsize=1024)  # all lines of one run have the same
def seconds_of(moment: str) -> int:
    """Seconds since 1970 of a moment in TIME_FORMAT.

    Raises: ValueError where it is none.
    """
    return int(datetime.strptime(moment, TIME_FORMAT).replace(tzinfo=timezone.utc).timestamp())


def read_lines(text: str) -> tuple[StateChange, ...]:
    """The changes that a file tells of, the oldest first; a line that is none is passed over."""
    found = (_change(line) for line in text.splitlines())
    return tuple(sorted((one for one in found if one), key=lambda one: one.at))


def recorded(changes: Sequence[StateChange], report: Mapping[str, Any]) -> Recorded:
    """The changes, and the hosts of the report that are in another state than the last time; what it is not about stays."""
    last = _last(changes)
    added = tuple(
        StateChange(report["generated_at"], host["name"], host["state"])
        for host in report["hosts"]
        if host["name"] not in last or last[host["name"]].state != host["state"]
    )
    every = (*changes, *added)
    if not added or len(every) <= MOST_LINES:
        return Recorded(every, added)
    newest = every[-MOST_LINES // 2 :]
    # Each host's last, however old, because it tells since when.
    older = sorted(_last(every[: -MOST_LINES // 2]).values(), key=lambda one: one.at)
    named = {one.host for one in newest}
    kept = [one for one in older if one.host not in named][-MOST_LINES // 4 :]
    return Recorded((*kept, *newest), added, every)


def with_history(report: Mapping[str, Any], changes: Sequence[StateChange]) -> dict[str, Any]:
    """The report with each host's `since` and the fleet's `trend`, how many of its hosts were not as planned when.

    A host whose last change was to another state is in its state since the report was made.
    """
    last = _last(changes)
    at = report["generated_at"]
    hosts = [
        {
            **host,
            "since": last[host["name"]].at
            if host["name"] in last and last[host["name"]].state == host["state"]
            else at,
        }
        for host in report["hosts"]
    ]
    return {**report, "hosts": hosts, "trend": _trend(report, changes)}


def _trend(report: Mapping[str, Any], changes: Sequence[StateChange]) -> list[dict[str, Any]]:
    now = seconds_of(report["generated_at"])
    names = {host["name"] for host in report["hosts"]}
    states: dict[str, str] = {}
    counts: dict[str, int] = {}
    for one in changes:
        if one.host in names and one.at < report["generated_at"]:
            states[one.host] = one.state
            counts[one.at] = sum(state in _NOT_AS_PLANNED for state in states.values())
    counts[report["generated_at"]] = report["summary"]["not_as_planned"]
    return [
        {"at": at, "age_seconds": now - seconds_of(at), "not_as_planned": count}
        for at, count in [*counts.items()][-MOST_POINTS:]
    ]


def _last(changes: Iterable[StateChange]) -> dict[str, StateChange]:
    return {one.host: one for one in changes}


def _change(line: str) -> StateChange | None:
    try:
        one = json.loads(line)
        change = StateChange(one["at"], one["host"], one["state"])
        seconds_of(change.at)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    is_one = isinstance(change.host, str) and change.state in STATES
    return change if is_one else None
