# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who still reads what a measurement writes; the rest of the driver is tried with whole measurements."""

from __future__ import annotations

import os
import socket

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import has_reader


def test_a_pipe_has_a_reader_until_that_is_closed():
    reading, writing = os.pipe()
    assert has_reader(writing)
    os.write(writing, b"x" * 1000)
    assert has_reader(writing)
    os.close(reading)
    assert not has_reader(writing)
    os.close(writing)


def test_a_socket_has_a_reader_until_that_is_closed():
    reading, writing = socket.socketpair()
    assert has_reader(writing.fileno())
    reading.close()
    assert not has_reader(writing.fileno())
    writing.close()


def test_any_other_file_is_always_read(tmp_path):
    for path in (os.devnull, str(tmp_path / "out")):
        with open(path, "wb") as file:
            assert has_reader(file.fileno())
