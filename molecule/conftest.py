# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenarios' tests share: running a playbook against the scenario's hosts, and reading a service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
RECAP = re.compile(r"^(?P<host>\S+)\s+: ok=\d+\s+changed=(?P<changed>\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What came of one run of a playbook."""

    returncode: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """Host -> number of changed tasks."""
        return {match["host"]: int(match["changed"]) for match in RECAP.finditer(self.output)}

    def __str__(self) -> str:
        return self.output


@pytest.fixture(scope="session")
def inventory() -> Path:
    return (
        CHECKOUT / ".build" / "hosts" / f"molecule-{os.environ['MOLECULE_SCENARIO_NAME']}" / "inventory.yml"
    )


@pytest.fixture(scope="session")
def run_playbook(inventory: Path) -> Callable[..., Run]:
    """run_playbook("site", "--limit=debian12", ollama_plan_num_parallel=3): options, then extra variables."""

    def run(playbook: str, *options: str, **variables: Any) -> Run:
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={inventory}",
            f"--extra-vars={json.dumps(variables)}",
            *options,
            f"gpufleet.ollama.{playbook}",
        ]
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".build" / "collections"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
            "ANSIBLE_NOCOLOR": "1",
        }
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return Run(result.returncode, result.stdout + result.stderr)

    return run


@pytest.fixture
def service(host: Any) -> Service:
    return Service(host)


@dataclass(frozen=True)
class Service:
    """The Ollama service of one host, as systemd and the kernel see it."""

    host: Any
    unit: str = "ollama.service"
    drop_in: str = "/etc/systemd/system/ollama.service.d/zz-gpufleet.conf"

    def show(self, name: str) -> str:
        shown: str = self.host.check_output(f"systemctl show --property={name} --value {self.unit}")
        return shown

    @property
    def main_pid(self) -> int:
        return int(self.show("MainPID"))

    @property
    def process_environment(self) -> dict[str, str]:
        text = self.host.check_output(f"tr '\\0' '\\n' </proc/{self.main_pid}/environ")
        return dict(line.split("=", 1) for line in text.splitlines())

    @property
    def server_config(self) -> str:
        """The latest line in which Ollama says how it understood its environment."""
        journal = self.host.check_output(f"journalctl --unit={self.unit} --output=cat --no-pager")
        return [line for line in journal.splitlines() if 'msg="server config"' in line][-1]
