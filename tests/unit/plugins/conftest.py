# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A simulated NVML, built once, loaded where a real one would be; actions as Ansible runs them, for a host nobody can reach."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.template import Templar
from ansible_collections.gpufleet.ollama.tests.unit.data import PROFILES, SIMULATED_NVML


@pytest.fixture(scope="session")
def simulated_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a freshly built libnvidia-ml.so.1."""
    folder = tmp_path_factory.mktemp("simulated_nvml")
    command = ["make", "-s", "-C", str(SIMULATED_NVML), f"OUT={folder}"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture
def machine(simulated_nvml: Path, tmp_path: Path) -> Callable[[Any], dict[str, str]]:
    """The environment in which NVML describes a machine: the name of a profile, or a description."""

    def environment(description: Any) -> dict[str, str]:
        path = PROFILES / f"{description}.json"
        if not isinstance(description, str):
            path = tmp_path / "machine.json"
            path.write_text(json.dumps(description))
        announced = tmp_path / "announced"
        announced.mkdir(exist_ok=True)
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(simulated_nvml),
            "SIMULATED_NVML": str(path),
            "SIMULATED_NVML_PROCESSES": str(announced),
        }

    return environment


@pytest.fixture
def action_of():
    """`action_of(ActionModule, name, options)` is the action of a task, in check mode."""

    def make(action_class, name, options):
        task = SimpleNamespace(
            action=f"gpufleet.ollama.{name}",
            args=options,
            async_val=0,
            check_mode=True,
            diff=False,
            retries=None,
            until=[],
        )
        return action_class(
            task=task,
            connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir=None)),
            play_context=None,
            loader=None,
            templar=Templar(loader=None),
            shared_loader_obj=None,
        )

    return make
