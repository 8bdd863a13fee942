# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of the GPU room share: NVML in this process, and sysfs trees."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA


@pytest.fixture
def nvml(
    machine: Callable[[Any], dict[str, str]], simulated_nvml: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any], Path]:
    """Makes libnvidia-ml.so.1 of this process describe a machine; returns the folder of announced processes."""
    # A library that is loaded already is found by its name from then on, without a search path.
    ctypes.CDLL(str(simulated_nvml / "libnvidia-ml.so.1"), mode=ctypes.RTLD_GLOBAL)

    def describe(description: Any) -> Path:
        environment = machine(description)
        for name in ("SIMULATED_NVML", "SIMULATED_NVML_PROCESSES"):
            monkeypatch.setenv(name, environment[name])
        return Path(environment["SIMULATED_NVML_PROCESSES"])

    return describe


@pytest.fixture
def sysfs(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a tree of /sys: the name of a recorded one, or paths and what the files hold."""

    def write(tree: Any) -> Path:
        files = tree
        if isinstance(tree, str):
            files = json.loads((DATA / "amdgpu" / f"{tree}.json").read_text())
        root = tmp_path / "sys"
        root.mkdir(exist_ok=True)
        for path, content in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, dict):
                file.write_bytes(bytes.fromhex(content["hex"]))
            else:
                file.write_text(f"{content}\n")
        return root

    return write


@pytest.fixture
def proc(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tree of /proc: for each pid its cgroup path and command line."""

    def write(processes: dict[int, tuple[str, str]], meminfo: str = "") -> Path:
        root = tmp_path / "proc"
        for pid, (cgroup, command) in {1: ("/init.scope", "/sbin/init"), **processes}.items():
            (root / str(pid)).mkdir(parents=True, exist_ok=True)
            (root / str(pid) / "cgroup").write_text(f"0::{cgroup}\n")
            (root / str(pid) / "cmdline").write_text(command.replace(" ", "\0") + "\0")
            (root / str(pid) / "comm").write_text("name\n")
        (root / "meminfo").write_text(meminfo or "MemTotal: 1000 kB\nMemAvailable: 600 kB\n")
        return root

    return write
