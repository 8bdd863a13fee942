# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring hosts whose truth is known. Each begins as site.yml left it, and must be so again afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader

Host = Callable[[str], Any]
CHECKOUT = Path(__file__).resolve().parents[3]
RESULT = "/var/lib/gpufleet/ollama.service/benchmark.json"
DROP_IN = "/run/systemd/system/ollama.service.d/zzz-gpufleet-benchmark.conf"
TIMER = "gpufleet-ollama_2e_service-zzz-gpufleet-benchmark.timer"


def as_it_is(service: Any) -> tuple[Any, ...]:
    """What must be the same before and after: the plan's drop-in, what the process has, and no timer left."""
    ours = {name: value for name, value in service.process_environment.items() if name.startswith("OLLAMA_")}
    timers = service.sh("systemctl list-units --all --no-legend 'gpufleet-*'")
    return service.drop_in_text, ours, service.host.file(DROP_IN).exists, timers


def result(service: Any) -> Any:
    return json.loads(service.host.file(RESULT).content_string)


def measured_in(variables: Path) -> Any:
    """What a file of variables says was measured, as Ansible reads it."""
    return json.loads(DataLoader().load_from_file(str(variables))["ollama_plan_measured"])


def parallels_seen(service: Any) -> list[str]:
    """The parallel values with which the server has started, in order."""
    journal = service.sh("journalctl --unit=ollama --output=cat --no-pager | grep 'msg=\"server config\"'")
    return [line.partition("OLLAMA_NUM_PARALLEL:")[2].split()[0] for line in journal.splitlines()]


def test_the_knee_is_found_the_state_comes_back_and_the_next_plan_uses_it(on: Host, tmp_path: Path) -> None:
    service = on("saturating")
    before, started = as_it_is(service), len(parallels_seen(service))
    assert before[1]["OLLAMA_NUM_PARALLEL"] == "4"

    run = service.run(
        "benchmark",
        "--limit=saturating",
        gpufleet_report_dir=str(tmp_path),
        ollama_benchmark_inventory="host_vars",
        ollama_benchmark_inventory_dir=str(tmp_path),
    )

    assert run.returncode == 0, run
    assert "saturating: 2 at once, llama3.2:3b; 1 of 4 done, about " in run.flat
    assert parallels_seen(service)[started:] == ["1", "2", "3", "4"]
    assert as_it_is(service) == before
    kept = result(service)
    assert kept["knee"]["parallel"] == 2, kept["models"]
    assert [len(point["levels"]) for point in kept["models"][0]["points"]] == [1, 2, 3, 4]
    # The stand-in takes 457 MiB for a CUDA context, and the driver counts it; the log rounds to 0.01 MiB.
    assert abs(kept["correction"]["cuda_context_bytes"] - (457 << 20)) < 1 << 20
    assert all(row["measured_bytes"] and row["logged"] for row in kept["memory"])
    assert "<svg" in (tmp_path / "benchmark.html").read_text()
    assert measured_in(tmp_path / "host_vars/saturating/ollama_benchmark.yml") == kept

    planned = service.run("plan")
    assert "OLLAMA_NUM_PARALLEL=2 is what is worth having, measured here at" in planned.flat, planned
    assert service.run("site").returncode == 0
    assert service.process_environment["OLLAMA_NUM_PARALLEL"] == "2"
    again = service.run("site")
    assert again.changed == {"saturating": 0}, again


