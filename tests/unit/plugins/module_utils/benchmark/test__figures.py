# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates, delays and failures of a number of requests at once."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._figures import (
    BUSY,
    FAILED,
    Round,
    Sent,
    figures,
)


def answered(start: float, end: float, tokens: int = 20) -> Sent:
    return Sent(
        start,
        end,
        first_token_s=start + 0.5,
        prompt_tokens=10,
        prompt_s=0.1,
        output_tokens=tokens,
        output_s=1.0,
    )


def test_the_rate_is_of_all_requests_together_by_the_clock():
    found = figures(2, [Round(2, (answered(0, 2), answered(0, 2), answered(2, 4), answered(2, 4)))])
    assert found["tokens_per_second"] == 20  # 80 tokens in 4 seconds
    assert found["prompt_tokens_per_second"] == 10
    assert found["tokens_per_second_by_server"] == 40  # two at once of 20 tokens in 1 second
    assert found["prompt_tokens_per_second_by_server"] == pytest.approx(200)
    assert found["time_to_first_token_seconds"] == {"p50": 0.5, "p95": 0.5, "p99": 0.5}
    assert found["latency_seconds"]["p95"] == 2
    assert found["request_tokens_per_second"]["p50"] == 10


def test_the_median_round_counts_and_the_spread_is_told():
    rounds = [Round(1, (answered(0, seconds),)) for seconds in (1, 2, 4)]
    found = figures(1, rounds)
    assert found["tokens_per_second"] == 10
    assert found["spread"] == pytest.approx((20 - 5) / 10)


def test_failures_and_a_full_queue_are_counted_apart():
    sent = (answered(0, 1), Sent(0, 1, BUSY, error="HTTP 503"), *[Sent(0, 1, FAILED, error="gone")] * 3)
    found = figures(5, [Round(5, sent)])
    assert (found["requests"], found["answered"], found["busy"], found["failed"]) == (5, 1, 1, 3)
    assert found["errors"] == ["gone"]


def test_where_nothing_was_answered_there_is_no_rate():
    found = figures(1, [Round(1, (Sent(0, 1, FAILED, error="gone"),))])
    assert found["tokens_per_second"] == 0
    assert found["latency_seconds"] is None
    assert found["time_to_first_token_seconds"] is None
