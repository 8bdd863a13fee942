# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module ends when it is late, or when nobody reads what it writes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest
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


MODULE = """
import json, os, re, subprocess, sys, time
sys.path[:0] = {path!r}
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import watched

def fail(msg):
    print(json.dumps({{"failed": True, "msg": msg}}))
    sys.exit(1)

with watched(fail, {seconds}, "the module"):
    {work}
print(json.dumps({{"done": True}}))
"""


def module(work, seconds):
    """A process that works under watch."""
    program = MODULE.format(path=sys.path, work=work, seconds=seconds)
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    "work",
    [
        "time.sleep(60)",
        "open({pipe!r})",
        "re.search(r'(a*)*b', 'a' * 40)",
        "[None for number in iter(int, 1)]",
        "subprocess.run(['sleep', '60'])",
    ],
    ids=["sleeping", "opening a pipe", "a slow expression", "computing", "waiting for a child"],
)
def test_a_late_module_ends_with_a_sentence(work, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    process = module(work.format(pipe=str(tmp_path / "pipe")), 0.3)
    answer, errors = process.communicate(timeout=30)
    assert json.loads(answer)["msg"].startswith(
        "the module took longer than 0.3 s and was ended: something on"
    )
    assert (process.returncode, errors) == (1, "")
    assert time.monotonic() - began < 8


def test_a_module_that_is_in_time_is_left_alone():
    answer, errors = module("time.sleep(0.1)", 60).communicate(timeout=30)
    assert (json.loads(answer), errors) == ({"done": True}, "")


def test_a_module_whose_answer_nobody_reads_ends():
    with module("time.sleep(60)", 60) as process:
        process.stdout.close()
        assert process.wait(timeout=10) == 1


def test_a_module_whose_starter_is_gone_ends(tmp_path):
    program = MODULE.format(path=sys.path, work="time.sleep(60)", seconds=60)
    # Its output is a file, as it is read by nobody in particular, and the shell that started it is killed.
    (tmp_path / "module.py").write_text(program)
    script = f"{sys.executable} {tmp_path}/module.py > {tmp_path}/out & echo $!; wait"
    shell = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(shell.stdout.readline())
    time.sleep(0.5)
    shell.kill()
    shell.wait()
    shell.stdout.close()
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}/exe") and time.monotonic() < end:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}/exe")
