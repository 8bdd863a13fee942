# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules as a playbook uses them, on a systemd that answers as the test says."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import yaml
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _comparison, _health
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._loading import LoadedModels
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._residence import Loaded
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _dropin, _inspection, _lock
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    Completed,
    Manager,
    SystemdError,
)
from ansible_collections.gpufleet.ollama.plugins.modules import (
    ollama_load,
    ollama_wait,
    systemd_dropin,
    systemd_environment_info,
    systemd_restart,
)

MODULES = (ollama_load, ollama_wait, systemd_dropin, systemd_environment_info, systemd_restart)
CONTENT = '[Service]\nEnvironment="OLLAMA_NUM_PARALLEL=3" "HF_TOKEN=hunter2"\n'
LINE = 'msg="server config" env="map[HTTPS_PROXY:http://u:hunter2@p OLLAMA_NUM_PARALLEL:1]"'


class Systemd:
    """Answers commands; what it was told to do is in C(told)."""

    def __init__(self):
        self.told = []
        self.properties = {"LoadState": "loaded", "ActiveState": "active", "MainPID": "0", "Environment": ""}
        self.failing = None
        self.hanging = False

    def __call__(self, command):
        if "show" not in command:
            self.told.append(list(command))
            if self.failing in command:
                return Completed(1, "", "it said no\n")
        return Completed(0, "".join(f"{name}={value}\n" for name, value in self.properties.items()), "")


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    fake = Systemd()
    for module in MODULES:
        monkeypatch.setattr(module, "runner", lambda _module: fake)
        monkeypatch.setattr(module, "manager", lambda run, scope: Manager(scope, 252, (), ()))
    monkeypatch.setattr(
        systemd_restart,
        "finished_within",
        lambda command, seconds: None if fake.hanging else fake(command),
    )
    for room in (_dropin, _inspection):
        monkeypatch.setattr(room, "dropin_base_directory", lambda scope, runtime=False: str(tmp_path / "etc"))
    for room in (_dropin, _inspection, systemd_restart):
        monkeypatch.setattr(room, "state_directory", lambda scope, unit: str(tmp_path / "state"))
    return fake


