# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of a unit at a time, and no waiting for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _command, _lock
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._lock import LockError, locked

UNIT = "ollama.service"


def test_the_second_waits_for_the_first(tmp_path):
    seen = []

    def second():
        with locked(UNIT, str(tmp_path)):
            seen.append("second")

    with locked(UNIT, str(tmp_path)):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.3)
        seen.append("first")
    waiting.join(timeout=5)
    assert seen == ["first", "second"]


def test_waiting_ends_with_one_sentence(tmp_path):
    said = rf"another run has been changing ollama.service on this host .* \(process {os.getpid()}\): nothing was changed"
    too_long = pytest.raises(LockError, match=said)
    with locked(UNIT, str(tmp_path)), too_long, locked(UNIT, str(tmp_path), patience_s=0.2):
        pass
    with locked(UNIT, str(tmp_path), patience_s=0):
        pass  # nobody holds it any more


def test_a_restart_that_systemd_waits_for_is_waited_for():
    """Stopping and starting may take 90 s each (systemd-system.conf(5)); every tenth of a second it is looked again."""
    assert (_lock.PATIENCE_S, _lock._POLL_S) == (200.0, 0.1)


def test_of_an_owner_no_more_is_told_than_a_number_may_have(tmp_path):
    with locked(UNIT, str(tmp_path)):
        (tmp_path / "lock").write_text("9" * 30)
        with pytest.raises(LockError, match=rf"\(process {'9' * 20}\)"), locked(UNIT, str(tmp_path), patience_s=0):
            pass


def test_a_lock_whose_owner_was_killed_is_free(tmp_path):
    holding = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", holding, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        owner.stdout.readline()
        with pytest.raises(LockError), locked(UNIT, str(tmp_path), patience_s=0):
            pass
        owner.kill()
        with locked(UNIT, str(tmp_path), patience_s=30):
            pass


def test_nobody_waits_for_a_run_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(_command, "has_reader", lambda: False)
    with locked(UNIT, str(tmp_path)), pytest.raises(_command.Abandoned), locked(UNIT, str(tmp_path)):
        pass


def test_units_do_not_wait_for_each_other(tmp_path):
    with locked(UNIT, str(tmp_path / "one")), locked("other.service", str(tmp_path / "two"), patience_s=0):
        assert (tmp_path / "two" / "lock").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    named = pytest.raises(
        LockError, match=r"the state folder .*/file cannot be made: .*; nothing was changed"
    )
    with named, locked(UNIT, str(tmp_path / "file")):
        pass
