# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every layer's differences, with found, wanted and the reason; secrets masked."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._differences import (
    activity_differences,
    added_settings,
    dropped_variables,
    file_differences,
    process_differences,
    readable_secrets,
    server_differences,
    under_other_names,
    unit_differences,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import (
    Conflict,
    Origin,
    Variable,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import variables_of

UNIT = "ollama.service"


def messages(differences):
    return [difference.message for difference in differences]


def test_a_file_that_sets_what_is_wanted_does_not_differ():
    assert file_differences("/d", {"A": "1"}, {"A": "1"}) == []


def test_a_file_differs_in_missing_other_and_superfluous_variables():
    assert messages(file_differences("/d", {"A": "1", "C": ""}, {"A": "2", "B": ""})) == [
        "/d sets A=1, wanted 2: it is to be written again",
        "/d sets no B, wanted an empty value: it is to be written again",
        "/d sets C=, wanted none: it is to be written again",
    ]


def test_a_prefix_of_the_value_is_not_the_value():
    assert len(unit_differences(UNIT, {"A": "16"}, {"A": "1"}, False)) == 1


@pytest.mark.parametrize(
    ("need_daemon_reload", "conflicts", "reason"),
    [
        (True, [], "systemctl daemon-reload is needed"),
        (False, [], "no file that was found says so"),
        (
            False,
            [Conflict("A", "/z", 4, "/z:4 (UnsetEnvironment) takes A away: remove it")],
            "/z:4 (UnsetEnvironment)",
        ),
    ],
)
def test_why_systemd_holds_another_value_is_found(need_daemon_reload, conflicts, reason):
    difference = unit_differences(UNIT, {"A": "7"}, {"A": "4"}, need_daemon_reload, conflicts)[0]
    assert difference.message.startswith(f"systemd holds for ollama.service A=7, wanted 4: {reason}")


def test_a_needed_reload_is_a_difference_of_its_own():
    (difference,) = unit_differences(UNIT, {"A": "1"}, {"A": "1"}, True)
    assert (difference.variable, difference.found) == ("", "NeedDaemonReload=yes")


def test_a_stale_process_says_that_it_must_be_restarted():
    (difference,) = process_differences(UNIT, {"A": "1"}, {"A": "3"}, {}, [])
    assert difference.message == (
        "ollama.service runs with A=1, wanted 3: it was started before the drop-in took effect and must be restarted"
    )
    assert difference.to_dict()["layer"] == "process"


def test_a_conflict_is_the_reason_where_there_is_one():
    (difference,) = process_differences(
        UNIT, {"A": "1"}, {"A": "3"}, {}, [Conflict("A", "/z", 4, "/z:4 sets A: remove it")]
    )
    assert difference.message == "ollama.service runs with A=1, wanted 3: /z:4 sets A: remove it"


def test_what_our_dropin_set_before_must_leave_the_process():
    resolved = {"B": Variable("B", Origin("/u", 1, "fragment", "vendor"))}
    dropped = dropped_variables(
        [{"A": "1", "B": "2", "C": "3"}, {"D": "4"}], {"C": "3"}, resolved, {"D": "manager"}
    )
    assert dropped == {"A": None, "B": "vendor", "D": "manager"}
    process = {"A": "1", "B": "2", "C": "3", "D": "manager"}
    assert messages(process_differences(UNIT, process, {"C": "3"}, dropped, [])) == [
        "ollama.service runs with A=1, wanted none: it was started before the drop-in took effect and must be restarted",
        "ollama.service runs with B=2, wanted vendor: it was started before the drop-in took effect and must be restarted",
    ]


def test_secrets_are_masked_in_every_field():
    (difference,) = process_differences(UNIT, {"HF_TOKEN": "old"}, {"HF_TOKEN": "new"}, {}, [])
    assert "old" not in str(difference.to_dict()).replace("was started", "")
    assert "new" not in str(difference.to_dict())


def test_what_ollama_parsed_otherwise_is_named():
    (difference,) = server_differences(UNIT, {"OLLAMA_KEEP_ALIVE": ("5m0s", "24h0m0s")})
    assert difference.layer == "server"
    assert difference.message.startswith(
        "Ollama in ollama.service took OLLAMA_KEEP_ALIVE=5m0s, wanted 24h0m0s"
    )


@pytest.mark.parametrize(
    ("process", "misread", "reason"),
    [
        (None, {}, "it did not parse the value as meant, or the process was started before it was set"),
        ({"A": "1"}, {}, "its process does not have the value that is wanted"),
        ({"A": "y"}, {}, "its process does not have the value that is wanted"),
        ({}, {"A": "A=x is no number"}, "its process does not have the value that is wanted"),
        ({"A": "x"}, {"A": "A=x is no number"}, "A=x is no number"),
        ({"A": "x"}, {}, "its process has the value that is wanted, and Ollama made something else of it"),
    ],
)
def test_why_ollama_took_another_value_is_found(process, misread, reason):
    (difference,) = server_differences(UNIT, {"A": ("0", "x")}, process, {"A": "x"}, misread)
    assert difference.message == f"Ollama in ollama.service took A=0, wanted x: {reason}"


def test_the_variables_of_a_dropins_text():
    assert variables_of(None) == {}
    assert variables_of('[Service]\nEnvironment="A=1" "B=x y"\nEnvironment=A=2\n') == {
        "A": "2",
        "B": "x y",
    }


def test_what_somebody_added_to_our_drop_in_is_named_by_line_without_its_value():
    assert added_settings("/d", '[Service]\nEnvironment="A=1"\n') == []
    (added,) = added_settings("/d", '[Service]\nEnvironment="A=1"\n# mine\nExecStartPre=/bin/login secret\n')
    assert (added.layer, added.variable, added.found, added.wanted) == ("file", "", "ExecStartPre", None)
    assert added.message.startswith(
        "/d:4 sets ExecStartPre, which is not ours: the file is to be written again"
    )
    assert "secret" not in added.message
    (added,) = added_settings("/d", "[Service]\nCPUWeight=5\n")
    assert (added.variable, added.found) == ("", "CPUWeight")


@pytest.mark.parametrize(
    ("setting", "added"),
    [
        ("EnvironmentFile=/d/zz.env", []),
        ("EnvironmentFile=/d/aa.env", ["EnvironmentFile"]),
        ("EnvironmentFile=/z", ["EnvironmentFile"]),
    ],
)
def test_our_own_environment_file_is_not_an_addition(setting, added):
    assert [one.found for one in added_settings("/d/zz.conf", f"[Service]\n{setting}\n")] == added


@pytest.mark.parametrize(
    ("state", "refusals", "because", "message"),
    [
        ("active", ["it is masked"], "it failed", None),
        ("activating", [], "", "ollama.service is activating, wanted active"),
        ("inactive", [], "", "ollama.service is inactive, wanted active"),
        ("failed", [], "it has no memory", "ollama.service is failed, wanted active: it has no memory"),
        ("failed", ["it is masked", "it is a link"], "it has no memory", "it is masked"),
    ],
)
def test_a_service_that_is_not_active_says_why(state, refusals, because, message):
    found = activity_differences(UNIT, state, refusals, because)
    expected = [] if message is None else [("process", "", state, "active", message)]
    assert [(one.layer, one.variable, one.found, one.wanted, one.message) for one in found] == expected


def test_a_difference_has_no_cause_unless_one_is_known():
    (differs,) = file_differences("/d", {}, {"A": "1"})
    assert (differs.to_dict()["cause"], differs.found, differs.wanted) == ("", None, "1")
    (old,) = under_other_names("/d/zz.conf", ["/d/old.conf"])
    assert (old.cause, old.found, old.wanted) == ("former name", "/d/old.conf", None)
    (taken,) = process_differences(UNIT, {"A": "1"}, {"A": "2"}, {}, [], "its ExecStart")
    assert taken.cause == "set at start"
    assert "what starts it sets another value (its ExecStart)" in taken.message


def test_secrets_that_others_can_read_are_named_one_by_one_and_by_file():
    dropin = '[Service]\nEnvironment="A=1" "A_KEY=x" "B_KEY="\n'
    found = readable_secrets("/d/zz.conf", dropin, exposed=True)
    assert [(one.variable, one.found, one.wanted, one.cause) for one in found] == [
        ("A_KEY", "********", "********", "exposed secret"),
        ("", "readable", "private", "exposed secret"),
    ]
    assert [one.variable for one in readable_secrets("/d/zz.conf", dropin, exposed=False)] == ["A_KEY"]