def test_a_dropin_is_written_and_its_diff_shows_no_secret(systemd, run_module, tmp_path):
    result = run_module(systemd_dropin, content=CONTENT, _ansible_diff=True)
    assert result["changed"]
    assert '+Environment="OLLAMA_NUM_PARALLEL=3"\n' in result["diff"]["prepared"]
    assert '+HF_TOKEN="********"\n' in result["diff"]["prepared"]
    assert "hunter2" not in json.dumps(result)
    assert "hunter2" not in (tmp_path / "etc/ollama.service.d/zz-gpufleet.conf").read_text()
    assert 'HF_TOKEN="hunter2"\n' in (tmp_path / "etc/ollama.service.d/zz-gpufleet.env").read_text()
    assert not run_module(systemd_dropin, content=CONTENT)["changed"]
    assert run_module(systemd_dropin, state="absent", _ansible_check_mode=True)["changed"]
    assert run_module(systemd_dropin, state="restored")["exists"] is False


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"content": "x", "rollout": "../x"}, "names no rollout"),
        ({"content": "x", "keep": 0}, "at least one former version must be kept"),
        ({"content": "x", "name": "../x"}, "is not a drop-in's file name"),
        ({}, "content"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(systemd, run_module, options, sentence):
    result = run_module(systemd_dropin, **options)
    assert result["failed"]
    assert sentence in result["msg"]


def test_the_layers_of_a_unit_with_ollamas_own(systemd, run_module, monkeypatch):
    systemd.properties.update(MainPID=str(os.getpid()), Environment="OLLAMA_NUM_PARALLEL=1")
    monkeypatch.setattr(_inspection, "server_environment", lambda pid: {"OLLAMA_NUM_PARALLEL": "1"})
    monkeypatch.setattr(_comparison, "journal_of_invocation", lambda invocation: [LINE])
    result = run_module(systemd_environment_info, dropin_content=CONTENT, server_config=True)
    assert [d["layer"] for d in result["differences"] if d["variable"] == "OLLAMA_NUM_PARALLEL"] == [
        "file",
        "unit",
        "process",
        "server",
    ]
    assert result["server_config"]["HTTPS_PROXY"] == "http://********@p"
    assert "hunter2" not in json.dumps(result)
    secrets = run_module(systemd_environment_info, server_config=True, show_secrets=True)
    assert secrets["server_config"]["HTTPS_PROXY"] == "http://u:hunter2@p"
    assert secrets["differences"] == []


def test_without_details_only_the_comparison_is_returned(systemd, run_module):
    systemd.properties.update(Environment="OLLAMA_NUM_PARALLEL=1")
    whole = run_module(systemd_environment_info, dropin_content=CONTENT)
    compared = run_module(systemd_environment_info, dropin_content=CONTENT, details=False)
    documented = yaml.safe_load(systemd_environment_info.RETURN)
    always = {name for name, described in documented.items() if described["returned"] == "always"}
    assert set(compared) == {*always, "changed", "invocation"}
    assert {name: compared[name] for name in always} == {name: whole[name] for name in always}
    assert (compared["differences"] != [], compared["in_sync"]) == (True, False)


def test_a_service_that_is_to_be_active_and_is_not_is_the_first_difference(systemd, run_module):
    active = run_module(systemd_environment_info, expect_active=True)
    assert (active["differences"], active["in_sync"]) == ([], True)
    systemd.properties.update(ActiveState="failed")
    assert run_module(systemd_environment_info)["in_sync"] is True
    failed = run_module(systemd_environment_info, expect_active=True, dropin_content=CONTENT)
    assert failed["differences"][0] == {
        "layer": "process",
        "variable": "",
        "found": "failed",
        "wanted": "active",
        "message": "ollama.service is failed, wanted active",
        "cause": "",
    }
    assert failed["differences"][1]["layer"] == "file"


def test_a_journal_that_no_longer_has_the_line_is_a_problem(systemd, run_module, monkeypatch):
    systemd.properties.update(MainPID=str(os.getpid()))
    monkeypatch.setattr(_comparison, "journal_of_invocation", lambda invocation: [])
    result = run_module(systemd_environment_info, server_config=True)
    assert result["server_config"] is None
    assert "no longer holds the server config line" in result["problems"][-1]
    assert (result["unseen"], result["in_sync"]) == ([], True)


def test_a_journal_that_may_not_be_read_is_not_in_sync(systemd, run_module, monkeypatch):
    systemd.properties.update(MainPID=str(os.getpid()))
    monkeypatch.setattr(_comparison, "journal_of_invocation", lambda invocation: [])
    monkeypatch.setattr(_comparison, "journal_is_closed", lambda scope: True)
    result = run_module(systemd_environment_info, server_config=True)
    assert "the journal of ollama.service may not be read" in result["unseen"][0]
    assert (result["problems"], result["in_sync"]) == (result["unseen"], False)


def test_a_process_that_may_not_be_read_is_not_in_sync(systemd, run_module, monkeypatch):
    def refuse(pid):
        raise PermissionError

    systemd.properties.update(MainPID=str(os.getpid()))
    monkeypatch.setattr(_inspection, "server_environment", refuse)
    result = run_module(systemd_environment_info)
    assert ("may not be read: run as root" in result["unseen"][0], result["in_sync"]) == (True, False)


def test_a_restart_reads_the_files_first_and_forgets_failed_starts(systemd, run_module):
    result = run_module(systemd_restart, scope="user")
    assert result["changed"]
    assert systemd.told == [
        ["systemctl", "--user", "daemon-reload"],
        ["systemctl", "--user", "reset-failed", "--", "ollama.service"],
        ["systemctl", "--user", "restart", "--", "ollama.service"],
    ]


def test_a_reload_alone_is_no_change_and_check_mode_does_nothing(systemd, run_module):
    assert not run_module(systemd_restart, restart=False)["changed"]
    assert systemd.told == [["systemctl", "daemon-reload"]]
    assert run_module(systemd_restart, _ansible_check_mode=True)["changed"]
    assert len(systemd.told) == 1


def test_a_restart_that_fails_says_why(systemd, run_module):
    systemd.failing = "restart"
    result = run_module(systemd_restart)
    assert result["msg"] == "systemctl restart -- ollama.service failed: it said no"


@pytest.fixture
def process(systemd, monkeypatch):
    """The service's main process, with an environment that the test may change."""
    environment = {"OLLAMA_NUM_PARALLEL": "1", "HF_TOKEN": "hunter2"}
    systemd.properties["MainPID"] = str(os.getpid())
    monkeypatch.setattr(_inspection, "server_environment", lambda pid: environment)
    return environment


def test_a_restart_that_does_not_end_is_cancelled_and_nothing_else_is(systemd, run_module):
    systemd.hanging = True
    systemd.properties.update(ActiveState="activating", SubState="start", Job="4711")
    result = run_module(systemd_restart, timeout_seconds=7)
    assert result["failed"]
    assert result["msg"].startswith(
        "ollama.service was not restarted within 7 s: it is activating (start), and systemd's"
    )
    assert systemd.told[-1] == ["systemctl", "cancel", "4711"]
    systemd.properties.update(Job="")
    run_module(systemd_restart, timeout_seconds=7)
    assert [command for command in systemd.told if "cancel" in command] == [["systemctl", "cancel", "4711"]]


def restarts(systemd):
    return [command for command in systemd.told if "restart" in command]


def test_a_process_that_was_seen_to_lack_something_is_restarted(systemd, process, run_module):
    run_module(systemd_dropin, content=CONTENT)
    assert run_module(systemd_restart, dropin_content=CONTENT, main_pid=os.getpid())["changed"]
    assert len(restarts(systemd)) == 1


def test_a_process_that_another_run_has_replaced_is_not_restarted_again(systemd, process, run_module):
    run_module(systemd_dropin, content=CONTENT)
    process["OLLAMA_NUM_PARALLEL"] = "3"
    result = run_module(systemd_restart, dropin_content=CONTENT, main_pid=1)
    assert (result["changed"], restarts(systemd)) == (False, [])
    process["OLLAMA_NUM_PARALLEL"] = "1"  # it was replaced before the drop-in was written
    assert run_module(systemd_restart, dropin_content=CONTENT, main_pid=1)["changed"]


def test_a_service_is_not_restarted_on_what_another_run_wrote_since(systemd, process, run_module):
    run_module(systemd_dropin, content=CONTENT)
    run_module(systemd_dropin, content=CONTENT.replace("PARALLEL=3", "PARALLEL=4"))
    result = run_module(systemd_restart, dropin_content=CONTENT, main_pid=os.getpid())
    assert "another run has changed " in result["msg"]
    assert "hunter2" not in json.dumps(result)
    assert restarts(systemd) == []


def test_a_service_that_another_run_is_changing_is_one_sentence(systemd, run_module, monkeypatch, tmp_path):
    monkeypatch.setattr(_lock, "PATIENCE_S", 0.0)
    with _lock.locked("ollama.service", str(tmp_path / "state")):
        for module, options in ((systemd_restart, {}), (systemd_dropin, {"content": CONTENT})):
            assert "another run has been changing ollama.service" in run_module(module, **options)["msg"]
    assert systemd.told == []


UP = _health.Sight(0.0, "active", "running", 7, 0, "http://127.0.0.1:11434", None, False, "0.33.0", None)


def test_waiting_ends_when_the_service_is_healthy(systemd, run_module, monkeypatch):
    sights = iter([replace(UP, answer=None), UP, replace(UP, at_s=2.0)])
    monkeypatch.setattr(ollama_wait, "POLL_SECONDS", 0)
    monkeypatch.setattr(ollama_wait._service, "look", lambda run, scope, unit: next(sights))
    result = run_module(ollama_wait, stable_seconds=2)
    assert (result["healthy"], result["version"]) == (True, "0.33.0")
    assert next(sights, None) is None


def test_waiting_in_vain_fails_with_the_last_words(systemd, run_module, monkeypatch):
    down = _health.Sight(
        0.0, "failed", "failed", 0, 1, "http://127.0.0.1:11434", None, False, None, "refused"
    )
    monkeypatch.setattr(ollama_wait._service, "look", lambda run, scope, unit: down)
    monkeypatch.setattr(ollama_wait._service, "last_words", lambda run, scope, unit, since_s: ["panic: no"])
    result = run_module(ollama_wait)
    assert result["failed"]
    assert result["msg"] == "ollama.service failed. Its journal says: panic: no"
    assert not run_module(ollama_wait, _ansible_check_mode=True)["healthy"]


@pytest.mark.parametrize(("connections", "idle"), [(0, True), (2, False)])
def test_waiting_for_idle_does_not_fail(systemd, run_module, monkeypatch, connections, idle):
    moments = iter(range(100))
    monkeypatch.setattr(ollama_wait, "POLL_SECONDS", 0)
    monkeypatch.setattr(
        ollama_wait._service,
        "activity",
        lambda run, scope, unit: (_health.Load(float(next(moments)), connections, 0.0), "http://127.0.0.1:1"),
    )
    result = run_module(ollama_wait, condition="idle", timeout_seconds=0 if not idle else 5)
    assert result["idle"] is idle
    assert result["loaded_models"] == []
    assert not result.get("failed")


def test_loading_compares_with_the_plan(systemd, run_module, monkeypatch):
    outcomes = iter(
        [
            LoadedModels(True, (Loaded("a", True, 2048),)),
            LoadedModels(True, (Loaded("a", False, error="no memory"),)),
        ]
    )
    monkeypatch.setattr(ollama_load, "load_in_order", lambda *arguments: next(outcomes))
    result = run_module(ollama_load, models=[{"name": "a", "context_length": 4096}])
    assert result["differences"][0]["message"] == "a runs with context length 2048, planned 4096"
    assert run_module(ollama_load, models=[{"name": "a"}])["msg"] == "no memory"


@pytest.mark.parametrize("module", MODULES)
def test_a_host_without_systemd_is_one_sentence_of_every_module(systemd, run_module, monkeypatch, module):
    def refuse(run, scope):
        raise SystemdError("this host was not booted with systemd")

    monkeypatch.setattr(module, "manager", refuse)
    options = {ollama_load: {"models": []}, systemd_dropin: {"content": "x"}}.get(module, {})
    assert run_module(module, **options)["msg"] == "this host was not booted with systemd"
