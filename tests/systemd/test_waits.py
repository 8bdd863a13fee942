# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every wait has an end, and a run that is interrupted leaves nothing that the next one waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest
from ansible_collections.gpufleet.ollama.tests.standin_ollama.measured_sizes import read as measured_sizes
from ansible_collections.gpufleet.ollama.tests.unit.data import TESTS

D = "/etc/systemd/system/ollama.service.d"
DROPIN = f"{D}/zz-gpufleet.conf"
TWO = {"OLLAMA_NUM_PARALLEL": 2}
THREE = {"OLLAMA_NUM_PARALLEL": 3}
# With three at once the service never gets as far as to be started, and systemd waits for it.
NEVER_STARTS = """\
[Service]
TimeoutStartSec=infinity
ExecStartPre=/bin/sh -c 'test "$OLLAMA_NUM_PARALLEL" != 3 || exec sleep infinity'
"""


@pytest.fixture
def host(make_host):
    """A host that runs two at once and does not start with three."""
    made = make_host()
    made.write(f"{D}/hangs.conf", NEVER_STARTS)
    first = made.service(TWO)
    assert first.return_code == 0, first.output
    return made


def parallel(host):
    return host.process_environment().get("OLLAMA_NUM_PARALLEL")


def wait_for(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"this did not come about within {seconds} s"
        time.sleep(0.2)


def kill_with_all_it_started(run):
    """As when the control node is lost: Ansible's workers, which hold the connections, are in sessions of their own."""
    shown = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parent_of = dict(map(int, line.split()) for line in shown.splitlines())
    pids = [run.pid]
    for pid in pids:
        pids += [child for child, parent in parent_of.items() if parent == pid]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run.communicate()


@pytest.mark.essential
def test_a_restart_that_never_ends_is_cancelled_and_rolled_back(host):
    run = host.service(THREE, ollama_override_restart_timeout=4)
    said = " ".join(run.output.split())
    assert run.return_code != 0
    assert "ollama.service was not restarted within 4 s: it is activating (start-pre), and systemd's job was cancelled" in said
    assert "The former drop-in is back and ollama.service runs on it." in said
    assert parallel(host) == "2"
    assert host.property("Job") == ""
    assert host.service(TWO).changed == 0


def test_a_way_back_that_never_ends_is_cancelled_too(host):
    host.shell("sed -i 's/ != 3 / = 0 /' " + f"{D}/hangs.conf; systemctl daemon-reload")
    run = host.service(THREE, ollama_override_restart_timeout=4)
    said = " ".join(run.output.split())
    assert run.return_code != 0
    assert said.count("was not restarted within 4 s") >= 2
    assert "Returning to the former drop-in failed too" in said
    assert host.property("Job") == ""


def test_a_run_killed_while_it_waits_leaves_nothing_to_wait_for(host):
    running = host.start(host.service_playbook(THREE))
    wait_for(lambda: host.property("SubState") == "start-pre")
    kill_with_all_it_started(running)
    wait_for(lambda: "systemd_restart" not in host.shell("ps ax -o args"), seconds=20)
    began = time.monotonic()
    run = host.service(TWO)
    assert run.return_code == 0, run.output
    assert time.monotonic() - began < 100
    assert parallel(host) == "2"


def test_a_preload_that_was_killed_is_completed_by_the_next_run_and_an_unchanged_host_is_left_alone(make_host):
    # The load takes what was measured at this context, so that a second run has nothing to learn from it.
    sizes = measured_sizes(TESTS / "data" / "engine_memory.csv", ["llama3.2:3b"])
    host = make_host(gpus="rtx3060_12gb", models={"llama3.2:3b": None}, ollama={"sizes": sizes})
    wanted = {"ollama_plan_wanted": ["llama3.2:3b"], "ollama_plan_max_context_length": 4096}
    asked = {**wanted, "ollama_override_preload": True}
    patience = {"ollama_override_health_timeout": 20, "ollama_override_stable_seconds": 1}
    first = host.playbook("site", **asked, **patience)
    assert first.return_code == 0, first.output
    loading = "Load the models that are to stay loaded and are not"
    again = host.playbook("site", **asked, **patience)
    assert (again.changed, f"TASK [gpufleet.ollama.ollama_override : {loading}]" in again.output) == (0, False)

    host.shell("systemctl restart ollama; sleep 1")  # as a run leaves it that was killed before it loaded anything
    not_asked = host.playbook("site", **wanted, **patience)
    assert (not_asked.return_code, not_asked.changed) == (0, 0), not_asked.output
    assert "llama-server" not in host.shell("ps ax -o args")
    completed = host.playbook("site", **asked, **patience)
    assert completed.return_code == 0, completed.output
    assert "llama-server" in host.shell("ps ax -o args")
    assert host.playbook("site", **asked, **patience).changed == 0
