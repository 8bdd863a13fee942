# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the stand-in does wrong when it is told to, and how fast it is."""

from __future__ import annotations

import http.client
import threading
import time
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.tests.standin_ollama import config
from ansible_collections.gpufleet.ollama.tests.standin_ollama.throughput import aggregate_rate

from ..conftest import MODEL, Server, Start

GENERATE = {"model": MODEL, "prompt": "x", "stream": False, "options": {"num_predict": 20}}


def faulty(*faults: dict[str, Any]) -> dict[str, Any]:
    return {"faults": list(faults)}


def test_dies_on_start_only_with_the_value_named(start: Start) -> None:
    told = faulty({"action": "exit_on_start", "status": 3, "when": {"OLLAMA_NUM_PARALLEL": "8"}})
    assert start(config=told, wait=False, OLLAMA_NUM_PARALLEL="8").process.wait(20) == 3
    assert start(config=told, OLLAMA_NUM_PARALLEL="4").ask("GET", "/").status == 200


def test_dies_again_and_again_some_time_after_the_start(start: Start) -> None:
    told = faulty({"action": "exit_after", "seconds": 0.5, "status": 4})
    assert start(config=told).process.wait(20) == 4


def test_answers_500_where_told(start: Start) -> None:
    server = start(config=faulty({"action": "fail", "paths": ["/api/version"], "after": 1}))
    assert [server.ask("GET", "/api/version").status for _number in range(3)] == [200, 500, 500]
    assert server.ask("GET", "/api/tags").status == 200


def test_hangs_where_told(start: Start) -> None:
    server = start(config=faulty({"action": "hang", "paths": ["/api/version"], "seconds": 0.7}))
    began = time.monotonic()
    server.ask("GET", "/api/version")
    assert time.monotonic() - began >= 0.7


def test_drops_the_connection_in_the_middle_of_a_stream(start: Start) -> None:
    server = start(config=faulty({"action": "drop", "paths": ["/api/generate"], "tokens": 5}))
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        server.ask("POST", "/api/generate", {**GENERATE, "stream": True})
    assert server.ask("GET", "/api/version").status == 200


def test_dies_in_the_middle_of_a_request(start: Start) -> None:
    server = start(config=faulty({"action": "exit_in_request", "tokens": 5, "status": 9}))
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        server.ask("POST", "/api/generate", GENERATE)
    assert server.process.wait(10) == 9


def test_refuses_loads_with_the_engines_error(start: Start) -> None:
    server = start(config=faulty({"action": "load_fails"}))
    reply = server.ask("POST", "/api/generate", GENERATE)
    assert (reply.status, "cudaMalloc failed: out of memory" in reply.json()["error"]) == (500, True)


def test_says_it_is_busy_above_a_number_of_requests(start: Start) -> None:
    server = start(config=faulty({"action": "busy_above", "in_flight": 0}))
    assert server.ask("POST", "/api/generate", GENERATE).status == 503


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"faults": [{"action": "explode"}]}, "unknown action 'explode'"),
        ({"faults": [{"action": "hang", "second": 1}]}, "hang takes no 'second'"),
        ({"fault": []}, "unknown key 'fault'"),
        ({"throughput": {"law": "magic"}}, "'magic' is none of"),
        ({"sizes": [{"modell": "x"}]}, "unknown key 'modell'"),
    ],
)
def test_a_misspelt_configuration_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.from_dict(wrong)


@pytest.mark.parametrize(
    ("law", "rates"),
    [
        ({"law": "linear"}, [10, 20, 30, 40]),
        ({"law": "saturating", "knee": 3}, [10, 20, 30, 30]),
        ({"law": "amdahl", "serial_share": 0.5}, [10, 13.33, 15, 16]),
        ({"law": "thrashing", "serial_share": 0.0, "crosstalk": 0.2}, [10, 14.29, 13.64, 11.76]),
    ],
)
def test_the_laws_of_throughput(law: dict[str, Any], rates: list[float]) -> None:
    settings = config.Throughput(tokens_per_second=10, **law)
    assert [round(aggregate_rate(settings, active), 2) for active in (1, 2, 3, 4)] == rates


def rate(server: Server, requests: int) -> float:
    """Tokens per second of model time, all requests together, where they run side by side."""
    replies: list[dict[str, Any]] = []

    def ask() -> None:
        replies.append(server.ask("POST", "/api/generate", GENERATE).json())

    threads = [threading.Thread(target=ask) for _number in range(requests)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(reply["eval_count"] / reply["eval_duration"] * 1e9 for reply in replies)


@pytest.mark.parametrize(("law", "expected"), [("linear", 80.0), ("saturating", 40.0)])
def test_requests_side_by_side_share_the_rate(start: Start, law: str, expected: float) -> None:
    speed = {"law": law, "knee": 1, "tokens_per_second": 40, "time_scale": 1}
    server = start(config={"throughput": speed}, OLLAMA_NUM_PARALLEL="2")
    server.ask("POST", "/api/generate", {"model": MODEL})
    assert rate(server, 1) == pytest.approx(40, rel=0.01)
    assert rate(server, 2) == pytest.approx(expected, rel=0.3)


def test_more_requests_than_slots_wait_for_one(start: Start) -> None:
    speed = {"law": "linear", "tokens_per_second": 40, "time_scale": 1}
    server = start(config={"throughput": speed}, OLLAMA_NUM_PARALLEL="1")
    server.ask("POST", "/api/generate", {"model": MODEL})
    began = time.monotonic()
    rate(server, 2)
    assert time.monotonic() - began >= 2 * 20 / 40


def test_noise_is_bounded_and_repeatable(start: Start) -> None:
    told = {"throughput": {"noise": 0.1, "seed": 7, "tokens_per_second": 40}}
    first, second = (
        [rate(server, 1) for _number in range(4)] for server in (start(config=told), start(config=told))
    )
    assert first == second
    assert all(36 <= value <= 45 for value in first)
    assert len(set(first)) > 1
