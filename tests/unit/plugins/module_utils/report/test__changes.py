# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout ends with what it changed on which host, from what to what."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._changes import change_of, closing_lines
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._known import known
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import fleet_report

NOW = "2026-01-01T00:00:00Z"
AFTER = {"differences": [], "conflicts": []}


def difference(layer, found, wanted="4", variable="OLLAMA_NUM_PARALLEL"):
    message = f"{layer} has {found}, wanted {wanted}"
    return {"layer": layer, "variable": variable, "found": found, "wanted": wanted, "message": message}


BEFORE = {
    "at": "1.5",
    "differences": [difference("file", "2"), difference("process", "1"), difference("server", "1")],
}


def lines(**hosts):
    """The table of hosts with these variables."""
    report = fleet_report([known(name, told, False, False).data for name, told in hosts.items()], NOW)
    return closing_lines(report)


def changed(**more):
    facts = {"ollama_report_phase": "changed", "ollama_report_before": BEFORE, "ollama_report_changed_at": "32.76"}
    return {**facts, "ollama_override_restarted": True, "ollama_verify_result": AFTER, **more}


@pytest.mark.parametrize(
    ("differences", "before", "after"),
    [
        (BEFORE["differences"], "1", "4"),
        ([difference("file", None)], "none", "4"),
        ([difference("unit", "")], "an empty value", "4"),
        ([difference("process", "***", "***")], "***", "another value"),
    ],
)
def test_a_change_is_from_what_ran_to_what_is_planned(differences, before, after):
    found = change_of(differences, True, 31.26)
    (variable,) = found["variables"]
    assert (variable["before"], variable["after"]) == (before, after)
    assert (found["restarted"], found["seconds"]) == (True, 31.3)


def test_what_is_about_no_variable_is_told_too():
    found = change_of([difference("process", None, variable="")], None, None)
    assert (found["variables"], found["others"]) == ([], ["process has None, wanted 4"])
    assert (found["restarted"], found["seconds"]) == (None, None)


@pytest.mark.parametrize(("restarted", "told"), [(True, "yes"), (False, "no"), (None, "?")])
def test_whether_it_was_restarted_is_said_where_it_is_known(restarted, told):
    assert lines(a=changed(ollama_override_restarted=restarted))[1].split()[3] == told


def test_the_table_begins_with_what_failed_and_ends_with_what_stayed():
    same = {"ollama_verify_result": {**AFTER, "in_sync": True}}
    failed = {**changed(ollama_report_phase="changing"), "ollama_report_failure": "it does not start. The former drop-in is back"}
    told = lines(gpu01=same, gpu02=changed(), gpu03=same, gpu04=same, gpu05=same, gpu06=failed)
    assert [" ".join(line.split()) for line in told] == [
        "HOST STATE RESTARTED SECONDS CHANGED",
        "gpu06 failed yes - it does not start. The former drop-in is back",
        "gpu02 in sync yes 31 OLLAMA_NUM_PARALLEL 1 -> 4",
        "gpu01, gpu03-gpu05 in sync - - nothing",
    ]


def test_a_host_that_was_not_reached_is_in_the_table():
    assert " ".join(lines(a={"ollama_report_unreachable": "timed out"})[1].split()) == "a unreachable - - timed out"


@pytest.mark.parametrize("phase", ["", "remembered", None])
def test_what_another_rollout_of_the_run_has_changed_is_no_change_of_this_one(phase):
    assert lines(a=changed(ollama_report_phase=phase))[1].endswith("nothing")
