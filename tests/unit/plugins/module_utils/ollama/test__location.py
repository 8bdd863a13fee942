# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the store and the server are, from what systemd says of the unit."""

from __future__ import annotations

import os
import pwd

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._location import (
    INSTALLER_HOME,
    locate,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed

UNIT = "ollama.service"
INSTALLED = {
    "LoadState": "loaded",
    "MainPID": "0",
    "User": "",
    "Environment": "PATH=/usr/bin",
    "ExecStart": "{ path=/usr/local/bin/ollama ; argv[]=/usr/local/bin/ollama serve ; ignore_errors=no }",
}


@pytest.fixture
def located(tmp_path):
    """What is found on a host whose systemctl prints these properties."""

    def find(scope="system", **properties):
        lines = [f"{name}={value}" for name, value in {**INSTALLED, **properties}.items()]
        return locate(lambda command: Completed(0, "\n".join(lines), ""), scope, UNIT, str(tmp_path))

    return find


def running(tmp_path, **environment):
    """A process's folder in /proc, and the property that names it."""
    (tmp_path / "77").mkdir()
    content = b"".join(f"{name}={value}".encode() + b"\0" for name, value in environment.items())
    (tmp_path / "77" / "environ").write_bytes(content)
    return {"MainPID": "77"}


def test_the_environment_of_the_process_is_kept_and_not_shown(located, tmp_path):
    environment = {"PATH": "/bin", "HTTPS_PROXY": "http://user:hunter2@p:3128"}
    found = located(**running(tmp_path, **environment))
    assert found.environment == environment
    assert "hunter2" not in repr(found)


def test_asks_systemctl_once_and_by_a_list():
    asked = []

    def run(command):
        asked.append(command)
        return Completed(0, "", "")

    locate(run, "user", "ollama@2.service")
    assert [command[:3] + command[-2:] for command in asked] == [
        ["systemctl", "--user", "show", "--", "ollama@2.service"]
    ]


@pytest.mark.parametrize(
    "answer", [Completed(127, "", "not found"), Completed(0, "LoadState=not-found\n", "")]
)
def test_a_host_without_the_unit_is_taken_to_be_as_the_installer_makes_it(answer):
    found = locate(lambda command: answer, "system", UNIT)
    assert not found.exists
    assert found.models_path == f"{INSTALLER_HOME}/.ollama/models"
    assert found.api_url == "http://127.0.0.1:11434"
    assert found.executable is None


def test_the_unit_names_store_address_and_program(located):
    found = located(Environment='"OLLAMA_MODELS=/srv/my models" OLLAMA_HOST=0.0.0.0:11500')
    assert found.exists
    assert found.models_path == "/srv/my models"
    assert found.api_url == "http://127.0.0.1:11500"
    assert found.executable == "/usr/local/bin/ollama"


def test_the_store_is_below_the_home_of_the_unit_s_user(located):
    root = pwd.getpwuid(0)
    assert located(User=root.pw_name).models_path == f"{root.pw_dir}/.ollama/models"
    assert located(User="").models_path == f"{root.pw_dir}/.ollama/models"


def test_a_user_that_is_not_there_yet_is_the_installer_s(located):
    assert located(User="nobody-has-this-name").models_path == f"{INSTALLER_HOME}/.ollama/models"


def test_a_unit_of_the_user_keeps_its_models_in_his_home(located):
    assert located(scope="user").models_path == os.path.expanduser("~/.ollama/models")


def test_what_runs_wins_over_what_the_unit_says(located, tmp_path):
    properties = running(tmp_path, HOME="/home/somebody", OLLAMA_HOST=":8080")
    found = located(Environment="OLLAMA_MODELS=/srv/models", **properties)
    assert found.models_path == "/home/somebody/.ollama/models"
    assert found.api_url == "http://127.0.0.1:8080"


def test_a_process_that_may_not_be_read_leaves_the_unit_to_ask(located):
    assert located(Environment="OLLAMA_MODELS=/srv/models", MainPID="99").models_path == "/srv/models"


def test_quotes_and_spaces_around_the_store_are_dropped_as_ollama_does(located, tmp_path):
    assert located(**running(tmp_path, OLLAMA_MODELS=" '/srv/models' ")).models_path == "/srv/models"


def test_environment_files_win_over_the_unit(located, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("OLLAMA_MODELS=/from/first\nOLLAMA_HOST=:1111\n")
    second.write_text("OLLAMA_HOST=:2222\n")
    files = " ".join(f"{path} (ignore_errors=no)" for path in (first, tmp_path / "absent", second))
    found = located(Environment="OLLAMA_MODELS=/from/unit", EnvironmentFiles=files)
    assert found.models_path == "/from/first"
    assert found.api_url == "http://127.0.0.1:2222"
