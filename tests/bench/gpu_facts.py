# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints how long gathering GPU facts takes on a simulated host, beside gpustat on the same one.

python tests/bench/gpu_facts.py [--profile a100_80gb_x8] [--processes 200] [--runs 9] [--limit 0.3]

The processes are real ones that sleep, so that reading their commands and units costs what it does on a host. Every
figure is that of a whole process, the start of Python included; `gather` is the part of the module that gathers.
CPU time is what is left of a figure when the machine is busy with other things.
The simulated library answers at once: what a real driver takes comes on top, for us and for the others alike. Where
an NVIDIA driver is installed, nvidia-smi is timed on the real GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _collection import REPOSITORY

SIMULATED_NVML = REPOSITORY / "tests" / "simulated_nvml"
HELD_BYTES = 100 << 20

MODULE = """
import sys
sys.path[:0] = {path!r}
import _collection
import runpy
runpy.run_path({module!r}, run_name="__main__")
"""
GATHER = """
import os, sys, time
sys.path[:0] = {path!r}
import _collection
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._gather import Request, gather
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._owner import Owner
before, started = os.times(), time.perf_counter()
gather(Request(owner=Owner("ollama.service"), sources=[{source!r}]))
print(time.perf_counter() - started, sum(os.times()[:4]) - sum(before[:4]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="a100_80gb_x8", help="of tests/simulated_nvml/profiles")
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--limit", type=float, help="fail when the module's median takes longer, in seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sleepers = [subprocess.Popen(["sleep", "600"]) for _place in range(arguments.processes)]
        try:
            machine = describe(arguments.profile, [sleeper.pid for sleeper in sleepers])
            environment = simulate(Path(folder), machine)
            gpus = len(machine["devices"])
            print(f"{gpus} simulated GPUs, {arguments.processes} processes, {arguments.runs} runs each")
            slowest = measure(environment, arguments.runs)
        finally:
            for sleeper in sleepers:
                sleeper.kill()
                sleeper.wait()
    if arguments.limit is not None and slowest > arguments.limit:
        raise SystemExit(f"the module takes {slowest:.3f} s, more than {arguments.limit:g} s")


def describe(profile: str, pids: list[int]) -> dict[str, Any]:
    """A profile whose GPUs are held by these processes in turn.

    They stand in the description and do not announce themselves: the library would read all their files anew at
    every call, which no driver does.
    """
    machine: dict[str, Any] = json.loads((SIMULATED_NVML / "profiles" / f"{profile}.json").read_text())
    for place, pid in enumerate(pids):
        device = machine["devices"][place % len(machine["devices"])]
        device.setdefault("processes", []).append({"pid": pid, "used_bytes": HELD_BYTES, "type": "compute"})
    return machine


def simulate(folder: Path, machine: dict[str, Any]) -> dict[str, str]:
    """The environment of a host with simulated GPUs."""
    subprocess.run(["make", "-s", "-C", str(SIMULATED_NVML), f"OUT={folder}"], check=True)
    (folder / "machine.json").write_text(json.dumps(machine))
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "SIMULATED_NVML": str(folder / "machine.json"),
        "SIMULATED_NVML_PROCESSES": str(folder),
    }


def measure(environment: dict[str, str], runs: int) -> float:
    """Print the table; returns the median of the slower binding's whole module, in seconds."""
    path = [str(REPOSITORY / "tests" / "bench")]
    module = str(REPOSITORY / "plugins" / "modules" / "gpu_facts.py")
    slowest = 0.0
    print(f"{'program':34} {'median ms':>10} {'fastest ms':>11} {'CPU ms':>8}")
    for source in ("pynvml", "ctypes"):
        arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {"sources": [source]}})
        command = [sys.executable, "-c", MODULE.format(path=path, module=module)]
        slowest = max(slowest, row(f"gpu_facts by {source}", timed(command, environment, arguments), runs))
        command = [sys.executable, "-c", GATHER.format(path=path, source=source)]
        row(f"  gather by {source}", printed(command, environment), runs)
    row("gpustat --json", timed([sys.executable, "-m", "gpustat", "--json"], environment, ""), runs)
    if shutil.which("nvidia-smi"):
        row(
            "nvidia-smi -q -x, on the real GPUs",
            timed(["nvidia-smi", "-q", "-x"], dict(os.environ), ""),
            runs,
        )
    else:
        print(f"{'nvidia-smi':34} {'not here':>10}")
    return slowest


def row(title: str, once: Callable[[], tuple[float, float]], runs: int) -> float:
    once()  # brings files into the page cache
    taken = [once() for _run in range(runs)]
    wall, cpu = ([pair[place] for pair in taken] for place in (0, 1))
    median = statistics.median(wall)
    print(
        f"{title:34} {median * 1000:10.1f} {min(wall) * 1000:11.1f} {statistics.median(cpu) * 1000:8.1f}",
        flush=True,
    )
    return median


def timed(command: list[str], environment: dict[str, str], text: str) -> Callable[[], tuple[float, float]]:
    """How long a program runs, and its CPU time, in seconds."""

    def once() -> tuple[float, float]:
        before, started = os.times(), time.perf_counter()
        subprocess.run(command, env=environment, input=text, text=True, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started, sum(os.times()[2:4]) - sum(before[2:4])

    return once


def printed(command: list[str], environment: dict[str, str]) -> Callable[[], tuple[float, float]]:
    """How long a program says that it took, and its CPU time, in seconds."""

    def once() -> tuple[float, float]:
        answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        wall, cpu = answer.split()
        return float(wall), float(cpu)

    return once


if __name__ == "__main__":
    main()
