# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a service counts as healthy, when waiting is hopeless, and when it is idle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._health import (
    Holder,
    Load,
    Sight,
    busy,
    ending,
    judge,
    told,
)

CAPTURES = Path(__file__).parents[4] / "data" / "captures"
UNIT = "ollama.service"
OURS = Holder(7, "ollama", UNIT)
THIEF = Holder(9, "python3", "thief.service")
UP = Sight(0.0, "active", "running", 7, 0, "http://127.0.0.1:11434", OURS, True, "0.33.0", None)
STARTING = replace(UP, answer=None, holder=None, holder_is_ours=False, error="connection refused")
DEAD = replace(STARTING, active_state="activating", sub_state="auto-restart", main_pid=0)


def over_time(*sights):
    return [replace(sight, at_s=float(second)) for second, sight in enumerate(sights)]


def verdict(*sights, stable=2.0):
    return judge(UNIT, over_time(*sights), stable)


def test_healthy_is_the_same_process_answering_for_a_while():
    assert not verdict(UP).healthy
    assert not verdict(STARTING, UP, UP).healthy
    found = verdict(STARTING, UP, UP, UP)
    assert found.healthy
    assert found.reason == "ollama.service answers at http://127.0.0.1:11434 (Ollama 0.33.0)"


def test_a_restart_or_another_process_begins_the_while_anew():
    assert not verdict(UP, UP, replace(UP, restarts=1), replace(UP, restarts=1)).healthy
    assert not verdict(UP, UP, replace(UP, main_pid=8)).healthy
    assert not verdict(UP, STARTING, UP, UP).healthy


def test_a_service_that_failed_is_hopeless():
    found = verdict(STARTING, replace(DEAD, active_state="failed"))
    assert (found.healthy, found.hopeless, found.reason) == (False, True, "ollama.service failed")


def test_a_restart_loop_is_hopeless():
    found = verdict(DEAD, replace(DEAD, restarts=3))
    assert found.hopeless
    assert found.reason == "ollama.service does not stay up: systemd restarted it 3 times"


def test_waiting_goes_on_while_it_starts():
    assert verdict(DEAD).reason == "ollama.service has no process (it is activating, auto-restart)"
    assert verdict(STARTING).reason.endswith("does not answer at http://127.0.0.1:11434: connection refused")
    assert not verdict(STARTING).hopeless


def test_a_foreign_process_on_the_port_is_named_with_pid_and_unit():
    taken = replace(DEAD, holder=THIEF, answer="0.33.0", restarts=0)
    assert verdict(taken).reason == (
        "the port of http://127.0.0.1:11434 is taken by python3 (pid 9, unit thief.service), "
        "so that ollama.service cannot listen on it"
    )
    assert not verdict(taken).hopeless
    assert verdict(taken, replace(taken, restarts=3)).hopeless


def test_a_foreign_answer_is_no_health_even_while_ours_runs():
    found = verdict(*[replace(UP, holder=replace(THIEF, unit=None), holder_is_ours=False)] * 5)
    assert not found.healthy
    assert "answers python3 (pid 9, no systemd unit), not ollama.service" in found.reason


def test_an_unknown_holder_of_a_port_that_answers_is_taken_for_ours():
    # Without the right to read other users' descriptors nobody's socket can be told.
    assert verdict(*[replace(UP, holder=None, holder_is_ours=False)] * 4).healthy


@pytest.mark.parametrize(
    ("loads", "reason"),
    [
        ([Load(0, 2, 0)], "2 connections to the API"),
        ([Load(0, 1, 0)], "1 connection to the API"),
        ([Load(0, 3, 0, ("10.0.0.9", "10.0.0.10", "10.0.0.9"))], "3 connections to the API from 10.0.0.10, 10.0.0.9"),
        ([Load(0, 4, 0, ("1", "2", "3", "4"))], "4 connections to the API from 1, 2, 3 and others"),
        ([Load(0, 0, 0)], "its runners are watched for a moment"),
        ([Load(0, 0, 1.0), Load(1, 0, 1.5)], "a runner is computing"),
        ([Load(0, 0, 1.0), Load(1, 0, 1.01)], None),
        ([Load(0, 0, 1.0), Load(0, 0, 2.0)], None),
        ([Load(0, 3, 1.0), Load(1, 0, 0.0)], None),
    ],
)
def test_idle_is_without_connections_and_computing_runners(loads, reason):
    assert busy(loads) == reason


PANIC = (CAPTURES / "real_cpu" / "start_log" / "origins_panic.log").read_text().splitlines()
CAUSE = (
    "panic: bad origin: origins must contain '*' or include http://,https://,chrome-extension://,"
    "safari-extension://,moz-extension://,ms-browser-extension://"
)


@pytest.mark.parametrize(
    ("words", "kept", "sentence"),
    [
        (PANIC, [CAUSE, "", "goroutine 1 [running]:"], f"Its journal says: {CAUSE}"),
        (
            ["Error: listen tcp: address already in use", "it ended"],
            ["Error: listen tcp: address already in use", "it ended"],
            "Its journal says: Error: listen tcp: address already in use",
        ),
        (["panic: old", "started", "panic: new"], ["panic: new"], "Its journal says: panic: new"),
        (["fatal error: out of memory"], ["fatal error: out of memory"], "Its journal says: fatal error: out of memory"),
        (["a", "b", "c", "d"], ["b", "c", "d"], "Its journal ends: b; c; d"),
        ([], [], "Its journal holds nothing of this start"),
    ],
)
def test_an_end_is_told_by_its_cause(words, kept, sentence):
    assert ending(words, 3) == kept
    assert told(ending(words, 20 if words is PANIC else 3)) == sentence
