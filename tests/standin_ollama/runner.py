# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner: a child process that looks like ``llama-server`` in /proc and holds simulated GPU memory."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import NoReturn

from . import gpus

_ARGUMENTS_START_FIELD = 48  # /proc/pid/stat, proc(5)


def start(
    program: Sequence[str], command_line: Sequence[str], held: Mapping[str, int], port: int, devices: str
) -> subprocess.Popen[bytes]:
    """Start a runner; it lives until its standard input closes, which it does when the server dies.

    program: how to start the stand-in itself, an interpreter and a script. The kernel shows a process the
    bytes it was started with, so the child gets as many as the wanted command line has, and rewrites them.
    """
    wanted = sum(len(part.encode()) + 1 for part in command_line)
    own = ["p", *program[1:], "runner"]
    padding = wanted - sum(len(part.encode()) + 1 for part in own) - 1
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": devices} if devices else {})}
    child = subprocess.Popen(
        [*own, "-" * padding],
        executable=program[0],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    orders = {"command_line": list(command_line), "held": dict(held), "port": port}
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(orders).encode() + b"\n")
    child.stdin.flush()
    if child.stdout.readline() != b"ready\n":
        raise RuntimeError("the runner ended before it was ready")
    return child


def main() -> NoReturn:
    """Run as the child."""
    orders = json.loads(sys.stdin.buffer.readline())
    _show_as(orders["command_line"])
    announcement = None
    try:
        announcement = gpus.announce(orders["held"])
    except OSError as error:
        print(f"simulated GPU memory could not be announced: {error}", file=sys.stderr, flush=True)

    def leave(_signal: int | None = None, _frame: FrameType | None = None) -> NoReturn:
        if announcement is not None:
            with contextlib.suppress(OSError):
                announcement.unlink()
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    try:
        _serve(orders["port"])
    finally:
        leave()


def _serve(port: int) -> None:
    """Hold one connection per request in flight, as the server's proxying does, until the server is gone."""
    with socket.create_server(("127.0.0.1", port)) as listener, selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.buffer, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for key, _events in selector.select():
                if key.fileobj is sys.stdin.buffer:
                    return
                if key.fileobj is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                else:
                    connection = key.fileobj
                    assert isinstance(connection, socket.socket)
                    selector.unregister(connection)
                    connection.close()


def _show_as(command_line: Sequence[str]) -> None:
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start_address = int(fields[_ARGUMENTS_START_FIELD - 3])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start_address)
        memory.write(b"".join(part.encode() + b"\0" for part in command_line))
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write("llama-server")
