# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on a real systemd: what the operator sees, that nothing is lost, and that the next run repairs.

All hosts begin as the first run left them, with OLLAMA_NUM_PARALLEL=1. CHANGE asks for 2.
"""

from __future__ import annotations

import concurrent.futures
from pathlib import Path
from typing import Any, Callable

import pytest

Host = Callable[[str], Any]
CHANGE = {"ollama_plan_num_parallel": 2}
HOOKS = Path(__file__).resolve().parents[1] / "hooks"
DROP_INS = "/etc/systemd/system/ollama.service.d"


def write(service: Any, path: str, text: str) -> None:
    service.sh(f"mkdir -p $(dirname {path}) && printf '%s\n' '{text}' > {path}")


def assert_stopped(run: Any, *said: str) -> None:
    """The run failed, and its message says all of this."""
    assert run.returncode != 0, run
    for words in said:
        assert words in run.flat, f"{words!r} is missing in:\n{run}"


def assert_untouched(service: Any, before: Any) -> None:
    assert service.state() == before


def assert_repaired(service: Any, parallel: str = "2") -> None:
    """All four layers have the value."""
    assert f'"OLLAMA_NUM_PARALLEL={parallel}"' in service.drop_in_text
    assert f"OLLAMA_NUM_PARALLEL={parallel}" in service.show("Environment").split()
    assert service.process_environment["OLLAMA_NUM_PARALLEL"] == parallel
    assert f"OLLAMA_NUM_PARALLEL:{parallel}" in service.server_config.split()


def test_a_file_that_ours_overrides_is_reported_and_left_alone(on: Host) -> None:
    service = on("overridden-file")
    path = f"{DROP_INS}/override.conf"
    write(service, path, '[Service]\nEnvironment="OLLAMA_NUM_PARALLEL=8"')
    service.reload()

    run = service.run("site", **CHANGE)

    assert run.returncode == 0, run
    assert "override.conf" in run.output, run
    assert "OLLAMA_NUM_PARALLEL=8" in service.host.file(path).content_string
    assert_repaired(service)


def test_a_file_that_would_override_ours_stops_the_run_before_any_change(on: Host) -> None:
    service = on("overriding-file")
    path = f"{DROP_INS}/zzz-local.conf"
    write(service, path, '[Service]\n\nEnvironment="OLLAMA_NUM_PARALLEL=8"')
    service.reload()
    before = service.state()

    run = service.run("site", **CHANGE)

    assert_stopped(run, f"{path}:3", "OLLAMA_NUM_PARALLEL")
    assert_untouched(service, before)

    service.sh(f"rm {path}")
    assert service.run("site", **CHANGE).returncode == 0
    assert_repaired(service)


def test_an_environment_file_that_beats_ours_stops_the_run_before_any_change(on: Host) -> None:
    service = on("environment-file")
    write(service, "/etc/default/ollama", "# local\nOLLAMA_NUM_PARALLEL=8")
    write(service, f"{DROP_INS}/10-file.conf", "[Service]\nEnvironmentFile=/etc/default/ollama")
    service.reload()
    before = service.state()

    run = service.run("site", **CHANGE)

    assert_stopped(run, "/etc/default/ollama:2")
    assert_untouched(service, before)

    service.sh("sed -i /OLLAMA_NUM_PARALLEL/d /etc/default/ollama")
    assert service.run("site", **CHANGE).returncode == 0
    assert_repaired(service)


def test_a_service_that_was_reloaded_but_not_restarted_is_restarted(on: Host) -> None:
    service = on("reloaded-not-restarted")
    service.sh(f"sed -i s/NUM_PARALLEL=1/NUM_PARALLEL=2/ {service.drop_in}")
    service.reload()
    before = service.main_pid

    run = service.run("site", **CHANGE)

    assert run.returncode == 0, run
    assert service.main_pid != before
    assert_repaired(service)


def test_a_run_killed_between_write_and_restart_is_completed_by_the_next(on: Host) -> None:
    service = on("killed-midway")
    before = service.main_pid

    killed = service.run("site", **CHANGE, ollama_service_pre_restart_tasks=str(HOOKS / "kill_the_run.yml"))

    assert killed.returncode == -9, killed
    assert '"OLLAMA_NUM_PARALLEL=2"' in service.drop_in_text
    assert service.main_pid == before
    assert service.process_environment["OLLAMA_NUM_PARALLEL"] == "1"

    run = service.run("site", **CHANGE)
    assert run.returncode == 0, run
    assert_repaired(service)


@pytest.mark.parametrize("fault", ["dies-on-start", "answers-500"])
def test_a_service_that_does_not_come_back_healthy_is_rolled_back(on: Host, fault: str) -> None:
    service = on(fault)
    before = service.drop_in_text

    run = service.run("site", **CHANGE)

    assert_stopped(run, "stand-in told to")
    assert service.drop_in_text == before
    assert_repaired(service, parallel="1")

    assert service.run("site").returncode == 0
    assert_repaired(service, parallel="1")


def test_a_model_that_spills_to_the_cpu_is_rolled_back(on: Host) -> None:
    service = on("spills")
    before = service.drop_in_text

    run = service.run("site", **CHANGE, ollama_verify_load=True)

    assert_stopped(run, "llama3.2:3b", "CPU")
    assert service.drop_in_text == before
    assert_repaired(service, parallel="1")


def test_a_foreign_process_on_the_port_is_named(on: Host) -> None:
    service = on("foreign-process")
    service.sh("systemctl stop ollama && systemd-run --unit=intruder python3 -m http.server 11434")
    foreign_pid = service.show("MainPID", unit="intruder.service")

    run = service.run("site", **CHANGE)

    assert_stopped(run, "intruder.service", foreign_pid)

    service.sh("systemctl stop intruder && systemctl reset-failed ollama; systemctl restart ollama")
    assert service.run("site", **CHANGE).returncode == 0
    assert_repaired(service)


def test_a_unit_rewritten_by_an_upgrade_keeps_our_environment(on: Host) -> None:
    service = on("upgraded")
    service.sh("sh /root/install.sh")
    before = service.main_pid

    run = service.run("site")

    assert run.returncode == 0, run
    assert run.changed == {"upgraded": 0}, run
    assert service.main_pid == before
    assert_repaired(service, parallel="1")


@pytest.mark.parametrize(
    ("fault", "break_it", "mend_it", "sign"),
    [
        (
            "read-only-etc",
            "mount --bind /etc /etc && mount -o remount,bind,ro /etc",
            "umount /etc",
            "Read-only file system",
        ),
        (
            "full-disk",
            f"cp -a {DROP_INS} /root/kept && mount -t tmpfs -o size=8k,mode=755 none {DROP_INS} "
            f"&& cp -a /root/kept/. {DROP_INS} && cat /dev/zero > {DROP_INS}/filler; true",
            f"umount {DROP_INS}",
            "No space left on device",
        ),
    ],
)
def test_a_file_system_that_takes_no_file_stops_the_run_and_nothing_is_lost(
    on: Host, fault: str, break_it: str, mend_it: str, sign: str
) -> None:
    service = on(fault)
    service.sh(break_it)
    before = service.state()

    run = service.run("site", **CHANGE)

    assert_stopped(run, sign, service.drop_in)
    assert_untouched(service, before)

    service.sh(mend_it)
    assert service.run("site", **CHANGE).returncode == 0
    assert_repaired(service)


def test_a_host_that_is_lost_before_its_restart_is_completed_by_the_next_run(on: Host) -> None:
    service = on("lost-connection")
    before = service.main_pid

    lost = service.run(
        "site", **CHANGE, ollama_service_pre_restart_tasks=str(HOOKS / "lose_the_connection.yml")
    )

    assert lost.returncode != 0, lost
    assert "UNREACHABLE" in lost.output, lost
    service.console("systemctl unmask --runtime ssh && systemctl start ssh")
    assert service.main_pid == before

    run = service.run("site", **CHANGE)
    assert run.returncode == 0, run
    assert_repaired(service)


def test_a_missing_unit_is_one_clear_sentence_and_no_change(on: Host) -> None:
    service = on("no-unit")
    service.sh(
        "systemctl disable --now ollama; mv /etc/systemd/system/ollama.service /root/; rm -r " + DROP_INS
    )
    service.reload()

    run = service.run("site", **CHANGE)

    assert_stopped(run, "ollama.service")
    assert not service.host.file(DROP_INS).exists

    service.sh("mv /root/ollama.service /etc/systemd/system/ && systemctl daemon-reload")
    assert service.run("site", **CHANGE).returncode == 0
    assert_repaired(service)


def test_two_runs_at_once_leave_one_consistent_result(on: Host) -> None:
    service = on("two-runs")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda parallel: service.run("site", ollama_plan_num_parallel=parallel), (2, 3)))

    assert any(run.returncode == 0 for run in runs), f"{runs[0]}\n{runs[1]}"
    assert service.show("ActiveState") == "active"
    run = service.run("site", **CHANGE)
    assert run.returncode == 0, run
    assert_repaired(service)
