# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run with a limit leaves the other hosts on the fleet's page, as they were found and when."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._earlier import with_earlier
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import HostData
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._next_command import MadeBy
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import fleet_report

MONDAY, TUESDAY, WEDNESDAY = (f"2026-11-{day}T05:00:00Z" for day in (23, 24, 25))
FLEET = ("a", "b", "c")


def report(at: str, *names: str, limit: str = "", **made: Any) -> dict[str, Any]:
    hosts = [HostData(name, failure=f"as of {at}") for name in names]
    return fleet_report(hosts, at, MadeBy(limit=limit, **made))


def told(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(host["name"], host["problem"], host["looked_at"]) for host in found["hosts"]]


def test_others_stay_with_their_age_and_count_and_the_run_s_own_are_new() -> None:
    found = with_earlier(report(TUESDAY, "b", limit="b"), report(MONDAY, *FLEET), FLEET)
    assert told(found) == [
        ("a", f"as of {MONDAY}", MONDAY),
        ("b", f"as of {TUESDAY}", TUESDAY),
        ("c", f"as of {MONDAY}", MONDAY),
    ]
    assert (found["summary"]["hosts"], found["summary"]["states"]["failed"]) == (3, 3)
    assert (found["generated_at"], found["made"]["limit"]) == (TUESDAY, "b")
    again = with_earlier(report(WEDNESDAY, "c", limit="c"), found, FLEET)
    assert [at for _name, _problem, at in told(again)] == [MONDAY, TUESDAY, WEDNESDAY]


@pytest.mark.parametrize(
    ("limit", "fleet", "earlier", "names"),
    [
        ("", FLEET, report(MONDAY, *FLEET), ["b"]),
        ("b", ("a", "b"), report(MONDAY, *FLEET), ["a", "b"]),
        ("b", FLEET, report(MONDAY, *FLEET, inventory=("other.yml",)), ["b"]),
        ("b", FLEET, report(MONDAY, *FLEET, pattern="other"), ["b"]),
        ("b", FLEET, report(MONDAY, *FLEET, limit="d", user="u", version="9"), ["a", "b", "c"]),
    ],
)
def test_a_run_without_a_limit_or_of_another_fleet_is_all_there_is(
    limit: str, fleet: tuple[str, ...], earlier: dict[str, Any], names: list[str]
) -> None:
    found = with_earlier(report(TUESDAY, "b", limit=limit), earlier, fleet)
    assert [host["name"] for host in found["hosts"]] == names


WHOLE = report(MONDAY, *FLEET)


@pytest.mark.parametrize(
    "earlier",
    [
        None,
        [],
        "x",
        {},
        {**WHOLE, "format": 0},
        {**WHOLE, "made": None},
        {**WHOLE, "hosts": None},
        {**WHOLE, "hosts": [1]},
        {**WHOLE, "hosts": [{"name": "a"}]},
        {**WHOLE, "hosts": [{**WHOLE["hosts"][0], "gpus": 5}]},
        {**WHOLE, "hosts": [{**WHOLE["hosts"][0], "gpus": [{}]}]},
        {**WHOLE, "hosts": [{**WHOLE["hosts"][0], "state": "merry"}]},
        {**WHOLE, "hosts": [{**WHOLE["hosts"][0], "drift": [1]}]},
        {**WHOLE, "hosts": [{**WHOLE["hosts"][0], "name": []}]},
    ],
)
def test_what_is_no_report_of_this_version_is_passed_over(earlier: Any) -> None:
    new = report(TUESDAY, "b", limit="b")
    assert with_earlier(new, earlier, FLEET) == new
