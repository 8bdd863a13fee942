# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc tells of a unit's processes: the environment each runs with, its sockets, its control group."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._numbers import whole_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    parse_process_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_command

PROC = "/proc"
# A process may hold at most this much environment and arguments (Linux: a quarter of the stack limit,
# 6 MiB at most; see execve(2)); also bounds what is read of the socket tables.
READ_LIMIT_BYTES = 16 * 1024 * 1024
# A line for each hierarchy, and a path is at most 4 KiB. Python makes room for all that it may read, which for hundreds
# of processes takes longer than the reading.
CGROUP_LIMIT_BYTES = 64 * 1024
# A runner's command line is 2 KiB long. Whoever runs the service may start thousands of processes with 2 MiB each.
COMMAND_LIMIT_BYTES = 64 * 1024
COMMANDS_LIMIT_BYTES = 4 * 1024 * 1024
_UNIT_NAME = re.compile(r".+\.(?:service|scope)\Z")
_CONTAINER_CGROUP = re.compile(
    r"[/-](?:docker|libpod|cri-containerd|containerd|crio|lxc|lxc\.payload)[-/:.](?!service)|/kubepods|/machine\.slice/"
)
_TCP_LISTEN = "0A"
_TCP_ESTABLISHED = "01"


@dataclass(frozen=True)
class Process:
    """One process: pid, command line as a list, and the time it has used the CPU, in clock ticks."""

    pid: int
    command: tuple[str, ...]
    cpu_ticks: int

    def to_dict(self) -> dict[str, Any]:
        return {"pid": self.pid, "command": masked_command(self.command)}


