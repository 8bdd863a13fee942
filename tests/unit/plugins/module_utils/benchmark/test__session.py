# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole measurement of a server that answers like Ollama, by known laws and with known faults."""

from __future__ import annotations

import os
import threading
import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark import _session
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._driver import (
    Control,
    Stopped,
    Workload,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._session import (
    RunnerMemory,
    ServesOthers,
    Session,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import has_reader
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api

MODEL = "llama3.1:8b"
GENERATE = ["/api/generate"]


@pytest.fixture
def session(start):
    """`session(parallel=2, faults=[...])`: a measurement of a fresh server with so many slots."""

    def make(
        parallel=2,
        law="linear",
        faults=(),
        see=lambda: None,
        seconds=60.0,
        num_parallel=None,
        time_scale=0.05,
        load_seconds=0.2,
        **change,
    ):
        throughput = {"law": law, "knee": 2, "tokens_per_second": 40, "time_scale": time_scale}
        server = start(
            gpus_gib=(24,),
            config={"throughput": throughput, "faults": list(faults), "load_seconds": load_seconds},
            OLLAMA_NUM_PARALLEL=str(num_parallel or parallel),
            **{name: change.pop(name) for name in list(change) if name.startswith("OLLAMA_")},
        )
        options = {
            "api": Api(f"http://127.0.0.1:{server.port}"),
            "workload": Workload((8,), (16,), requests_per_client=2, request_timeout_s=3.0),
            "control": Control(time.monotonic() + seconds),
            "see_others": see,
            "see_memory": lambda _model: RunnerMemory(parallel=num_parallel or parallel),
            "parallel": parallel,
            "concurrency": range(1, parallel + 1),
            **change,
        }
        return Session(**options)

    return make


def levels(model):
    return {level["concurrency"]: level for level in model["levels"]}


def test_every_number_at_once_is_measured_and_what_the_server_says_is_its_law(session):
    (model,) = session(parallel=3, law="saturating").measure([MODEL])
    assert model["problems"] == []
    assert model["on_gpu"] is True
    found = levels(model)
    assert set(found) == {1, 2, 3}
    for clients, level in found.items():
        assert (level["requests"], level["answered"], level["failed"]) == (2 * clients, 2 * clients, 0)
        assert level["output_tokens"] == 16 * 2 * clients
        # One word more than asked: the stand-in counts one token to begin with.
        assert level["prompt_tokens"] == 9 * 2 * clients
        assert level["prompt_tokens_per_second_by_server"] == pytest.approx(800 * clients, rel=0.01)
        assert 0 < level["time_to_first_token_seconds"]["p50"] <= level["latency_seconds"]["p50"]
    assert found[1]["tokens_per_second_by_server"] == pytest.approx(40, rel=0.01)
    # Now and then one of the clients is between two requests, and the other gets more.
    assert found[2]["tokens_per_second_by_server"] == pytest.approx(80, rel=0.1)
    assert found[3]["tokens_per_second_by_server"] == pytest.approx(80, rel=0.4)


def test_lengths_are_taken_in_turn_and_rounds_repeated(session):
    workload = Workload((8, 30), (4, 8), requests_per_client=2, rounds=2, request_timeout_s=3.0)
    (model,) = session(parallel=1, workload=workload).measure([MODEL])
    (level,) = model["levels"]
    assert level["requests"] == 4
    assert level["output_tokens"] == 2 * (4 + 8)
    assert level["prompt_tokens"] == 2 * (9 + 31)


def test_a_model_that_spills_says_so(session):
    (model,) = session(parallel=4, concurrency=[4], faults=[{"action": "spill", "parallel": 4}]).measure(
        [MODEL]
    )
    assert model["on_gpu"] is False
    assert "it lies partly on the CPU" in model["problems"][0]


def test_on_the_cpu_by_plan_is_no_problem(session):
    fault = {"action": "spill", "parallel": 1}
    (model,) = session(parallel=1, faults=[fault], placement="cpu").measure([MODEL])
    assert (model["on_gpu"], model["problems"]) == (False, [])


def test_a_server_that_hangs_ends_in_a_timeout_and_no_more_is_asked_of_it(session):
    workload = Workload((8,), (4,), requests_per_client=3, request_timeout_s=0.5)
    fault = {"action": "hang", "paths": GENERATE, "seconds": 30, "after": 3}
    began = time.monotonic()
    (model,) = session(parallel=2, workload=workload, faults=[fault]).measure([MODEL])
    assert time.monotonic() - began < 15
    assert model["problems"] == ["1 at once: no whole answer within 0.5 s"]
    assert len(model["levels"]) == 1
    assert model["levels"][0]["failed"] == 1
    assert model["levels"][0]["requests"] < 3


def test_a_server_that_dies_in_the_middle_is_a_failed_level(session):
    fault = {"action": "exit_in_request", "paths": GENERATE, "after": 4, "tokens": 3}
    (model,) = session(parallel=2, faults=[fault]).measure([MODEL])
    assert [level["concurrency"] for level in model["levels"]] == [1, 2]
    assert "broke off" in model["problems"][0] or "ended before it was whole" in model["problems"][0]


def test_an_answer_that_breaks_off_is_a_failure_not_a_short_answer(session):
    fault = {"action": "drop", "paths": GENERATE, "after": 2, "tokens": 3}
    (model,) = session(parallel=1, faults=[fault]).measure([MODEL])
    assert model["levels"][0]["answered"] == 0
    assert model["levels"][0]["failed"] == 1


def test_an_answer_that_the_server_cuts_short_counts_with_the_tokens_that_came(session):
    fault = {"action": "cut_short", "paths": GENERATE, "after": 3, "tokens": 3}
    workload = Workload((8,), (8,), requests_per_client=3)
    (model,) = session(parallel=1, workload=workload, faults=[fault]).measure([MODEL])
    (level,) = model["levels"]
    assert model["problems"] == []
    assert (level["answered"], level["failed"], level["cut_short"]) == (3, 0, 2)
    assert level["output_tokens"] == 8 + 3 + 3
    assert level["latency_seconds"] is not None
    assert level["request_tokens_per_second_by_server"]["p50"] > 0  # of the whole one


def test_an_error_in_place_of_an_answer_is_shown(session):
    fault = {"action": "fail", "paths": GENERATE, "status": 500, "error": "something is wrong", "after": 2}
    (model,) = session(parallel=1, faults=[fault]).measure([MODEL])
    assert "something is wrong" in model["problems"][0]


def test_a_full_queue_is_counted_and_does_not_end_the_measurement(session):
    fault = {"action": "busy_above", "in_flight": 1}
    # An answer takes so long that the other client asks meanwhile, however busy the machine is.
    (model,) = session(parallel=2, concurrency=[2], faults=[fault], time_scale=1).measure([MODEL])
    (level,) = model["levels"]
    assert level["failed"] == 0
    assert level["busy"] >= 1
    assert level["answered"] + level["busy"] == level["requests"] == 4


def test_a_model_that_cannot_be_loaded_is_not_measured_and_the_next_one_is(session):
    found = session(parallel=1).measure(["missing:1b", MODEL])
    assert found[0]["levels"] == []
    assert "not found" in found[0]["problems"][0]
    assert found[1]["problems"] == []


def test_a_runner_with_other_slots_is_a_problem(session):
    (model,) = session(parallel=2, num_parallel=1).measure([MODEL])
    assert model["problems"] == ["its runner has 1 slots, expected 2"]


def test_the_larger_reading_of_the_memory_counts(session):
    readings = iter([RunnerMemory(10, None, 20, 1), RunnerMemory(None, {"total_bytes": 5}, 15, None)])
    (model,) = session(parallel=1, see_memory=lambda _model: next(readings)).measure([MODEL])
    assert model["memory"] == {
        "reported_bytes": 10,
        "logged": {"total_bytes": 5},
        "measured_bytes": 20,
        "num_parallel": 1,
    }


def test_a_server_that_serves_others_is_refused_unless_told_otherwise(session, monkeypatch):
    monkeypatch.setattr(_session, "IDLE_WAIT_S", 0.3)
    with pytest.raises(ServesOthers, match="two clients"):
        session(see=lambda: "two clients").measure([MODEL])
    (model,) = session(parallel=1, see=lambda: "two clients", may_disturb=True).measure([MODEL])
    assert model["problems"] == []


def test_somebody_s_short_request_is_waited_for(session):
    seen = iter(["a health check"])
    (model,) = session(parallel=1, see=lambda: next(seen, None)).measure([MODEL])
    assert model["problems"] == []


def test_a_load_that_the_time_for_the_whole_cuts_short_is_no_fault_of_the_model(session):
    with pytest.raises(Stopped, match="time for the whole measurement is up"):
        session(seconds=1.0, load_seconds=3.0).measure([MODEL])


def test_the_time_for_the_whole_ends_it_and_leaves_nothing_behind(session):
    workload = Workload((8,), (100_000,), requests_per_client=1, request_timeout_s=60)
    one = session(parallel=2, concurrency=[2], workload=workload, warm_up_requests=0, seconds=1.0)
    began = time.monotonic()
    with pytest.raises(Stopped, match="time for the whole measurement is up"):
        one.measure([MODEL])
    assert time.monotonic() - began < 10
    assert_nothing_is_left(one)


def test_an_interruption_ends_it_and_leaves_nothing_behind(session):
    workload = Workload((8,), (100_000,), requests_per_client=1, request_timeout_s=60)
    one = session(parallel=2, concurrency=[2], workload=workload, warm_up_requests=0)
    threading.Timer(1.0, lambda: one.control.stop("the measurement was interrupted")).start()
    with pytest.raises(Stopped, match="interrupted"):
        one.measure([MODEL])
    assert_nothing_is_left(one)


def test_a_run_whose_asker_is_gone_ends_and_leaves_nothing_behind(session):
    reading, writing = os.pipe()
    workload = Workload((8,), (100_000,), requests_per_client=1, request_timeout_s=60)
    control = Control(time.monotonic() + 60, lambda: has_reader(writing))
    one = session(parallel=2, concurrency=[2], workload=workload, warm_up_requests=0, control=control)
    threading.Timer(1.0, lambda: os.close(reading)).start()
    with pytest.raises(Stopped, match="the run that asked for the measurement is gone"):
        one.measure([MODEL])
    os.close(writing)
    assert_nothing_is_left(one)


def assert_nothing_is_left(session):
    """A model can be unloaded only when no request uses it."""
    session.api.load(MODEL, keep_alive=0)
    deadline = time.monotonic() + 5
    while session.api.loaded() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert session.api.loaded() == []
