# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a number of requests at once came to: rates, delays and failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._statistics import (
    distribution,
    median,
    spread,
)

OK = "ok"
BUSY = "busy"
FAILED = "failed"
_MOST_ERRORS_SHOWN = 5


@dataclass(frozen=True)
class Sent:
    """One request: times in seconds of one clock, counts in tokens, the server's own durations in seconds.

    cut_short: the server ended the answer before its end and told no counts of its own; the tokens are those that came.
    outcome: `ok`, `busy` (the server's queue was full, HTTP 503) or `failed` with an error.
    """

    started_s: float
    ended_s: float
    outcome: str = OK
    first_token_s: float | None = None
    prompt_tokens: int = 0
    prompt_s: float = 0.0
    output_tokens: int = 0
    output_s: float = 0.0
    error: str = ""
    cut_short: bool = False


@dataclass(frozen=True)
class Round:
    """Requests that were sent by so many clients at once, each as soon as its former one was answered."""

    concurrency: int
    sent: tuple[Sent, ...]

    @property
    def answered(self) -> tuple[Sent, ...]:
        return tuple(one for one in self.sent if one.outcome == OK)

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        answered = self.answered
        if not answered:
            return 0.0
        return max(one.ended_s for one in answered) - min(one.started_s for one in answered)

    def per_second(self, tokens: Iterable[int]) -> float:
        return sum(tokens) / self.seconds if self.seconds > 0 else 0.0

    @property
    def output_tokens_per_second(self) -> float:
        """All clients together, by the clock on the wall."""
        return self.per_second(one.output_tokens for one in self.answered)


def figures(concurrency: int, rounds: Sequence[Round]) -> dict[str, Any]:
    """The figures of one number of requests at once, over all rounds. Rates in tokens/s, delays in seconds.

    `tokens_per_second` is by the clock on the wall, the median of the rounds, and `spread` how far they lie
    apart. What ends in `by_server` is from the server's own counts and durations: of one request, and times
    the requests at once.
    """
    sent = [one for part in rounds for one in part.sent]
    answered = [one for one in sent if one.outcome == OK]
    rates = [part.output_tokens_per_second for part in rounds if part.answered]
    output_rates = [one.output_tokens / one.output_s for one in answered if one.output_s > 0]
    prompt_rates = [one.prompt_tokens / one.prompt_s for one in answered if one.prompt_s > 0]
    first = [one.first_token_s - one.started_s for one in answered if one.first_token_s is not None]
    errors = list(dict.fromkeys(one.error for one in sent if one.outcome == FAILED))
    return {
        "concurrency": concurrency,
        "requests": len(sent),
        "answered": len(answered),
        "busy": sum(one.outcome == BUSY for one in sent),
        "failed": sum(one.outcome == FAILED for one in sent),
        "cut_short": sum(one.cut_short for one in sent),
        "errors": errors[:_MOST_ERRORS_SHOWN],
        "seconds": _rounded(sum(part.seconds for part in rounds)),
        "prompt_tokens": sum(one.prompt_tokens for one in answered),
        "output_tokens": sum(one.output_tokens for one in answered),
        "tokens_per_second": _rounded(median(rates) if rates else 0.0),
        "spread": _rounded(spread(rates)),
        "tokens_per_second_by_server": _rounded(concurrency * _mean(output_rates)),
        "prompt_tokens_per_second": _rounded(_of_rounds(rounds)),
        "prompt_tokens_per_second_by_server": _rounded(concurrency * _mean(prompt_rates)),
        "request_tokens_per_second": _plain(
            [
                one.output_tokens / (one.ended_s - one.started_s)
                for one in answered
                if one.ended_s > one.started_s
            ]
        ),
        "request_tokens_per_second_by_server": _plain(output_rates),
        "request_prompt_tokens_per_second_by_server": _plain(prompt_rates),
        "time_to_first_token_seconds": _plain(first),
        "latency_seconds": _plain([one.ended_s - one.started_s for one in answered]),
    }


def _of_rounds(rounds: Sequence[Round]) -> float:
    rates = [part.per_second(one.prompt_tokens for one in part.answered) for part in rounds if part.answered]
    return median(rates) if rates else 0.0


def _plain(values: Sequence[float]) -> dict[str, float] | None:
    found = distribution(values)
    return None if found is None else found.to_dict()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _rounded(value: float) -> float:
    return round(value, 6)
