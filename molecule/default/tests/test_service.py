# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main way: what was planned is what runs, a second run changes nothing, a changed value is repaired."""

from __future__ import annotations

import re
from typing import Any

from conftest import run_playbook

PLANNED = ("OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_CONTEXT_LENGTH")


def drop_in_environment(service: Any) -> dict[str, str]:
    content = service.drop_in_text
    return dict(re.findall(r'^Environment="([A-Z_]+)=(.*)"$', content, re.M))


def test_the_drop_in_is_ours_and_says_so(service: Any) -> None:
    drop_in = service.host.file(service.drop_in)
    assert (drop_in.user, drop_in.group, drop_in.mode) == ("root", "root", 0o644)
    assert "# Ansible managed" in drop_in.content_string.splitlines()
    assert set(PLANNED) <= set(drop_in_environment(service))


def test_systemd_the_process_and_ollama_have_what_the_drop_in_says(service: Any) -> None:
    wanted = drop_in_environment(service)
    shown = service.show("Environment").split()
    assert service.show("NeedDaemonReload") == "no"
    for name, value in wanted.items():
        assert f"{name}={value}" in shown
        assert service.process_environment[name] == value
    for name in PLANNED:
        assert f"{name}:{wanted[name]}" in service.server_config.split()


def test_the_unit_keeps_its_own_settings(service: Any) -> None:
    assert "PATH" in service.process_environment
    assert service.show("User") == "ollama"
    assert service.show("ActiveState") == "active"


def test_a_second_run_restarts_nothing(services: list[Any]) -> None:
    before = [service.main_pid for service in services]
    run = run_playbook("site")
    assert run.returncode == 0, run
    assert set(run.changed.values()) == {0}, run
    assert [service.main_pid for service in services] == before


def test_check_mode_predicts_and_changes_nothing(services: list[Any]) -> None:
    before = [service.state() for service in services]
    run = run_playbook("site", "--check", "--diff", ollama_plan_num_parallel=1)
    assert run.returncode == 0, run
    assert all(run.changed.values()), run
    assert '+Environment="OLLAMA_NUM_PARALLEL=1"' in run.output, run
    assert [service.state() for service in services] == before


def test_a_value_changed_by_hand_is_repaired(services: list[Any]) -> None:
    wanted = [drop_in_environment(service) for service in services]
    for service in services:
        service.sh(f"sed -i 's/NUM_PARALLEL=.*\"/NUM_PARALLEL=77\"/' {service.drop_in}")
        service.sh("systemctl daemon-reload && systemctl restart ollama")
        assert service.process_environment["OLLAMA_NUM_PARALLEL"] == "77"

    run = run_playbook("site")

    assert run.returncode == 0, run
    assert [drop_in_environment(service) for service in services] == wanted
    for service, environment in zip(services, wanted):
        assert environment.items() <= service.process_environment.items()


def test_a_lost_restart_is_made_up_for(services: list[Any]) -> None:
    """The file is right and the process is not: a run that died between the two left it so."""
    for service in services:
        service.sh(f"mv {service.drop_in} /root/kept && systemctl daemon-reload && systemctl restart ollama")
        service.sh(f"mv /root/kept {service.drop_in} && systemctl daemon-reload")
    before = [service.main_pid for service in services]

    run = run_playbook("site")

    assert run.returncode == 0, run
    for service, pid in zip(services, before):
        assert service.main_pid != pid
        assert drop_in_environment(service).items() <= service.process_environment.items()
