# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the installed artifact with the versions of ansible-core and of Debian that README.md names.

python tests/gates/ansible_versions.py [VERSION ...]

Versions that run on this Python manage hosts with Debian 11, 12 and 13 over ssh. Newer ones need a newer Python: a host
with Debian 13 has it, and manages itself. Each plans, applies, verifies, applies again, where nothing may change, and
looks for drift. Versions that run here also meet a host whose banner is a template, which none may evaluate.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from _tree import ROOT
from artifact import install_checkout

sys.path.insert(0, str(ROOT / "tests" / "hosts"))

import fleet as hosts  # scripts beside each other, no package

HERE, DEBIAN_13 = "3.11", "3.13"
# The Python that each version of ansible-core is run with.
VERSIONS = {"2.18": HERE, "2.19": HERE, "2.20": DEBIAN_13, "2.21": DEBIAN_13}
SUITES = ("bullseye", "bookworm", "trixie")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PLAYBOOKS = ("plan", "site", "site", "drift")
BUILD = ROOT / ".build" / "ansible_versions"
# Where the host that manages itself finds what is made here.
MOUNT = "/opt/ansible_versions"
LOCALHOST = "[ollama]\nlocalhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n"


def main() -> None:
    """Install every version and the artifact, boot the hosts, run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("versions", nargs="*", metavar="VERSION", default=list(VERSIONS))
    versions = parser.parse_args().versions
    BUILD.mkdir(parents=True, exist_ok=True)
    install_checkout(BUILD / "collections")
    for version in versions:
        install_ansible(version, VERSIONS[version])
    (BUILD / "localhost.ini").write_text(LOCALHOST, encoding="utf-8")
    (BUILD / "ansible.cfg").touch()
    made = boot()
    try:
        for version in versions:
            run_version(made, version)
    finally:
        hosts.down(made)


def install_ansible(version: str, python: str) -> None:
    """Put a version of ansible-core and what it needs, for a Python that need not be here, into a folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    command += ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp"]
    command.append("--ignore-requires-python")  # pip holds it against the Python that it runs on itself
    command += [f"--platform={platform}" for platform in PLATFORMS]
    command += [f"--target={BUILD / version}", f"ansible-core~={version}.0"]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"ansible-core {version} for Python {python} cannot be installed")


def boot() -> hosts.Fleet:
    """One host of each suite, managed from here, and one that manages itself."""
    like = {"gpus": "rtx3060_12gb", "models": ["llama3.2:3b"]}
    described = {
        "defaults": like,
        "hosts": {
            **{suite: {"suite": suite} for suite in SUITES},
            "itself": {"suite": "trixie", "groups": [], "run_options": [f"--volume={BUILD}:{MOUNT}"]},
        },
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as spec:
        yaml.safe_dump(described, spec)
        spec.flush()
        made = hosts.read_spec(Path(spec.name), "ansible-versions")
    hosts.up(made)
    return made


def run_version(made: hosts.Fleet, version: str) -> None:
    """Let a version do its work, from a state in which it has everything to do."""
    itself = VERSIONS[version] == DEBIAN_13
    managed = ["itself"] if itself else SUITES
    for host in managed:
        hosts.execute(made, host, ["sh", "-c", "rm -rf /etc/systemd/system/ollama.service.d /var/lib/gpufleet"])
        hosts.execute(made, host, ["sh", "-c", "systemctl daemon-reload && systemctl restart ollama"])
    seen: list[str] = []
    for name in PLAYBOOKS:
        output = in_the_host(made, version, name) if itself else from_here(made, version, name)
        recap = [line for line in output.splitlines() if "changed=" in line]
        unchanged = all("changed=0 " in line for line in recap)
        if unchanged != (name != "site" or "site" in seen) or not recap:
            raise SystemExit(f"ansible-core {version}, {name}.yml, run {len(seen) + 1}:\n{output}")
        seen.append(name)
    if not itself:
        meet_a_hostile_banner(version)
    print(f"ansible-core {version}: {', '.join(seen)} on {', '.join(managed)}: as expected", flush=True)


def meet_a_hostile_banner(version: str) -> None:
    """What ssh prints of a host that it does not reach is kept as a result, and evaluated in none."""
    with tempfile.TemporaryDirectory() as folder:
        ran, ssh, inventory = (Path(folder, name) for name in ("ran", "ssh", "inventory.ini"))
        ssh.write_text(
            f"#!/bin/sh\necho \"Welcome {{{{ lookup('pipe', 'touch {ran}') }}}}\" >&2\nexit 255\n", encoding="utf-8"
        )
        ssh.chmod(0o755)
        inventory.write_text(f"[ollama]\nevil ansible_host=127.0.0.1 ansible_ssh_executable={ssh}\n", encoding="utf-8")
        for name in ("plan", "drift", "site", "rollback", "benchmark"):
            command = [*command_line(sys.executable, inventory, name), "-e", f"gpufleet_report_dir={folder}/report"]
            done = subprocess.run(
                command, env=environment_of(version), cwd=BUILD, text=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            if ran.exists() or "Welcome {{ lookup(" not in done.stdout:
                raise SystemExit(f"ansible-core {version}, {name}.yml, a banner that is a template:\n{done.stdout}")


def command_line(python: str | Path, inventory: str | Path, name: str) -> list[str]:
    command = [str(python), "-m", "ansible", "playbook", "-i", str(inventory), f"gpufleet.ollama.{name}"]
    return [*command, "-e", "ollama_override_stable_seconds=1"]


def environment_of(version: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(BUILD / version),
        "ANSIBLE_CONFIG": str(BUILD / "ansible.cfg"),  # empty: what users of the artifact have
        "ANSIBLE_COLLECTIONS_PATH": str(BUILD / "collections"),
    }


def from_here(made: hosts.Fleet, version: str, name: str) -> str:
    command = command_line(sys.executable, made.inventory, name)
    done = subprocess.run(
        command, env=environment_of(version), cwd=BUILD, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"ansible-core {version}: {' '.join(command)} failed:\n{done.stdout}")
    return done.stdout


def in_the_host(made: hosts.Fleet, version: str, name: str) -> str:
    settings = [
        f"PYTHONPATH={MOUNT}/{version}",
        f"ANSIBLE_COLLECTIONS_PATH={MOUNT}/collections",
        "LC_ALL=C.UTF-8",
        "HOME=/root",
        "ANSIBLE_LOCALHOST_WARNING=0",
    ]
    command = command_line("/usr/bin/python3", f"{MOUNT}/localhost.ini", name)
    try:
        return hosts.execute(made, "itself", ["env", "--chdir=/root", *settings, *command])
    except hosts.engine.HostsError as error:
        raise SystemExit(f"ansible-core {version} in a host with Debian 13: {error}") from error


if __name__ == "__main__":
    main()
