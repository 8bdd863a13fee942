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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
PLAYBOOK_TIMEOUT_SECONDS = 1200
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

    @property
    def flat(self) -> str:
        """The output without its line breaks, those between the lines of a message too, to look for what a message says."""
        return " ".join(re.sub(r'",\n\s*"', "\n", self.output).split())

    def __str__(self) -> str:
        return self.output


@dataclass(frozen=True)
class Service:
    """The Ollama service of one host, as systemd and the kernel see it."""

    host: Any
    name: str
    unit: str = "ollama.service"
    drop_in: str = "/etc/systemd/system/ollama.service.d/zz-gpufleet.conf"

    def sh(self, command: str) -> str:
        output: str = self.host.check_output(command)
        return output

    def console(self, command: str) -> str:
        """Run a command in the host without ssh."""
        program = [sys.executable, str(CHECKOUT / "tests" / "hosts" / "hosts.py"), "exec", fleet_name()]
        return subprocess.run(
            [*program, self.name, "sh", "-c", command], capture_output=True, text=True, check=True
        ).stdout

    def run(self, playbook: str, *options: str, **variables: Any) -> Run:
        """Run a playbook on this host alone."""
        return run_playbook(playbook, f"--limit={self.name}", *options, **variables)

    def reload(self) -> None:
        self.sh("systemctl daemon-reload")

    def show(self, name: str, unit: str | None = None) -> str:
        return self.sh(f"systemctl show --property={name} --value {unit or self.unit}")

    def state(self) -> tuple[str, int, str]:
        """What a run that stops before any change must leave as it was."""
        files = self.sh("find /etc/systemd/system -type f -printf '%p %m %s %t\\n' | sort")
        return files, self.main_pid, self.drop_in_text

    @property
    def drop_in_text(self) -> str:
        text: str = self.host.file(self.drop_in).content_string
        return text

    @property
    def main_pid(self) -> int:
        return int(self.show("MainPID"))

    @property
    def process_environment(self) -> dict[str, str]:
        text = self.sh(f"tr '\\0' '\\n' </proc/{self.main_pid}/environ")
        return dict(line.split("=", 1) for line in text.splitlines())

    @property
    def server_config(self) -> str:
        """The latest line in which Ollama says how it understood its environment."""
        journal = self.sh(f"journalctl --unit={self.unit} --output=cat --no-pager")
        return [line for line in journal.splitlines() if 'msg="server config"' in line][-1]


def fleet_name() -> str:
    return f"molecule-{os.environ['MOLECULE_SCENARIO_NAME']}"


def inventory() -> Path:
    return CHECKOUT / ".build" / "hosts" / fleet_name() / "inventory.yml"


def run_playbook(playbook: str, *options: str, **variables: Any) -> Run:
    """run_playbook("site", "--check", ollama_plan_num_parallel=3): options, then extra variables."""
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        f"--inventory={inventory()}",
        f"--extra-vars={json.dumps(variables)}",
        *options,
        f"gpufleet.ollama.{playbook}",
    ]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".build" / "collections"),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_FORCE_COLOR": "0",  # Molecule forces it
    }
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=PLAYBOOK_TIMEOUT_SECONDS,
    )
    return Run(result.returncode, result.stdout + result.stderr)


@pytest.fixture(scope="session")
def services(on: Callable[[str], Service]) -> list[Service]:
    """The services of all hosts of the scenario."""
    return [on(name) for name in yaml.safe_load(inventory().read_text())["all"]["hosts"]]


@pytest.fixture
def service(host: Any) -> Service:
    """The service of each host of the scenario in turn."""
    return Service(host, host.backend.get_hostname())


@pytest.fixture(scope="session")
def on() -> Callable[[str], Service]:
    """The service of the host of this name."""

    def on_host(name: str) -> Service:
        ssh_config = inventory().with_name("ssh_config")
        return Service(testinfra.get_host(f"ssh://{name}", ssh_config=str(ssh_config)), name)

    return on_host
