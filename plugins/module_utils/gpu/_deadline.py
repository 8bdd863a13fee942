# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a source of facts is asked in a child process, so that a driver that hangs or crashes ends only that."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

# An answer of more than this is not believed: 256 GPUs with thousands of processes fit.
MAXIMUM_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 16


class ChildFailed(Exception):
    """The child gave no answer; the text completes the sentence 'it ...'."""


class ChildLate(ChildFailed):
    """The child gave no answer in time."""


def call(work: Callable[[], dict[str, Any]], deadline_seconds: float) -> dict[str, Any]:
    """What `work` returns, computed in a child process; it must be made of what JSON can carry.

    Raises: ChildFailed where the child is late, is killed, raises, or answers too much.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(work, reading, writing)
    os.close(writing)
    try:
        answer = _read(reading, time.monotonic() + deadline_seconds, deadline_seconds)
    except BaseException:  # also where the module is ended meanwhile: nothing of it is left behind
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
        # A call that hangs in the kernel survives SIGKILL until the driver lets go: do not wait for it.
        os.waitpid(pid, os.WNOHANG)
        raise
    finally:
        os.close(reading)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        raise ChildFailed(f"crashed with {name}; look at the kernel log and reinstall the driver's libraries")
    result: dict[str, Any] = json.loads(answer)
    if "raised" in result:
        raise ChildFailed(f"failed in a way that is not foreseen ({result['raised']}); please report it")
    return result


def _read(reading: int, end: float, deadline_seconds: float) -> bytes:
    answer = bytearray()
    while True:
        ready, _writable, _failed = select.select([reading], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise ChildLate(
                f"gave no answer within {deadline_seconds:g} s; look at the kernel log for a hanging driver, "
                "or raise the deadline"
            )
        chunk = os.read(reading, _CHUNK_BYTES)
        if not chunk:
            return bytes(answer)
        answer += chunk
        if len(answer) > MAXIMUM_BYTES:
            raise ChildFailed(f"answered more than {MAXIMUM_BYTES >> 20} MiB")


def _child(work: Callable[[], dict[str, Any]], reading: int, writing: int) -> None:
    """Compute, answer, and end without running anything of the parent's."""
    try:
        os.setpgid(0, 0)  # so that what it starts can be killed with it
        os.close(reading)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer(work))
    finally:
        os._exit(0)


def answer(work: Callable[[], dict[str, Any]]) -> bytes:
    """What a child writes: the result as JSON, or what was raised."""
    try:
        return json.dumps(work()).encode()
    except Exception as error:
        return json.dumps({"raised": f"{type(error).__name__}: {error}"[:500]}).encode()
