# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of test hosts: what each one is, how it comes up and how it goes away.

A fleet is described by a YAML file:

    variables: {ollama_plan_headroom_bytes: 0}   # inventory variables of the whole fleet; optional
    defaults: {suite: bookworm}                  # for hosts that do not say; optional
    hosts:
      workstation:
        suite: trixie                            # default: this machine's default suites in turn
        packages: [haproxy]                      # further packages of the suite
        gpus: rtx3060_12gb                       # a profile of tests/simulated_nvml, or its content;
                                                 # none: no GPU and no driver
        models:                                  # names of tests/data/headers, with Modelfile parameters
          llama3.2:3b:
          chat:8k: {from: llama3.2:3b, params: {num_ctx: 8192}}
        ollama: {version: 0.24.0}                # what tests/standin_ollama/config.py takes; default {};
                                                 # false: no Ollama on this host
        files: {/etc/motd: "text"}               # further files, there before Ollama starts
        run_options: [--tmpfs=/etc/x]            # further options of `podman run`
        variables: {ollama_plan_num_parallel: 3} # inventory variables
        groups: [ollama]                         # inventory groups
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import engine
import images
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
CHECKOUT_ID = hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:8]
TESTS = CHECKOUT / "tests"
STATE = CHECKOUT / ".build" / "hosts"
MODELS_ON_HOST = "/usr/share/ollama/.ollama/models"
OLLAMA_UID = 990
BOOT_TIMEOUT_SECONDS = 60
LABEL = "gpufleet.fleet"


@dataclass(frozen=True)
class HostSpec:
    """One test host, as the fleet's description says (see this file's head)."""

    name: str
    suite: str
    gpus: str | Mapping[str, Any] | None = None
    models: Mapping[str, Any] = field(default_factory=dict)
    ollama: Mapping[str, Any] | bool = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    run_options: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ("ollama",)
    packages: tuple[str, ...] = ()

    @property
    def image(self) -> str:
        """The suite as `images` takes it, with the packages that it is to have besides."""
        return "+".join([self.suite, ",".join(self.packages)]) if self.packages else self.suite


@dataclass(frozen=True)
class Fleet:
    """A named set of test hosts and the folder in which its inventory and key lie while it is up."""

    name: str
    hosts: tuple[HostSpec, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return STATE / self.name

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yml"

    @property
    def label(self) -> str:
        """The checkout is part of it: two checkouts on one machine do not see each other's hosts."""
        return f"{LABEL}={self.name}-{CHECKOUT_ID}"

    @property
    def connections(self) -> Path:
        """Where ssh keeps its open connections: their paths must be short, and those to former hosts go."""
        return engine.runtime_dir() / f"ssh-{hashlib.sha256(self.label.encode()).hexdigest()[:8]}"

    def container(self, host: str) -> str:
        return f"{self.label.partition('=')[2]}-{host}"


@dataclass(frozen=True)
class Programs:
    """The files of the stand-ins, built on this machine."""

    ollama: Path
    nvml: Path


def read_spec(path: Path, name: str) -> Fleet:
    described = yaml.safe_load(path.read_text())
    suites = itertools.cycle(images.default_suites())
    hosts = []
    for host, own in described["hosts"].items():
        settings = {"suite": next(suites), **described.get("defaults", {}), **(own or {})}
        for key in ("run_options", "groups", "packages"):
            if key in settings:
                settings[key] = tuple(settings[key])
        if isinstance(settings.get("models"), list):
            settings["models"] = dict.fromkeys(settings["models"])
        try:
            hosts.append(HostSpec(name=host, **settings))
        except TypeError as error:
            raise engine.HostsError(f"{path}: host {host}: {error}") from error
    return Fleet(name, tuple(hosts), described.get("variables", {}))


def up(fleet: Fleet) -> None:
    """Make, boot and furnish every host of the fleet, anew where it is up already; write its inventory."""
    engine.require("podman", "runc", "ssh")
    started = time.monotonic()
    down(fleet)
    try:
        with engine.in_use():
            addresses = _create_all(fleet)
    except BaseException:
        down(fleet)
        raise
    _write_inventory(fleet, addresses)
    _give_to_caller(STATE.parent, STATE, *STATE.rglob("*"), fleet.connections)
    engine.say(f"Hosts are up after {time.monotonic() - started:.0f} s: {fleet.inventory}")


def _create_all(fleet: Fleet) -> dict[str, str]:
    """Create the hosts, several at a time; return name -> address."""
    with engine.lock("shared"):
        available = images.ensure({host.image for host in fleet.hosts})
        engine.ensure_network()
        engine.raise_kernel_limits(len(engine.containers()) + len(fleet.hosts))
        programs = build_programs()
        for host in fleet.hosts:
            if host.models:
                model_store(host.models)
    fleet.folder.mkdir(parents=True, exist_ok=True)
    key = _make_key(fleet.folder)
    engine.say(f"Booting {len(fleet.hosts)} hosts: {', '.join(host.name for host in fleet.hosts)}")

    def create(host: HostSpec) -> str:
        return _create(fleet, host, available[host.image], key, programs)

    with concurrent.futures.ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1)) as pool:
        return dict(zip([host.name for host in fleet.hosts], pool.map(create, fleet.hosts)))


