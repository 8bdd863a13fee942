# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generating tokens at the configured rate, shared by the requests a runner serves at once."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Iterator

from .config import Throughput
from .scheduler import Runner, Scheduler
from .throughput import request_rate

WORDS = ("the", "capital", "of", "the", "country", "is", "a", "city", "on", "a", "river")
_counting = threading.Lock()


@dataclass
class Timings:
    """Counts and durations of one request; model time in nanoseconds, whatever the time scale."""

    prompt_tokens: int
    prompt_ns: int = 0
    tokens: int = 0
    tokens_ns: int = 0


def count_tokens(text: str) -> int:
    """Tokens of a prompt in the stand-in's tokenizer: one per word and one to begin with."""
    return len(text.split()) + 1


def generate(scheduler: Scheduler, item: Runner, limit: int, timings: Timings) -> Iterator[str]:
    """Yield ``limit`` tokens, each when it is due."""
    speed: Throughput = scheduler.config.throughput
    with item.slots:
        with _counting:
            item.generating += 1
        try:
            noise = 1 + speed.noise * scheduler.random.uniform(-1, 1)
            due = time.monotonic()
            timings.prompt_ns = int(timings.prompt_tokens / speed.prompt_tokens_per_second * noise * 1e9)
            due = _wait(due, timings.prompt_ns, speed.time_scale)
            for position in range(limit):
                step = int(1e9 * noise / request_rate(speed, max(item.generating, 1)))
                due = _wait(due, step, speed.time_scale)
                timings.tokens += 1
                timings.tokens_ns += step
                yield f" {WORDS[position % len(WORDS)]}"
        finally:
            with _counting:
                item.generating -= 1


def _wait(due: float, nanoseconds: int, scale: float) -> float:
    due += nanoseconds / 1e9 * scale
    time.sleep(max(due - time.monotonic(), 0))
    return due