@dataclass(frozen=True)
class Socket:
    """One TCP socket: its own address and port, whether it listens or has a peer, and who holds it."""

    address: str
    port: int
    listening: bool
    peer: str
    peer_port: int
    inode: int
    pid: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _read(path: str, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(limit_bytes)


def process_environment(pid: int, proc: str = PROC) -> dict[str, str]:
    """The environment the process was started with.

    Raises: OSError when the process is gone or may not be read.
    """
    return parse_process_environment(_read(f"{proc}/{pid}/environ"))


def process_name(pid: int, proc: str = PROC) -> str:
    """The process's short name (`comm`); empty when it is gone."""
    try:
        return _read(f"{proc}/{pid}/comm").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def control_group(pid: int, proc: str = PROC) -> str:
    """The process's control group in the hierarchy systemd manages, without the part above PID 1's own.

    Inside a container that boots systemd, that part names the container and tells nothing about the process.
    """
    return control_groups([pid], proc)[pid]


def control_groups(pids: Iterable[int], proc: str = PROC) -> dict[int, str]:
    """The control groups of several processes, each as `control_group` tells it."""
    manager = _raw_control_group(1, proc)
    return {pid: _below(_raw_control_group(pid, proc), manager) for pid in pids}


def _raw_control_group(pid: int, proc: str) -> str:
    try:
        lines = _read(f"{proc}/{pid}/cgroup", CGROUP_LIMIT_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    unified = ""
    for line in lines:
        _number, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if controllers == "name=systemd":
            return path
        if controllers == "":
            unified = path
    return unified


def _below(path: str, manager: str) -> str:
    root = manager.removesuffix("/init.scope").rstrip("/")
    return path[len(root) :] if path.startswith(f"{root}/") else path


def unit_of(pid: int, proc: str = PROC) -> str | None:
    """The systemd service or scope that a process belongs to."""
    return unit_in(control_group(pid, proc))


def unit_in(group: str) -> str | None:
    """The innermost systemd service or scope in the path of a control group."""
    for part in reversed(group.split("/")):
        if _UNIT_NAME.match(part):
            return part
    return None


def container_in(group: str) -> bool:
    """Whether the path of a control group is that of a container."""
    return bool(_CONTAINER_CGROUP.search(group))


def process_command(pid: int, proc: str = PROC) -> tuple[str, ...]:
    """The command line of a process; empty when it is gone."""
    try:
        text = _read(f"{proc}/{pid}/cmdline", COMMAND_LIMIT_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(text.rstrip("\0").split("\0")) if text else ()


def is_server(command: Sequence[str]) -> bool:
    """Whether a command line is that of a program named like Ollama that serves its API.

    Source: ollama cmd/cmd.go (serveCmd, Aliases); NixOS wraps the program as `.ollama-wrapped`.
    """
    for position, word in enumerate(command[:2]):
        name = word.rpartition("/")[2].lstrip(".")
        if name.startswith("ollama") and command[position + 1 : position + 2] in (("serve",), ("start",)):
            return True
    return False


def serving_pid(main_pid: int, proc: str = PROC) -> int:
    """The process of a unit that serves Ollama's API: its main one, or one that a script as main process waits for."""
    if is_server(process_command(main_pid, proc)):
        return main_pid
    return next(
        (process.pid for process in unit_processes(main_pid, proc) if is_server(process.command)), main_pid
    )


def server_environment(main_pid: int, proc: str = PROC) -> dict[str, str]:
    """The environment that a unit's server was started with.

    Raises: OSError when the process is gone or may not be read.
    """
    return process_environment(serving_pid(main_pid, proc), proc)


def pids(proc: str = PROC) -> list[int]:
    """The processes of this host."""
    return sorted(pid for pid in map(whole_number, os.listdir(proc)) if pid is not None)


def unit_processes(main_pid: int, proc: str = PROC) -> list[Process]:
    """The processes in the control group of a unit's main process, the main process included.

    Command lines are read up to a bound each and in all; of processes beyond, the command is empty.
    """
    group = _raw_control_group(main_pid, proc)
    if not group or group == "/":
        return []
    found = []
    left_bytes = COMMANDS_LIMIT_BYTES
    # The main process first: it is never one of those beyond.
    for pid in sorted(pids(proc), key=lambda pid: pid != main_pid):
        other = _raw_control_group(pid, proc)
        if f"{other}/".startswith(f"{group}/"):
            process = _process(pid, proc, min(COMMAND_LIMIT_BYTES, left_bytes))
            if process:
                found.append(process)
                left_bytes -= sum(len(word) + 1 for word in process.command)
                left_bytes = max(left_bytes, 0)
    return sorted(found, key=lambda process: process.pid)


def _process(pid: int, proc: str, limit_bytes: int) -> Process | None:
    try:
        command = _read(f"{proc}/{pid}/cmdline", limit_bytes).decode("utf-8", "replace").split("\0")
        statistics = _read(f"{proc}/{pid}/stat").decode("utf-8", "replace")
    except OSError:
        return None
    # The name in parentheses may hold spaces; utime and stime are the 14th and 15th fields (proc(5)).
    fields = statistics.rpartition(")")[2].split()
    times = [whole_number(field) or 0 for field in fields[11:13]]
    ticks = sum(times)
    return Process(pid, tuple(command[:-1] if command[-1:] == [""] else command), ticks)


def tcp_sockets(owners: Iterable[int] = (), proc: str = PROC) -> list[Socket]:
    """The listening and established TCP sockets, with their holder where it is one of `owners`."""
    holder = {inode: pid for pid in owners for inode in _socket_inodes(pid, proc)}
    found = []
    for table in ("tcp", "tcp6"):
        try:
            text = _read(f"{proc}/net/{table}").decode("ascii", "replace")
        except OSError:
            continue
        found.extend(parse_socket_table(text))
    return [
        Socket(s.address, s.port, s.listening, s.peer, s.peer_port, s.inode, holder.get(s.inode))
        for s in found
    ]


def _socket_inodes(pid: int, proc: str) -> list[int]:
    inodes = []
    try:
        descriptors = os.listdir(f"{proc}/{pid}/fd")
    except OSError:
        return []
    for descriptor in descriptors:
        try:
            target = os.readlink(f"{proc}/{pid}/fd/{descriptor}")
        except OSError:
            continue
        match = re.match(r"socket:\[(\d+)\]", target)
        if match:
            inodes.append(int(match.group(1)))
    return inodes


def parse_socket_table(text: str) -> list[Socket]:
    """The listening and established sockets of `/proc/net/tcp` or `tcp6`.

    Source: Linux Documentation/networking/proc_net_tcp.rst (addresses are 32-bit words in host order).
    """
    sockets = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 10 or fields[3] not in (_TCP_LISTEN, _TCP_ESTABLISHED):
            continue
        with contextlib.suppress(ValueError):  # a line that no kernel writes
            address, port = _endpoint(fields[1])
            peer, peer_port = _endpoint(fields[2])
            sockets.append(Socket(address, port, fields[3] == _TCP_LISTEN, peer, peer_port, int(fields[9])))
    return sockets


def _endpoint(text: str) -> tuple[str, int]:
    packed, _colon, port = text.partition(":")
    words = [bytes.fromhex(packed[i : i + 8])[::-1] for i in range(0, len(packed), 8)]
    raw = b"".join(words)
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), int(port, 16)
