# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends a module when its time is up or nobody waits for it any more."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

# So long may a module that only reads take. The slowest honest answer is that of a driver which hangs: 60 s.
READING_SECONDS = 120
# So much longer than its own limit may a module take that keeps one: for its last look and its answer.
MARGIN_SECONDS = 30
_TICK_SECONDS = 1.0
# What is cleaned up on the way out (a child that is waited for) may take no longer.
_GRACE_SECONDS = 5.0
_STDOUT = 1


def has_reader(descriptor: int = _STDOUT) -> bool:
    """Whether somebody still reads the pipe or socket that a descriptor writes to; of any other file yes.

    A program that was started over SSH gets no signal when its connection is lost, but nobody reads it then.
    """
    poll = select.poll()
    poll.register(descriptor, 0)
    return not any(events & (select.POLLERR | select.POLLHUP) for _descriptor, events in poll.poll(0))


@contextlib.contextmanager
def watched(
    fail: Callable[..., Any], seconds: float, what: str, is_wanted: Callable[[], bool] | None = None
) -> Iterator[None]:
    """Runs the work of a module that changes nothing, and ends it after so many seconds or when nobody waits for it.

    `fail`: the module's `fail_json`, `what`: what is late, in its message. Nobody waits when the reader of the
    module's output or the process that started it is gone. The alarm interrupts system calls that block, so that
    opening or reading something that never answers ends too; a call that the kernel does not interrupt (a dead NFS
    server) does not.

    It cannot see that a control node is gone which SSH still holds for connected, nor what sudo with a terminal of
    its own, which goes on reading, has lost; then the limit of time remains.
    """
    deadline = time.monotonic() + seconds
    parent = os.getppid()
    wanted = is_wanted or (lambda: has_reader() and os.getppid() == parent)

    def end(_number: int, _frame: Any) -> None:
        is_late = time.monotonic() >= deadline
        if not is_late and wanted():
            return
        signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
        signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS)
        if not is_late:
            raise SystemExit(1)
        try:
            fail(
                msg=f"{what} took longer than {seconds:g} s and was ended: something on this host does not "
                "answer, look at its load, its disks and its drivers"
            )
        finally:
            sys.stdout.flush()

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, min(_TICK_SECONDS, seconds), _TICK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
