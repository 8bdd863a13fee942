# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _deadline


def test_an_answer_comes_back() -> None:
    assert _deadline.call(lambda: {"devices": [1, "two", None]}, 10) == {"devices": [1, "two", None]}


def test_a_long_answer_comes_back_whole() -> None:
    assert _deadline.call(lambda: {"text": "x" * 3_000_000}, 10) == {"text": "x" * 3_000_000}


def test_a_child_that_hangs_is_given_up() -> None:
    started = time.monotonic()
    with pytest.raises(_deadline.ChildLate, match=r"gave no answer within 0\.2 s"):
        _deadline.call(lambda: {"never": time.sleep(60)}, 0.2)
    assert time.monotonic() - started < 5


def test_what_a_late_child_started_is_ended_with_it(tmp_path: Any) -> None:
    note = tmp_path / "pid"

    def work() -> dict[str, Any]:
        note.write_text(str(subprocess.Popen(["sleep", "60"]).pid))
        time.sleep(60)
        return {}

    with pytest.raises(_deadline.ChildLate):
        _deadline.call(work, 1)
    pid = int(note.read_text())
    for _attempt in range(100):
        state = ""
        try:
            with open(f"/proc/{pid}/stat") as stat:
                state = stat.read().rpartition(")")[2].split()[0]
        except OSError:
            break
        if state == "Z":
            break
        time.sleep(0.05)
    assert state in ("", "Z")


def test_a_child_that_crashes_is_named_with_its_signal() -> None:
    with pytest.raises(_deadline.ChildFailed, match="crashed with SIGKILL"):
        _deadline.call(lambda: {"never": os.kill(os.getpid(), signal.SIGKILL)}, 10)


def test_what_a_child_raises_is_told() -> None:
    def work() -> dict[str, Any]:
        raise RuntimeError("no such thing")

    with pytest.raises(_deadline.ChildFailed, match="RuntimeError: no such thing"):
        _deadline.call(work, 10)


def test_an_answer_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deadline, "MAXIMUM_BYTES", 1000)
    with pytest.raises(_deadline.ChildFailed, match="answered more than"):
        _deadline.call(lambda: {"text": "x" * 100_000}, 10)


def test_a_child_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    _deadline.call(lambda: {"printed": os.write(1, b"noise") + os.write(2, b"noise")}, 10)
    assert capfd.readouterr() == ("", "")


def test_an_answer_is_json_or_what_was_raised() -> None:
    assert _deadline.answer(lambda: {"a": 1}) == b'{"a": 1}'
    assert b"not JSON serializable" in _deadline.answer(lambda: {"a": object()})
