# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role that installs Ollama keeps its variables, its files and its upgrades; the planned values stay beside them."""

from __future__ import annotations

from typing import Any

from conftest import run_playbook

THEIRS = {"OLLAMA_KEEP_ALIVE": "-1", "OLLAMA_LOAD_TIMEOUT": "7m"}


def assert_both(service: Any) -> None:
    environment = service.process_environment
    assert {name: environment.get(name) for name in THEIRS} == THEIRS
    assert (environment["OLLAMA_NUM_PARALLEL"], environment["OLLAMA_MAX_LOADED_MODELS"]) == ("2", "1")


def test_the_process_has_their_values_and_the_planned_ones(service: Any) -> None:
    assert_both(service)


def test_their_file_is_as_they_wrote_it(service: Any) -> None:
    lines = service.host.file("/etc/default/ollama").content_string.split()
    assert lines == [f"{name}={value}" for name, value in THEIRS.items()]


def test_no_playbook_takes_their_variables_for_ours() -> None:
    for playbook in ("plan", "drift", "site"):
        run = run_playbook(playbook)
        assert run.returncode == 0, run
        assert set(run.changed.values()) == {0}, run


def test_an_upgrade_writes_the_unit_anew_and_leaves_the_planned_values(service: Any) -> None:
    before = service.main_pid
    service.host.run_expect([0], "sh /root/install.sh")
    assert service.main_pid != before
    assert_both(service)
    run = run_playbook("drift", gpufleet_drift_fail=True)
    assert run.returncode == 0, run


def test_a_planned_variable_in_their_file_is_named_with_its_line(service: Any) -> None:
    service.host.run_expect([0], "echo OLLAMA_NUM_PARALLEL=1 >>/etc/default/ollama")
    run = run_playbook("site")
    service.host.run_expect([0], "sed -i '$d' /etc/default/ollama")
    assert run.returncode != 0
    assert "/etc/default/ollama:3" in run.output, run