def down(fleet: Fleet) -> None:
    """Remove the fleet's hosts and everything that was made for them."""
    for socket in fleet.connections.glob("*"):
        subprocess.run(
            ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "host"], capture_output=True, check=False
        )
    shutil.rmtree(fleet.connections, ignore_errors=True)
    with engine.in_use():
        engine.remove_containers(engine.containers(fleet.label))
    shutil.rmtree(fleet.folder, ignore_errors=True)
    engine.clean_up_when_unused()


def down_all() -> None:
    """Remove every fleet of this checkout."""
    suffix = f"-{CHECKOUT_ID}"
    with engine.in_use():
        names = set(engine.label_values(LABEL))
    for name in names:
        if name.endswith(suffix):
            down(Fleet(name.removesuffix(suffix)))
    shutil.rmtree(STATE, ignore_errors=True)
    engine.clean_up_when_unused()


def execute(fleet: Fleet, host: str, command: list[str], **options: Any) -> str:
    """Run a command in a host, not through its ssh server."""
    interactive = ["--interactive"] if "input" in options else []
    return engine.podman("exec", *interactive, fleet.container(host), *command, **options)


def _create(fleet: Fleet, host: HostSpec, image: str, key: Path, programs: Programs) -> str:
    container = fleet.container(host.name)
    options = list(host.run_options)
    if host.models:
        # One store is shared by all hosts: what a host changes in it goes into a layer of its own (`:O`).
        options.append(f"--volume={model_store(host.models)}:{MODELS_ON_HOST}:O")
    engine.podman(
        "run",
        "--detach",
        "--systemd=always",
        "--cap-add=SYS_PTRACE",  # root of a real host reads the environment of every process
        f"--name={container}",
        f"--hostname={host.name}",
        f"--label={fleet.label}",
        f"--network={engine.NETWORK}",
        "--pull=never",
        *options,
        image,
    )
    _wait_until_booted(fleet, host.name)
    _furnish(fleet, host, key, programs)
    network = engine.inspect(container)["NetworkSettings"]["Networks"][engine.NETWORK]
    return str(network["IPAddress"])


def _wait_until_booted(fleet: Fleet, host: str) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT_SECONDS
    said = ""
    while time.monotonic() < deadline:
        command = [*engine.podman_command(), "exec", fleet.container(host)]
        result = subprocess.run(
            ["timeout", str(BOOT_TIMEOUT_SECONDS), *command, "systemctl", "is-system-running", "--wait"],
            capture_output=True,
            text=True,
            check=False,
            env=engine.podman_environment(),
        )
        said = (result.stdout + result.stderr).strip()
        if result.stdout.strip() == "running":
            return
        if result.stdout.strip() in ("degraded", "maintenance"):
            break
        time.sleep(0.1)  # systemd has not opened its bus yet
    raise engine.HostsError(f"test host {host} did not boot within {BOOT_TIMEOUT_SECONDS} s: {said}")


def _furnish(fleet: Fleet, host: HostSpec, key: Path, programs: Programs) -> None:
    """Put everything on the host that a real one would have, in one go, and install Ollama as users do."""
    files: dict[str, tuple[bytes, int]] = {
        "/root/.ssh/authorized_keys": (key.with_suffix(".pub").read_bytes(), 0o600),
        # In a container root's user manager may take two minutes to stop, and the next login waits for that.
        "/var/lib/systemd/linger/root": (b"", 0o644),
    }
    if host.ollama is not False:
        files["/usr/local/bin/ollama"] = (programs.ollama.read_bytes(), 0o755)
        files["/etc/standin-ollama.json"] = (json.dumps(host.ollama).encode(), 0o644)
        files["/root/install.sh"] = ((Path(__file__).parent / "install.sh").read_bytes(), 0o755)
    if host.gpus:
        files["/usr/lib/libnvidia-ml.so.1"] = (programs.nvml.read_bytes(), 0o755)
        files["/etc/simulated-nvml.json"] = (gpu_profile(host.gpus), 0o644)
        files["/etc/tmpfiles.d/simulated-nvml.conf"] = (b"d /run/simulated-nvml 1777 root root\n", 0o644)
    for path, text in host.files.items():
        files[path] = (text.encode(), 0o644)

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, (content, mode) in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(content), mode, int(time.time())
            tar.addfile(entry, io.BytesIO(content))
    command = [*engine.podman_command(), "exec", "--interactive", fleet.container(host.name), "sh", "-euc"]
    steps = ["tar -xf - -C /"]
    if host.gpus:
        steps.append("systemd-tmpfiles --create /etc/tmpfiles.d/simulated-nvml.conf")
    if host.ollama is not False:
        steps.append(f"OLLAMA_UID={OLLAMA_UID} sh /root/install.sh")
    result = subprocess.run(
        [*command, "\n".join(steps)],
        input=archive.getvalue(),
        capture_output=True,
        check=False,
        env=engine.podman_environment(),
    )
    if result.returncode:
        raise engine.HostsError(f"test host {host.name} could not be furnished: {result.stderr.decode()}")


