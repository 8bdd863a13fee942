# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be held against a real card, held against a simulated one: it agrees, and it notices what does not."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import SIMULATED_NVML as PROGRAMS

MIB = 1 << 20

Machine = Callable[[Any], dict[str, str]]


@pytest.fixture
def check_real(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    return importlib.import_module("check_real")


def run(surroundings: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAMS / "check_real.py"), *options],
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_machine_that_tells_the_truth_agrees_and_is_kept_without_its_uuids(
    machine: Machine, tmp_path: Path
) -> None:
    finished = run(machine("rtx3060_12gb"), "--into", str(tmp_path / "kept"))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "a CUDA context takes 457.0 MiB" in finished.stdout
    assert "64 MiB more: used +64.0 MiB, free -64.0 MiB, process +64.0 MiB" in finished.stdout
    assert "512 MiB more: used +512.0 MiB, free -512.0 MiB, process +512.0 MiB" in finished.stdout
    assert "after its end: used +0.0 MiB" in finished.stdout
    described, facts = (
        json.loads((tmp_path / "kept" / f"{name}.json").read_text()) for name in ("machine", "facts")
    )
    real = json.loads((PROGRAMS / "profiles/rtx3060_12gb.json").read_text())["devices"][0]["uuid"]
    assert described["devices"][0]["uuid"] == facts["devices"][0]["uuid"] != real


def test_a_mig_instance_is_loaded_by_its_uuid(machine: Machine) -> None:
    surroundings = machine("h100_mig_7")
    instances = json.loads(Path(surroundings["SIMULATED_NVML"]).read_text())["devices"][0]["mig"]["instances"]
    finished = run(surroundings, "--gpu", instances[2]["uuid"])
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.count("a CUDA context takes") == 1


def test_processes_that_the_driver_hides_are_noticed(machine: Machine) -> None:
    finished = run(machine("fault_process_list_refused"))
    assert finished.returncode == 1
    assert "process is not told while a process holds memory" in finished.stdout


def test_a_machine_without_a_gpu_is_told_so(machine: Machine) -> None:
    finished = run(machine("no_gpu"))
    assert finished.returncode == 1
    assert finished.stderr.startswith("no GPU here: ")


@pytest.mark.parametrize(
    ("used", "free", "process", "complaints"),
    [
        (64, -64, 64, []),
        (66, -62, 64, []),
        (67, -64, 64, ["used moved by +67.0 MiB, expected +64.0 MiB"]),
        (64, -61, 64, ["free moved by -61.0 MiB, expected -64.0 MiB"]),
        (64, 64, 64, ["free moved by +64.0 MiB, expected -64.0 MiB"]),
        (64, -64, 0, ["process moved by +0.0 MiB, expected +64.0 MiB"]),
        (64, -64, None, ["process is not told while a process holds memory"]),
    ],
)
def test_more_than_a_page_off_is_a_difference(
    check_real: Any, used: int, free: int, process: int | None, complaints: list[str]
) -> None:
    steps = {"used": used * MIB, "free": free * MIB, "process": None if process is None else process * MIB}
    assert check_real.judged(64 * MIB, steps, is_unified=False) == complaints


def test_of_memory_that_is_the_systems_only_the_process_counts(check_real: Any) -> None:
    steps = {"used": 900 * MIB, "free": 5 * MIB, "process": 64 * MIB}
    assert check_real.judged(64 * MIB, steps, is_unified=True) == []


def test_what_a_source_does_not_know_is_no_difference(check_real: Any) -> None:
    ours = {"a": 1, "devices": [{"name": "x", "capability": "8.6"}]}
    theirs = {"a": 1, "devices": [{"name": "y", "capability": None}]}
    assert check_real.as_far_as_told(ours, theirs) == (
        {"a": 1, "devices": [{"name": "x"}]},
        {"a": 1, "devices": [{"name": "y"}]},
    )
