# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: one change of a unit at a time on this host, whoever makes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import Iterator

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import make_state_folder

# A restart holds the lock while the service stops, for which systemd allows 90 s by default
# (DefaultTimeoutStopSec= in systemd-system.conf(5)).
PATIENCE_S = 120.0
_POLL_S = 0.1


class LockError(Exception):
    """The unit cannot be locked; nothing was changed, and the sentence says why."""


@contextlib.contextmanager
def locked(unit: str, state_directory: str, patience_s: float | None = None) -> Iterator[None]:
    """Keeps other runs from changing a unit meanwhile; the kernel lets go when the process dies.

    C(patience_s): how many seconds to wait for them, by default C(PATIENCE_S).

    Raises:
        LockError: Another process holds the lock for too long, or the state folder cannot be made.
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
                raise LockError(
                    f"another run has been changing {unit} on this host for more than {patience_s:g} s: "
                    "nothing was changed; run again when that one has ended"
                ) from None
        time.sleep(_POLL_S)
