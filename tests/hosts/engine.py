# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container engine, with settings and storage of its own, so that the machine's are left alone.

Everything that exists only while hosts run lies under `runtime_dir()`; the images lie under `IMAGES`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TMPFS = Path("/dev/shm")
TMPFS_MINIMUM_BYTES = 2 * 1024**3
CACHE = Path(os.environ.get("GPUFLEET_HOSTS_CACHE", "/var/cache/gpufleet-hosts"))
IMAGES = CACHE / "images"
NETWORK = "gpufleet"
# What the programs below come in, on Debian and Ubuntu.
PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "gcc": "gcc libc6-dev",
    "make": "make",
}
# An unattended upgrade may hold apt's lock.
APT_GET = ["apt-get", "-qq", "--option=DPkg::Lock::Timeout=300"]


class HostsError(Exception):
    """Something the reader can put right; the message says how."""


def say(message: str) -> None:
    print(f"==> {message}", flush=True)


def become_root() -> None:
    """Start this program again under sudo when it needs root and has it not."""
    if os.geteuid() == 0:
        return
    if shutil.which("sudo") is None:
        raise HostsError("test hosts boot systemd in containers, which needs root: run this as root")
    say("sudo: test hosts that boot a real systemd, their images and their network need root")
    keep = ",".join(name for name in os.environ if name.startswith(("GPUFLEET_", "http", "HTTP", "no_proxy")))
    # Without compiled files, which would belong to root in the caller's checkout.
    environment = "PYTHONDONTWRITEBYTECODE=1"
    command = ["sudo", f"--preserve-env={keep}", environment, sys.executable, *sys.argv]
    sys.exit(subprocess.run(command, check=False).returncode)


def require(*programs: str) -> None:
    """Install what is missing of these programs from the distribution's packages."""
    missing = [program for program in programs if find_program(program) is None]
    if not missing:
        return
    packages = " ".join(PACKAGES[program] for program in missing).split()
    if shutil.which("apt-get") is None:
        raise HostsError(f"these programs are missing, please install them: {', '.join(missing)}")
    say(f"Installing from the distribution's packages: {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ([*APT_GET, "update"], [*APT_GET, "install", "--yes", *packages]):
        run(command, env=environment)


def find_program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def run(command: Sequence[str], **options: Any) -> str:
    """Run a program and return its output; where it fails, say what it said."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if result.returncode:
        said = (result.stderr.strip() or result.stdout.strip())[-4000:]
        raise HostsError(f"{' '.join(command[:4])} ... failed with status {result.returncode}: {said}")
    return result.stdout


def tmpfs_has_room() -> bool:
    """Whether memory can hold the hosts' own files; a disk is several times slower at this."""
    if not TMPFS.is_dir() or os.statvfs(TMPFS).f_flag & (os.ST_NOEXEC | os.ST_NODEV):
        return False
    return shutil.disk_usage(TMPFS).free >= TMPFS_MINIMUM_BYTES


@functools.cache
def runtime_dir() -> Path:
    on_disk = Path("/var/tmp/gpufleet-hosts")
    in_memory = TMPFS / "gpufleet-hosts"
    if in_memory.is_dir() or (tmpfs_has_room() and not on_disk.is_dir()):
        return in_memory
    return on_disk


def podman(*arguments: str, store: str = "hosts", **options: Any) -> str:
    return run([*podman_command(), *arguments], env=podman_environment(store), **options)


def podman_command() -> list[str]:
    return [find_program("podman") or "podman"]


def podman_environment(store: str = "hosts") -> dict[str, str]:
    """Environment under which podman uses our settings. `store`: "hosts", or "images" to write images."""
    folder = _write_settings()
    return {
        **os.environ,
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / f"{store}.conf"),
    }


