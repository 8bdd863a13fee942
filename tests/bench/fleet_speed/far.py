# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to a host that is far away: what goes through it arrives later, as much of it as there is.

ssh -o ProxyCommand="python far.py MILLISECONDS %h %p"

It delays each direction by half of a round trip, as `tc qdisc add dev eth0 root netem delay` does, for which many kernels lack
the module.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable

PIECE_BYTES = 1 << 16


def main() -> None:
    delay_s = float(sys.argv[1]) / 2000
    host = socket.create_connection((sys.argv[2], int(sys.argv[3])))
    host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    there = threading.Thread(
        target=relay, args=(lambda: os.read(0, PIECE_BYTES), host.sendall, delay_s), daemon=True
    )
    there.start()
    relay(lambda: host.recv(PIECE_BYTES), lambda data: _write_all(1, data), delay_s)


def relay(read: Callable[[], bytes], write: Callable[[bytes], object], delay_s: float) -> None:
    """Hands on what is read, each piece when its time has come, until there is no more."""
    pieces: queue.Queue[tuple[float, bytes]] = queue.Queue()

    def take() -> None:
        data = b"-"
        while data:
            data = read()
            pieces.put((time.monotonic() + delay_s, data))

    threading.Thread(target=take, daemon=True).start()
    while True:
        due, data = pieces.get()
        time.sleep(max(0.0, due - time.monotonic()))
        if not data:
            return
        write(data)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    main()
