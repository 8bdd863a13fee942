# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults as an operator of site.yml meets them: what is said, that nothing is lost, that the next run repairs.

All hosts begin as the first run left them, with OLLAMA_NUM_PARALLEL=1; CHANGE asks for 2. Every other fault is
held against the roles in tests/systemd.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Host = Callable[[str], Any]
CHANGE = {"ollama_plan_num_parallel": 2}
HOOKS = Path(__file__).resolve().parents[1] / "hooks"
DROP_INS = "/etc/systemd/system/ollama.service.d"


def assert_stopped(run: Any, *said: str) -> None:
    """The run failed, and its message says all of this."""
    assert run.returncode != 0, run
    for words in said:
        assert words in run.flat, f"{words!r} is missing in:\n{run}"


def assert_repaired(service: Any, parallel: str = "2") -> None:
    """All four layers have the value."""
    assert f'"OLLAMA_NUM_PARALLEL={parallel}"' in service.drop_in_text
    assert f"OLLAMA_NUM_PARALLEL={parallel}" in service.show("Environment").split()
    assert service.process_environment["OLLAMA_NUM_PARALLEL"] == parallel
    assert f"OLLAMA_NUM_PARALLEL:{parallel}" in service.server_config.split()


def test_a_file_that_would_override_ours_stops_the_run_before_any_change(on: Host) -> None:
    service = on("overriding-file")
    path = f"{DROP_INS}/zzz-local.conf"
    service.sh(f"printf '[Service]\\n\\nEnvironment=OLLAMA_NUM_PARALLEL=8\\n' > {path}")
    service.reload()
    before = service.state()

    run = service.run("site", **CHANGE)

    assert_stopped(run, f"{path}:3", "OLLAMA_NUM_PARALLEL")
    assert service.state() == before

    service.sh(f"rm {path}")
    assert service.run("site", **CHANGE).returncode == 0
    assert_repaired(service)


def test_a_run_killed_between_write_and_restart_is_completed_by_the_next(on: Host) -> None:
    service = on("killed-midway")
    before = service.main_pid

    killed = service.run("site", **CHANGE, ollama_override_pre_restart_tasks=str(HOOKS / "kill_the_run.yml"))

    assert killed.returncode == -9, killed
    assert '"OLLAMA_NUM_PARALLEL=2"' in service.drop_in_text
    assert service.main_pid == before
    assert service.process_environment["OLLAMA_NUM_PARALLEL"] == "1"

    run = service.run("site", **CHANGE)
    assert run.returncode == 0, run
    assert_repaired(service)


def test_a_service_that_dies_with_the_new_value_is_rolled_back(on: Host) -> None:
    service = on("dies-on-start")
    before = service.drop_in_text

    run = service.run("site", **CHANGE)

    assert_stopped(run, "stand-in told to")
    assert service.drop_in_text == before
    assert_repaired(service, parallel="1")

    assert service.run("site").returncode == 0
    assert_repaired(service, parallel="1")


def test_a_missing_unit_is_one_clear_sentence_and_no_change(on: Host) -> None:
    service = on("no-unit")
    service.sh(
        "systemctl disable --now ollama; mv /etc/systemd/system/ollama.service /root/; rm -r " + DROP_INS
    )
    service.reload()

    run = service.run("site", **CHANGE)

    assert_stopped(run, "ollama.service")
    assert not service.host.file(DROP_INS).exists

    service.sh("mv /root/ollama.service /etc/systemd/system/ && systemctl daemon-reload && systemctl enable --now ollama")
    assert service.run("site", **CHANGE).returncode == 0
    assert_repaired(service)
