# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generating tokens at the configured rate, shared by the requests a runner serves at once."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .config import Throughput
from .scheduler import Runner, Scheduler
from .throughput import request_rate

WORDS = ("the", "capital", "of", "the", "country", "is", "a", "city", "on", "a", "river")
REPEATED_WORDS = 3
# Ollama cuts an answer after so many tokens that are equal to the one before. Source: v0.33.0-rc2 llm/llama_server.go.
MOST_REPEATS = 30
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


def repeats_from(config: Throughput, prompt: str, options: Mapping[str, Any]) -> int | None:
    """The token from which on a model says the same word for ever; None where it does not.

    A prompt that ends with one word three times makes it do so at once, as recorded of a real model; of other prompts at
    temperature 0 ``repeat_share`` of them do, chosen by the prompt's own bytes.
    """
    words = prompt.split()
    if len(words) >= REPEATED_WORDS and len(set(words[-REPEATED_WORDS:])) == 1:
        return 0
    if options.get("temperature") == 0 and options.get("repeat_penalty", 1) <= 1:
        chance = zlib.crc32(prompt.encode()) / 2**32
        if chance < config.repeat_share:
            return len(WORDS)
    return None


def words_of(prompt: str, first_repeated: int | None, limit: int) -> Iterator[str]:
    """``limit`` tokens of an answer."""
    last = (prompt.split() or WORDS)[-1]
    for position in range(limit):
        is_repeated = first_repeated is not None and position >= first_repeated
        yield f" {last if is_repeated else WORDS[position % len(WORDS)]}"


def generate(
    scheduler: Scheduler, item: Runner, tokens: Iterable[str], timings: Timings
) -> Iterator[str]:
    """Yield the tokens, each when it is due."""
    speed: Throughput = scheduler.config.throughput
    with item.slots:
        with _counting:
            item.generating += 1
        try:
            noise = 1 + speed.noise * scheduler.random.uniform(-1, 1)
            due = time.monotonic()
            timings.prompt_ns = int(timings.prompt_tokens / speed.prompt_tokens_per_second * noise * 1e9)
            due = _wait(due, timings.prompt_ns, speed.time_scale)
            for token in tokens:
                step = int(1e9 * noise / request_rate(speed, max(item.generating, 1)))
                due = _wait(due, step, speed.time_scale)
                timings.tokens += 1
                timings.tokens_ns += step
                yield token
        finally:
            with _counting:
                item.generating -= 1


def _wait(due: float, nanoseconds: int, scale: float) -> float:
    due += nanoseconds / 1e9 * scale
    time.sleep(max(due - time.monotonic(), 0))
    return due
