# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a host is not as planned, told from the layers that differ."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.report import _drift_causes
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._drift_causes import explain
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _differences
from hypothesis import given
from hypothesis import strategies as st

NAME = "OLLAMA_NUM_PARALLEL"


def difference(
    layer: str, found: str | None, wanted: str | None = "3", variable: str = NAME
) -> dict[str, Any]:
    message = f"{layer} has {found}, wanted {wanted}"
    return {"layer": layer, "variable": variable, "found": found, "wanted": wanted, "message": message}


@pytest.mark.parametrize(
    ("found", "cause", "told"),
    [
        ({"process": "1"}, _drift_causes.STALE_PROCESS, "1 in process, wanted 3"),
        ({"process": "1", "server": "1"}, _drift_causes.STALE_PROCESS, "1 in process and server, wanted 3"),
        ({"unit": "1", "process": "1"}, _drift_causes.STALE_PROCESS, "1 in unit and process, wanted 3"),
        ({"unit": "1"}, _drift_causes.NOT_RELOADED, "1 in unit, wanted 3"),
        ({"server": "1"}, _drift_causes.READ_OTHERWISE, "1 in server, wanted 3"),
        ({"file": "5"}, _drift_causes.FILE_EDITED, "5 in file, wanted 3"),
        ({"file": "5", "process": "1"}, _drift_causes.FILE_EDITED, "5 in file, 1 in process, wanted 3"),
        ({"file": None}, _drift_causes.FILE_EDITED, "none in file, wanted 3"),
        (
            {"file": "2", "unit": "2", "process": "2"},
            _drift_causes.PLAN_CHANGED,
            "2 in file, unit and process, wanted 3",
        ),
        ({"file": None, "process": None}, _drift_causes.NOT_APPLIED, "none in file and process, wanted 3"),
        ({"file": "", "process": ""}, _drift_causes.PLAN_CHANGED, "an empty value in file and process, wanted 3"),
    ],
)
def test_the_layers_that_differ_tell_the_cause(found: dict[str, str | None], cause: str, told: str) -> None:
    (drift,) = explain([difference(layer, value) for layer, value in found.items()], [])
    assert (drift.variable, drift.wanted, drift.found, drift.cause) == (NAME, "3", found, cause)
    assert drift.difference == told


@pytest.mark.parametrize(
    ("found", "running", "file_edited", "cause"),
    [
        ({"file": "5", "process": "1"}, True, True, _drift_causes.FILE_EDITED),
        ({"file": "5", "process": "5"}, True, True, _drift_causes.FILE_EDITED),
        ({"file": "5", "process": "1"}, True, False, _drift_causes.PLAN_CHANGED),
        ({"file": "5"}, False, False, _drift_causes.PLAN_CHANGED),
        ({"file": "5"}, False, None, _drift_causes.PLAN_CHANGED),
        ({"file": None}, False, None, _drift_causes.NOT_APPLIED),
        ({"process": "1"}, True, True, _drift_causes.STALE_PROCESS),
    ],
)
def test_a_file_was_edited_only_where_it_is_another_than_was_written(
    found: dict[str, str | None], running: bool, file_edited: bool | None, cause: str
) -> None:
    down = [] if running else [difference("process", "failed", "active", variable="")]
    drifts = explain([*down, *(difference(*one) for one in found.items())], [], (), file_edited)
    assert drifts[0].cause == cause


def test_what_site_yml_refuses_comes_first_and_is_told_once() -> None:
    masked = "systemd does not load ollama.service, its state is masked: repair the unit first"
    down = {**difference("process", "inactive", "active", variable=""), "message": masked}
    drifts = explain([down, difference("file", "2")], [], [masked])
    assert (drifts[0].cause, drifts[0].message) == (_drift_causes.REFUSED, masked)
    assert [drift.message for drift in drifts].count(masked) == 1


def test_a_cause_that_the_host_tells_stands_with_its_sentence() -> None:
    told = {**difference("process", "9"), "cause": "set at start", "message": "ExecStart in /x:3"}
    (drift,) = explain([told], [], (), False)
    assert (drift.cause, drift.message) == ("set at start", "ExecStart in /x:3")


def test_a_file_that_decides_the_variable_is_the_cause_whatever_differs() -> None:
    conflict = {
        "variable": NAME,
        "file": "/etc/x.conf",
        "line": 4,
        "message": "/etc/x.conf:4 sets it after ours",
    }
    (drift,) = explain([difference("process", "1"), difference("unit", "1")], [conflict])
    assert (drift.cause, drift.message) == (_drift_causes.OTHER_FILE, "/etc/x.conf:4 sets it after ours")


def test_a_file_that_will_win_is_drift_before_it_does() -> None:
    conflict = {
        "variable": NAME,
        "file": "/etc/x.conf",
        "line": 4,
        "message": "/etc/x.conf:4 sets it after ours",
    }
    (drift,) = explain([], [conflict])
    assert (drift.variable, drift.cause, drift.difference) == (NAME, _drift_causes.OTHER_FILE, "")


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        ("file", _drift_causes.FILE_EDITED),
        ("process", _drift_causes.NOT_RUNNING),
        ("unit", _drift_causes.NOT_RELOADED),
        ("model", _drift_causes.NOT_AS_PLANNED),
    ],
)
def test_what_is_about_no_variable_keeps_its_own_words(layer: str, cause: str) -> None:
    (drift,) = explain([difference(layer, "inactive", "active", variable="")], [])
    assert (drift.variable, drift.cause, drift.message) == ("", cause, f"{layer} has inactive, wanted active")


def test_a_model_that_is_not_as_planned_is_named() -> None:
    (drift,) = explain([difference("model", "75 % on the GPU", "100 %", variable="gemma3:4b")], [])
    assert (drift.variable, drift.cause) == ("gemma3:4b", _drift_causes.NOT_AS_PLANNED)


def test_variables_come_before_what_is_about_none() -> None:
    found = [
        difference("unit", "NeedDaemonReload=yes", "NeedDaemonReload=no", variable=""),
        difference("file", "2"),
    ]
    assert [drift.cause for drift in explain(found, [])] == [_drift_causes.FILE_EDITED, _drift_causes.NOT_RELOADED]


values = st.one_of(st.none(), st.text(max_size=3))
differences = st.lists(
    st.builds(
        difference, st.sampled_from(_drift_causes.LAYERS), values, values, st.sampled_from(["", "A", "B", "C"])
    ),
    unique_by=lambda one: (one["layer"], one["variable"]),
)


@given(differences)
def test_no_difference_is_lost_and_no_variable_told_twice(found: list[dict[str, Any]]) -> None:
    drifts = explain(found, [])
    assert sum(len(drift.found) for drift in drifts) == len(found)
    named = [drift.variable for drift in drifts if "model" not in drift.found and drift.variable]
    assert len(named) == len(set(named))
    assert all(drift.to_dict()["difference"].endswith(drift.difference) for drift in drifts)


def test_of_two_secrets_that_differ_another_value_is_wanted():
    found = {
        "layer": "process",
        "variable": "HF_TOKEN",
        "found": "********",
        "wanted": "********",
        "message": "",
    }
    (drift,) = explain([found], [])
    assert drift.difference == "******** in process, wanted another value"


def test_what_the_comparison_on_the_host_names_is_called_so_here():
    assert (_drift_causes.FORMER_NAME, _drift_causes.EXPOSED) == (_differences.FORMER_NAME, _differences.EXPOSED)
    assert {_drift_causes.FORMER_NAME, _drift_causes.EXPOSED} <= _drift_causes.MENDED_BY_SITE
