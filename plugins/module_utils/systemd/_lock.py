# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of a unit at a time on this host, whoever makes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import make_state_folder
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import stop_if_abandoned

# A restart holds the lock while the service stops and starts, for each of which systemd allows 90 s by default
# (DefaultTimeoutStopSec= and DefaultTimeoutStartSec= in systemd-system.conf(5)).
PATIENCE_S = 200.0
_POLL_S = 0.1
_MOST_DIGITS = 20


class LockError(Exception):
    """The unit cannot be locked; nothing was changed, and the sentence says why."""


@contextlib.contextmanager
def locked(unit: str, state_directory: str, patience_s: float | None = None) -> Iterator[None]:
    """Keeps other runs from changing a unit meanwhile; the kernel lets go when the process dies.

    The file holds the number of the process that has the lock, for those that wait.

    `patience_s`: how many seconds to wait for them, by default `PATIENCE_S`.

    Raises: Abandoned when nobody waits for this module's answer any more; nothing was changed; LockError when
    another process holds the lock for too long, or the state folder cannot be made.
    """
    try:
        make_state_folder(state_directory)
        descriptor = os.open(os.path.join(state_directory, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise LockError(
            f"the state folder {state_directory} cannot be made: {error.strerror}; nothing was changed"
        ) from error
    try:
        _wait_for(unit, descriptor, PATIENCE_S if patience_s is None else patience_s)
        with contextlib.suppress(OSError):  # a full disk, say
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def _wait_for(unit: str, descriptor: int, patience_s: float) -> None:
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                owner = os.pread(descriptor, _MOST_DIGITS, 0).decode("ascii", "replace")
                raise LockError(
                    f"another run has been changing {unit} on this host for more than {patience_s:g} s "
                    f"(process {owner or 'unknown'}): nothing was changed; run again when that one has ended"
                ) from None
        stop_if_abandoned()
        time.sleep(_POLL_S)