def test_a_host_that_has_changed_ignores_its_result_and_says_why(on: Host, tmp_path: Path) -> None:
    service = on("changed")
    run = service.run(
        "benchmark",
        ollama_benchmark_parallels=[1, 2],
        ollama_benchmark_inventory="such_hosts",
        ollama_benchmark_inventory_dir=str(tmp_path),
    )
    assert run.returncode == 0, run
    kept = service.host.file(RESULT).content_string
    for change, said in (
        ("s/GPU-[0-9a-f-]*/GPU-replaced/", "GPU GPU-replaced (NVIDIA GeForce RTX 3060) is not there"),
        ("s/sha256-[0-9a-f]*/sha256-other/", "llama3.2:3b has changed (sha256-other, now sha256-"),
        ("s/0.33.0-rc2/0.32.0/", "Ollama was 0.32.0, now it is 0.33.0-rc2"),
        ("1,$d", "holds no JSON mapping"),
    ):
        service.sh(f"sed -i '{change}' {RESULT}")
        planned = service.run("plan")
        assert planned.returncode == 0, planned
        assert said in planned.flat, planned
        assert "is what is worth having" not in planned.flat
        service.host.run_expect([0], f"cat > {RESULT} <<'END'\n{kept}END")

    # What the group's variables say holds for any host of the kind, whatever its own result was measured on.
    group = tmp_path / "group_vars/such_hosts/ollama_benchmark.yml"
    service.sh(f"rm {RESULT}")
    planned = service.run("plan", f"--extra-vars=@{group}")
    measured = measured_in(group)
    assert f"OLLAMA_NUM_PARALLEL={measured['knee']['parallel']} is what is worth having" in planned.flat, planned
    assert measured["conditions"]["gpus"] == [{"name": "NVIDIA GeForce RTX 3060", "uuid": None}]


def test_a_model_that_spills_at_four_bounds_the_knee_to_three(on: Host) -> None:
    service = on("spilling")
    before = as_it_is(service)

    run = service.run("benchmark", ollama_benchmark_parallels=[1, 3, 4])

    assert run.returncode == 0, run
    assert result(service)["knee"]["parallel"] == 3
    assert "it lies partly on the CPU" in run.flat
    assert as_it_is(service) == before


def test_a_server_that_dies_in_the_middle_is_measured_without_that_value(on: Host) -> None:
    service = on("dying")
    before = as_it_is(service)

    run = service.run("benchmark", ollama_benchmark_parallels=[2, 3])

    assert run.returncode == 0, run
    assert result(service)["knee"]["parallel"] == 2
    assert as_it_is(service) == before


def test_a_value_with_which_the_server_does_not_start_fails_the_run_and_the_state_comes_back(
    on: Host,
) -> None:
    service = on("failing")
    before = as_it_is(service)

    run = service.run("benchmark", ollama_benchmark_parallels=[1, 2])

    assert run.returncode != 0, run
    assert "the former state is back, and no result was kept" in run.flat
    assert as_it_is(service) == before
    assert not service.host.file(RESULT).exists


def test_a_run_that_is_killed_leaves_a_host_that_puts_its_state_back_by_itself(on: Host) -> None:
    service = on("killed")
    before = as_it_is(service)
    run = start(
        "benchmark",
        "killed",
        ollama_benchmark_parallels=[2],
        ollama_benchmark_output_lengths=[2000],
        ollama_benchmark_request_timeout=60,
        ollama_benchmark_guard_seconds=90,
    )
    wait_for(lambda: service.process_environment.get("OLLAMA_NUM_PARALLEL") == "2")
    wait_for(lambda: "llama-server" in service.sh("ps ax -o args"))

    kill_with_all_it_started(run)

    wait_for(lambda: "ollama_benchmark" not in service.sh("ps ax -o args"), seconds=30)  # no load is left
    assert service.host.file(DROP_IN).exists
    assert TIMER in service.sh("systemctl list-timers --all --no-legend")
    wait_for(lambda: as_it_is(service) == before, seconds=120)


def start(playbook: str, host: str, **variables: Any) -> subprocess.Popen[bytes]:
    """A run that goes on beside the test."""
    fleet = f"molecule-{os.environ['MOLECULE_SCENARIO_NAME']}"
    inventory = CHECKOUT / ".build" / "hosts" / fleet / "inventory.yml"
    program = [str(Path(sys.executable).with_name("ansible-playbook")), f"--inventory={inventory}"]
    options = [f"--limit={host}", f"--extra-vars={json.dumps(variables)}", f"gpufleet.ollama.{playbook}"]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".build" / "collections")}
    return subprocess.Popen(
        [*program, *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )


def kill_with_all_it_started(run: subprocess.Popen[bytes]) -> None:
    """As when the control node is lost: Ansible's workers, which hold the connections, are in sessions of their own."""
    shown = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parent_of = dict(map(int, line.split()) for line in shown.splitlines())
    pids = [run.pid]
    for pid in pids:
        pids += [child for child, parent in parent_of.items() if parent == pid]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (AssertionError, ValueError, IndexError):
            pass  # the service is being restarted
        time.sleep(0.5)
    raise AssertionError(f"this did not come about within {seconds:g} s")