def build_programs() -> Programs:
    """Build the stand-ins that hosts run; what has not changed is not compiled again."""
    engine.require("make", "gcc")
    engine.run(["make", "--silent", "-C", str(TESTS / "simulated_nvml"), f"OUT={STATE}"])
    ollama = STATE / "ollama"
    engine.run([sys.executable, str(TESTS / "standin_ollama" / "build.py"), str(ollama)])
    return Programs(ollama=ollama, nvml=STATE / "libnvidia-ml.so.1")


def gpu_profile(gpus: str | Mapping[str, Any]) -> bytes:
    if isinstance(gpus, str):
        return (TESTS / "simulated_nvml" / "profiles" / f"{gpus}.json").read_bytes()
    return json.dumps(gpus).encode()


def model_store(models: Mapping[str, Any]) -> Path:
    """A model store in Ollama's layout with these models, written where it is not there yet."""
    folder = TESTS / "model_store"
    sources = sorted([*folder.glob("*.py"), *(TESTS / "data" / "headers").glob("*.json")])
    key = hashlib.sha256(json.dumps(models, sort_keys=True).encode())
    for source in sources:
        key.update(source.read_bytes())
    store = engine.CACHE / "models" / key.hexdigest()[:12]
    if store.exists():
        return store
    options, names = [], []
    for name, settings in models.items():
        settings = settings or {}
        if "from" in settings:
            options.append(f"--alias={name}={settings['from']}")
        else:
            names.append(name)
        if "params" in settings:
            options.append(f"--params={name}={json.dumps(settings['params'])}")
    unfinished = store.with_suffix(f".{os.getpid()}")
    engine.run([sys.executable, str(folder / "store.py"), "--into", str(unfinished), *options, *names])
    for path in (unfinished, *unfinished.rglob("*")):
        os.chown(path, OLLAMA_UID, OLLAMA_UID)
    unfinished.rename(store)
    return store


def _make_key(folder: Path) -> Path:
    """A key that only this fleet's hosts know, and that goes away with them."""
    key = folder / "key"
    engine.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "gpufleet test hosts", "-f", str(key)])
    return key


def _write_inventory(fleet: Fleet, addresses: Mapping[str, str]) -> None:
    ssh_config = fleet.folder / "ssh_config"
    fleet.connections.mkdir(mode=0o700)
    common = (
        f"Host *\n  User root\n  IdentityFile {fleet.folder / 'key'}\n  IdentitiesOnly yes\n"
        "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
        f"  ControlPath {fleet.connections}/%C\n"
    )
    ssh_config.write_text(
        "".join(f"Host {name}\n  HostName {address}\n" for name, address in addresses.items()) + common
    )
    groups: dict[str, Any] = {}
    for host in fleet.hosts:
        for group in host.groups:
            groups.setdefault(group, {"hosts": {}})["hosts"][host.name] = {}
    inventory = {
        "all": {
            "vars": {
                "ansible_user": "root",
                "ansible_ssh_common_args": f"-F {ssh_config}",
                "ansible_control_path": f"{fleet.connections}/%%C",
                "ansible_python_interpreter": "/usr/bin/python3",
                "gpufleet_report_dir": str(fleet.folder / "report"),
                **fleet.variables,
            },
            # Their names are known to ssh only.
            "hosts": {
                host.name: {"ollama_router_address": addresses[host.name], **host.variables} for host in fleet.hosts
            },
            "children": groups,
        }
    }
    fleet.inventory.write_text(yaml.safe_dump(inventory, sort_keys=False))


def _give_to_caller(*paths: Path) -> None:
    """Files made under sudo belong to who called sudo."""
    if "SUDO_UID" in os.environ:
        for path in paths:
            os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))
