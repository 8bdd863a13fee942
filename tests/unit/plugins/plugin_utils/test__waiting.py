# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A long task says every 15 seconds what it waits for, in one line."""

from __future__ import annotations

import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.action.ollama_benchmark import ActionModule as Benchmark
from ansible_collections.gpufleet.ollama.plugins.action.ollama_load import ActionModule as Load
from ansible_collections.gpufleet.ollama.plugins.action.ollama_wait import ActionModule as Wait
from ansible_collections.gpufleet.ollama.plugins.action.systemd_restart import ActionModule as Restart
from ansible_collections.gpufleet.ollama.plugins.plugin_utils import _waiting
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._waiting import (
    INTERVAL_SECONDS,
    LongModule,
    say,
    telling,
)

HOST = {"inventory_hostname": "gpu01"}


@pytest.fixture
def said(monkeypatch):
    """The lines that are printed."""
    lines = []

    class Terminal:
        def display(self, line, stderr):
            lines.append(line)

    monkeypatch.setattr(_waiting, "Display", Terminal)
    return lines


@pytest.fixture
def drained(action_of, monkeypatch):
    """`drained(answers, seconds)` gives the result of waiting until idle, and the seconds of each slice."""

    def run(answers, **options):
        asked = []

        def answer_of(_self, module, given, _returns, _variables):
            asked.append((module, given["timeout_seconds"], given["unit"]))
            return dict(answers[len(asked) - 1])

        monkeypatch.setattr(Wait, "answer_of", answer_of)
        action = action_of(Wait, "ollama_wait", {"condition": "idle", "unit": "ollama.service", **options})
        return action.run(task_vars=HOST), asked

    return run


BUSY = {"idle": False, "reason": "2 connections to the API", "waited_seconds": 15.2}
IDLE = {"idle": True, "reason": "no request in flight", "waited_seconds": 3.0}


def test_the_interval_is_fifteen_seconds():
    assert INTERVAL_SECONDS == 15


def test_requests_in_flight_are_waited_for_in_slices_that_say_so(drained, said):
    result, asked = drained([BUSY, BUSY, IDLE], timeout_seconds=300)
    assert asked == [("ollama_wait", 15, "ollama.service")] * 3
    assert (result["idle"], result["waited_seconds"]) == (True, 33.4)
    assert said == [
        "gpu01: waiting for the requests in flight: 2 connections to the API, 15 s of at most 300 s",
        "gpu01: waiting for the requests in flight: 2 connections to the API, 30 s of at most 300 s",
    ]


@pytest.mark.parametrize(
    ("seconds", "slices"),
    [(0, [0]), (-1, [0]), (5, [5]), (15, [15]), (16, [15, 1]), (40, [15, 15, 10]), ("30", [15, 15])],
)
def test_the_slices_make_the_whole_and_no_more(drained, said, seconds, slices):
    result, asked = drained([BUSY] * 9, timeout_seconds=seconds)
    assert [length for _module, length, _unit in asked] == slices
    assert not result["idle"]
    assert len(said) == len(slices) - 1


@pytest.mark.parametrize("ended", [{"failed": True, "msg": "no such unit"}, {"unreachable": True, "msg": "lost"}])
def test_a_slice_that_fails_or_is_lost_is_the_last(drained, said, ended):
    result, asked = drained([BUSY, ended], timeout_seconds=300)
    assert (len(asked), len(said)) == (2, 1)
    assert ended.items() <= result.items()


class Slow(LongModule):
    def waits_for(self, options):
        return options["words"]

    def answer_of(self, *_unused):
        time.sleep(0.3)
        return {"changed": False}


def test_what_cannot_be_interrupted_is_told_of_beside_it(action_of, monkeypatch, said):
    monkeypatch.setattr(_waiting, "INTERVAL_SECONDS", 0.1)
    assert action_of(Slow, "slow", {"words": "loading qwen"}).run(task_vars=HOST)["changed"] is False
    assert len(said) >= 1
    assert set(said) == {"gpu01: loading qwen, 0 s"}
    count = len(said)
    time.sleep(0.3)
    assert len(said) == count


def test_nothing_is_said_any_more_when_the_work_raises(monkeypatch, said):
    monkeypatch.setattr(_waiting, "INTERVAL_SECONDS", 0.05)
    with pytest.raises(RuntimeError, match="over"), telling("gpu01", lambda: "x"):
        raise RuntimeError("over")
    time.sleep(0.15)
    assert said == []


@pytest.mark.parametrize(
    ("action", "options", "words"),
    [
        (Load, {"models": [{"name": "a"}, {"name": "b"}], "also": ["b", "c"]}, "loading a, b, c"),
        (Load, {"models": [], "also": []}, "loading models"),
        (Load, {"models": "{{ x }}"}, "loading models"),
        (Benchmark, {"parallel": 4}, "measuring 4 at once"),
        (Restart, {"unit": "second.service"}, "restarting second.service"),
        (Restart, {}, "restarting ollama.service"),
        (Wait, {"unit": "ollama.service"}, "waiting until ollama.service is healthy"),
    ],
)
def test_each_says_what_it_waits_for(action_of, action, options, words):
    assert action_of(action, "x", options).waits_for(options) == words


def test_what_a_host_wrote_is_text_in_one_line_that_fits(said):
    say("gpu01", "\x1b[2Jcleared\nand " + "more " * 60)
    (line,) = said
    assert line.startswith("gpu01: \\x1b[2Jcleared and more")
    assert len(line) == 120
