# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands are run with English messages and their arguments as they stand."""

from __future__ import annotations

import os
import sys
import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _command
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import (
    Abandoned,
    finished_within,
    runner,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed


class Module:
    """Stands in for AnsibleModule: keeps what it is asked to run."""

    def __init__(self, answer):
        self.answer = answer
        self.params = {"unit": "ollama.service"}
        self.asked = {}

    def run_command(self, command, **options):
        self.asked = {"command": command, **options}
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_command_is_run_in_a_known_language_without_expanding_anything():
    module = Module((0, "out", "err"))
    assert runner(module)(["/bin/sh", "show", "$HOME", "~"]) == Completed(0, "out", "err")
    assert module.asked["command"] == ["/bin/sh", "show", "$HOME", "~"]
    assert module.asked["environ_update"]["LC_ALL"] == "C.UTF-8"
    assert module.asked["expand_user_and_vars"] is False


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), PermissionError(13, "denied")])
def test_a_program_that_cannot_be_run_is_an_answer(error):
    assert runner(Module(error))(["/bin/sh"]) == Completed(127, "", error.strerror)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["systemctl", "show"], ["/found/systemctl", "show"]),
        # What env(1) runs stands behind what it sets.
        (["env", "A=1", "B=2", "systemctl", "C=3"], ["/found/env", "A=1", "B=2", "/found/systemctl", "C=3"]),
        (["env", "systemctl", "show"], ["/found/env", "/found/systemctl", "show"]),
    ],
)
def test_programs_are_run_by_their_paths(monkeypatch, command, found):
    monkeypatch.setattr(_command, "program", "/found/{}".format)
    module = Module((0, "", ""))
    runner(module)(command)
    assert module.asked["command"] == found


@pytest.mark.parametrize("is_there", [True, False])
def test_the_users_own_service_manager_is_found_where_it_runs(monkeypatch, is_there):
    monkeypatch.setattr(_command.os.path, "isdir", lambda path: is_there)
    module = Module((0, "", ""))
    runner(module)(["/bin/sh"])
    assert (module.asked["environ_update"].get("XDG_RUNTIME_DIR") == f"/run/user/{os.geteuid()}") is is_there
    assert ("DBUS_SESSION_BUS_ADDRESS" in module.asked["environ_update"]) is is_there


def test_a_command_that_ends_in_time_answers():
    script = "import os, sys; print(os.environ['LC_ALL']); sys.exit('no')"
    answer = finished_within([sys.executable, "-c", script], 30)
    assert answer == Completed(1, "C.UTF-8\n", "no\n")
    absent = finished_within(["/absent/program"], 30)
    assert (absent.return_code, absent.stdout) == (127, "")
    assert absent.stderr.startswith("there is no program /absent/program")


def test_whoever_is_gone_is_missed_twice_a_second():
    assert _command._POLL_S == 0.5


def test_a_command_that_does_not_end_is_ended():
    began = time.monotonic()
    assert finished_within(["/bin/sleep", "60"], 0.2) is None
    assert time.monotonic() - began < 30


def test_a_command_that_nobody_waits_for_is_ended(monkeypatch):
    monkeypatch.setattr(_command, "has_reader", lambda: False)
    began = time.monotonic()
    with pytest.raises(Abandoned):
        finished_within(["/bin/sleep", "60"], 60)
    assert time.monotonic() - began < 30
