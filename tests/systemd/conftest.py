# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with real systemd for each test, and a way to run the collection against it as an operator does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
# A run that takes longer hangs, even on a machine that does other work meanwhile.
PATIENCE_SECONDS = 900
sys.path.insert(0, str(CHECKOUT / "tests" / "hosts"))

import fleet as hosts  # noqa: E402  # the hosts' own programs are scripts beside each other, no package


@dataclass(frozen=True)
class Run:
    """What a run of Ansible said and how it ended."""

    return_code: int
    output: str

    @property
    def changed(self) -> int:
        return sum(
            int(line.split("changed=")[1].split()[0])
            for line in self.output.splitlines()
            if "changed=" in line
        )


@dataclass(frozen=True)
class Host:
    """One test host: commands in it, and plays against it."""

    fleet: hosts.Fleet
    name: str
    folder: Path

    def run(self, *command: str, **options: Any) -> str:
        return hosts.execute(self.fleet, self.name, list(command), **options)

    def shell(self, script: str) -> str:
        return self.run("sh", "-euc", script)

    def property(self, name: str, unit: str = "ollama.service") -> str:
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).rstrip("\n")

    def process_environment(self, unit: str = "ollama.service") -> dict[str, str]:
        pid = self.property("MainPID", unit)
        text = self.run("cat", f"/proc/{pid}/environ")
        return dict(entry.split("=", 1) for entry in text.split("\0") if entry)

    def write(self, path: str, text: str) -> None:
        self.shell(f"mkdir -p $(dirname {path})")
        self.run("tee", path, input=text)

    def read(self, path: str) -> str:
        return self.run("cat", path)

    def exists(self, path: str) -> bool:
        return "yes" in self.shell(f"test -e {path} && echo yes || echo no")

    def play(self, tasks: list[dict[str, Any]], *arguments: str, **variables: Any) -> Run:
        """Run tasks against the host."""
        running = self.start(self._write_playbook(tasks, variables), *arguments)
        output, _unused = running.communicate(timeout=PATIENCE_SECONDS)
        return Run(running.returncode, output)

    def service(self, environment: Mapping[str, Any], *arguments: str, **variables: Any) -> Run:
        """Run the role ollama_override with this environment, patient for some seconds only."""
        running = self.start(self.service_playbook(environment, **variables), *arguments)
        output, _unused = running.communicate(timeout=PATIENCE_SECONDS)
        return Run(running.returncode, output)

    def service_playbook(self, environment: Mapping[str, Any], **variables: Any) -> Path:
        role = {"ansible.builtin.include_role": {"name": "gpufleet.ollama.ollama_override"}}
        patience = {
            "ollama_override_health_timeout": 20,
            "ollama_override_stable_seconds": 1,
            "ollama_override_drain_timeout": 1,
        }
        return self._write_playbook(
            [role], {**patience, "ollama_override_environment": dict(environment), **variables}
        )

    def start(self, playbook: Path, *arguments: str) -> subprocess.Popen[str]:
        """Start a run of Ansible."""
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.fleet.inventory)]
        return subprocess.Popen(
            [*command, str(playbook), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=CHECKOUT,
            env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        )

    def _write_playbook(self, tasks: list[dict[str, Any]], variables: Mapping[str, Any]) -> Path:
        playbook = self.folder / f"play-{uuid.uuid4().hex[:6]}.yml"
        play = {"hosts": self.name, "gather_facts": False, "vars": dict(variables), "tasks": tasks}
        playbook.write_text(yaml.safe_dump([play]))
        return playbook

    def start_playbook(self, name: str, *arguments: str, **variables: Any) -> subprocess.Popen[str]:
        """Start a playbook of the collection on this host alone."""
        settings = {"gpufleet_report_dir": str(self.folder / "report"), **variables}
        options = [f"--limit={self.name}", f"--extra-vars={json.dumps(settings)}", *arguments]
        return self.start(CHECKOUT / "playbooks" / f"{name}.yml", *options)

    def playbook(self, name: str, *arguments: str, **variables: Any) -> Run:
        """Run a playbook of the collection on this host alone."""
        running = self.start_playbook(name, *arguments, **variables)
        output, _unused = running.communicate(timeout=PATIENCE_SECONDS)
        return Run(running.returncode, output)

    def report(self) -> dict[str, Any]:
        """What the report of the last playbook says of each host, by name."""
        report = json.loads((self.folder / "report" / "report.json").read_text())
        return {told["name"]: told for told in report["hosts"]}

    def reboot(self) -> None:
        """Boot the host again; it is up when this returns."""
        hosts.engine.podman("restart", "--time=30", self.fleet.container(self.name))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                if self.property("ActiveState", "multi-user.target") == "active":
                    return
            except hosts.engine.HostsError:  # systemd does not answer yet
                assert time.monotonic() < deadline, f"{self.name} did not boot"
            time.sleep(0.2)

    def disconnect(self) -> None:
        """Take the host off the network, so that nothing of it answers."""
        pid = hosts.engine.inspect(self.fleet.container(self.name))["State"]["Pid"]
        command = ["nsenter", f"--target={pid}", "--net", "ip", "link", "set", "eth0", "down"]
        subprocess.run(command, check=True, capture_output=True)

    def make_writable(self, path: str) -> None:
        """Remount what was mounted read-only, which a host cannot do from within."""
        pid = hosts.engine.inspect(self.fleet.container(self.name))["State"]["Pid"]
        command = ["nsenter", f"--target={pid}", "--mount", "mount", "--options=remount,bind,rw", path]
        subprocess.run(command, check=True, capture_output=True)

    def verify(self, environment: Mapping[str, Any], *arguments: str, **variables: Any) -> Run:
        """Run the role ollama_verify with this environment."""
        role = {"ansible.builtin.include_role": {"name": "gpufleet.ollama.ollama_verify"}}
        return self.play([role], *arguments, ollama_verify_environment=dict(environment), **variables)

    def module(self, name: str, **options: Any) -> dict[str, Any]:
        """Run a module of the collection; its result."""
        target = self.folder / f"result-{uuid.uuid4().hex[:6]}.json"
        tasks = [
            {f"gpufleet.ollama.{name}": options, "register": "result", "ignore_errors": True},
            {
                "ansible.builtin.copy": {
                    "content": "{{ result | to_json }}",
                    "dest": str(target),
                    "mode": "0600",
                },
                "delegate_to": "localhost",
                "connection": "local",
            },
        ]
        run = self.play(tasks)
        assert run.return_code == 0, run.output
        result: dict[str, Any] = json.loads(target.read_text())
        return result


MakeHost = Callable[..., Host]
MakeHosts = Callable[..., list[Host]]


@pytest.fixture
def make_hosts(tmp_path: Path) -> Iterator[MakeHosts]:
    """Makes hosts in one inventory: for each its name and what a fleet's description says of it."""
    made: list[hosts.Fleet] = []

    def make(**described: Mapping[str, Any]) -> list[Host]:
        specs = [
            hosts.HostSpec(name=name, **{"suite": "bookworm", **settings})
            for name, settings in described.items()
        ]
        fleet = hosts.Fleet(f"systemd-{uuid.uuid4().hex[:8]}", tuple(specs))
        made.append(fleet)
        hosts.up(fleet)
        return [Host(fleet, name, tmp_path) for name in described]

    yield make
    for fleet in made:
        hosts.down(fleet)


@pytest.fixture
def make_host(make_hosts: MakeHosts) -> MakeHost:
    """Makes a host: its suite, and what else a fleet's description says of a host."""

    def make(suite: str = "bookworm", **settings: Any) -> Host:
        return make_hosts(host={"suite": suite, **settings})[0]

    return make


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    """A host with Ollama as its installer leaves it."""
    return make_host()


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.fail("these tests boot hosts with real systemd, which needs root: run them through make")
