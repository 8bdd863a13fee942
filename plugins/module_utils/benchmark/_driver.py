# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""So many clients at once, each with its own list of requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._figures import (
    FAILED,
    OK,
    Round,
    Sent,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._prompts import prompt
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._stream import Open, ask
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api

# A full queue is asked again after this pause, so that a client does not hammer a server that is busy.
BUSY_PAUSE_S = 0.05
_JOIN_S = 5.0


class Stopped(Exception):
    """The time is up or somebody ended the run; the sentence says which."""


@dataclass(frozen=True)
class Workload:
    """What clients ask. Lengths in tokens (of a prompt, nearly: in words), taken in turn; times in seconds."""

    prompt_lengths: tuple[int, ...] = (128,)
    output_lengths: tuple[int, ...] = (64,)
    requests_per_client: int = 4
    rounds: int = 1
    seed: int = 1
    request_timeout_s: float = 120.0

    def requests_at(self, concurrency: int) -> int:
        """Requests of all rounds with so many clients."""
        return concurrency * self.requests_per_client * self.rounds

    def request(self, model: str, *place: int) -> dict[str, Any]:
        """The request at a place; no two places share a prompt's beginning."""
        turn = place[-1]
        return {
            "model": model,
            "prompt": prompt(self.prompt_lengths[turn % len(self.prompt_lengths)], self.seed, *place),
            # Without the model's template, which would begin every prompt the same way.
            "raw": True,
            "options": {
                "num_predict": self.output_lengths[turn % len(self.output_lengths)],
                "seed": self.seed,
                # Ollama cuts an answer off that repeats itself: each token is less likely the more often it came.
                "temperature": 0.8,
                "repeat_penalty": 1.1,
                "repeat_last_n": 64,
                "frequency_penalty": 1.0,
            },
        }


@dataclass
class Control:
    """Ends a run: at a moment of the monotonic clock, when nobody wants it any more, or when somebody calls `stop`."""

    deadline_s: float
    is_wanted: Callable[[], bool] = lambda: True
    reason: str = ""
    open_connections: Open = field(default_factory=Open)

    def stop(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.open_connections.cut()

    def at_most(self, seconds: float) -> float:
        """So many seconds, or those that are left; never none, so that what is begun late fails by its own words."""
        return max(0.1, min(seconds, self.deadline_s - time.monotonic()))

    def check(self) -> None:
        """Raises: Stopped."""
        if not self.reason and time.monotonic() > self.deadline_s:
            self.stop("the time for the whole measurement is up")
        if not self.reason and not self.is_wanted():
            self.stop("the run that asked for the measurement is gone")
        if self.reason:
            raise Stopped(self.reason)


def run_round(
    api: Api,
    lists: Sequence[Sequence[Mapping[str, Any]]],
    timeout_s: float,
    control: Control,
    tick: Callable[[], None],
    tick_s: float = 0.5,
) -> Round:
    """Send the requests of all clients at the same time, one list for each, and wait for the answers.

    After a failure no client begins another request. `tick` is called now and then while they run.

    Raises: Stopped when the run was ended; no request is in flight then.
    """
    begin, enough = threading.Event(), threading.Event()
    sent: list[Sent] = []

    def client(requests: Sequence[Mapping[str, Any]]) -> None:
        begin.wait()
        for request in requests:
            if enough.is_set():
                return
            one = ask(api, request, timeout_s, control.open_connections)
            sent.append(one)
            if one.outcome == FAILED:
                enough.set()
            elif one.outcome != OK:
                enough.wait(BUSY_PAUSE_S)

    threads = [threading.Thread(target=client, args=(requests,), daemon=True) for requests in lists]
    for thread in threads:
        thread.start()
    begin.set()
    try:
        _wait(threads, control, tick, tick_s)
    finally:
        enough.set()
        if any(thread.is_alive() for thread in threads):
            control.open_connections.cut()
        for thread in threads:
            thread.join(_JOIN_S)
    return Round(len(lists), tuple(sent))


def _wait(
    threads: Sequence[threading.Thread], control: Control, tick: Callable[[], None], tick_s: float
) -> None:
    next_tick = time.monotonic()
    while True:
        alive = [thread for thread in threads if thread.is_alive()]
        control.check()
        if not alive:
            return
        if time.monotonic() >= next_tick:
            tick()
            next_tick = time.monotonic() + tick_s
        alive[0].join(min(tick_s, 0.1))