@functools.cache
def _write_settings() -> Path:
    """Write podman's settings and return their folder."""
    runtime = runtime_dir()
    runtime.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    open_files = min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    processes = min(32768, resource.getrlimit(resource.RLIMIT_NPROC)[1] % 2**63)
    # A machine may lack CAP_SYS_RESOURCE, and then podman's own, higher limits cannot be set. crun fails on
    # a hybrid cgroup tree. The systemd cgroup manager would need a systemd on this machine.
    _write_whole(
        CACHE / "containers.conf",
        "[containers]\n"
        f'default_ulimits = ["nofile={open_files}:{open_files}", "nproc={processes}:{processes}"]\n'
        'log_driver = "none"\n'
        "[engine]\n"
        'cgroup_manager = "cgroupfs"\n'
        'runtime = "runc"\n'
        'events_logger = "none"\n'
        'lock_type = "file"\n'
        "[network]\n"
        f'network_config_dir = "{runtime}/networks"\n',
    )
    # Images stay on disk and are only read; a host's own files lie in the runtime directory.
    _write_whole(
        CACHE / "hosts.conf",
        "[storage]\n"
        'driver = "overlay"\n'
        f'graphroot = "{runtime}/storage"\n'
        f'runroot = "{runtime}/run"\n'
        "[storage.options]\n"
        f'additionalimagestores = ["{IMAGES}"]\n',
    )
    # podman notes the run root in the store, so it may not move with the runtime directory.
    _write_whole(
        CACHE / "images.conf",
        f'[storage]\ndriver = "overlay"\ngraphroot = "{IMAGES}"\nrunroot = "{CACHE}/run"\n',
    )
    return CACHE


def _write_whole(path: Path, text: str) -> None:
    """Replace a file in one step: with half of its settings podman would use the machine's own storage."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)


@contextlib.contextmanager
def lock(name: str, mode: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Keep other programs of this kind out. Raises: BlockingIOError with LOCK_NB where one is in."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as file:
        fcntl.flock(file, mode)
        yield


def in_use() -> contextlib.AbstractContextManager[None]:
    """While somebody lists, makes or removes hosts, nobody removes the folder in which podman keeps them."""
    return lock("in_use", fcntl.LOCK_SH)


def ensure_network() -> None:
    """A network between this machine and its hosts that leads nowhere else."""
    if NETWORK not in _listed("network", "ls", "--format", "{{.Name}}"):
        podman("network", "create", "--internal", NETWORK)


def inspect(container: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(podman("container", "inspect", container))
    return found[0]


def containers(label: str | None = None) -> list[str]:
    chosen = ["--filter", f"label={label}"] if label else []
    return _listed("ps", "--all", "--format", "{{.Names}}", *chosen)


def label_values(label: str) -> list[str]:
    return _listed("ps", "--all", "--format", f'{{{{index .Labels "{label}"}}}}')


def _listed(*command: str) -> list[str]:
    """What podman lists: nothing where it is not installed yet, because it comes with the first host."""
    return podman(*command).split() if find_program("podman") else []


def remove_containers(names: Sequence[str]) -> None:
    if names:
        podman("rm", "--force", "--volumes", "--time", "0", *names)


def clean_up_when_unused() -> None:
    """Leave nothing in memory, in the network or in the kernel's settings once no host runs."""
    with contextlib.suppress(BlockingIOError), lock("in_use", fcntl.LOCK_EX | fcntl.LOCK_NB):
        if runtime_dir().is_dir() and not containers():
            _clean_up()


def _clean_up() -> None:
    if NETWORK in _listed("network", "ls", "--format", "{{.Name}}"):
        podman("network", "rm", NETWORK)
    restore_kernel_limits()
    shutil.rmtree(runtime_dir(), ignore_errors=True)
    _write_settings.cache_clear()
    runtime_dir.cache_clear()


INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_WANTED = 4096
HOSTS_WITHIN_INOTIFY_DEFAULT = 20


def raise_kernel_limits(hosts: int) -> None:
    """Let many systemds run at once: each takes several inotify instances, of which a kernel grants 128."""
    now = int(INOTIFY_INSTANCES.read_text())
    if hosts <= HOSTS_WITHIN_INOTIFY_DEFAULT or now >= INOTIFY_WANTED:
        return
    say(f"Raising fs.inotify.max_user_instances from {now} to {INOTIFY_WANTED} while the hosts run")
    (runtime_dir() / "inotify-before").write_text(str(now))
    INOTIFY_INSTANCES.write_text(str(INOTIFY_WANTED))


def restore_kernel_limits() -> None:
    before = runtime_dir() / "inotify-before"
    if before.exists():
        INOTIFY_INSTANCES.write_text(before.read_text())
