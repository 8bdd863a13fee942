# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bound on what any combination takes, held against the simulation of every order."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning import _bounds
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import host_from_facts
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._simulation import Simulation
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import scheduler_model
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.planning.simulated import (
    model,
    simulation,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MIB = 1 << 20
SMALL = ("llama3.2:1b", "gemma3:4b", "llama3.1:8b", "qwen3:4b", "mxbai-embed-large")


def judge_of(sizes_mib, shapes, **values):
    facts = {
        "system_memory_total_bytes": 1 << 38,
        "devices": [{"memory_total_bytes": size * MIB, "compute_capability": "8.6"} for size in sizes_mib],
    }
    host = host_from_facts(
        facts, on_gpu_fault="fail", environment={}, managed_environment={}, rules=rules("0.33.0")
    )
    models = [scheduler_model(shape) for shape in shapes]
    given = {"version": "0.33.0", "environment": {}, "headroom_bytes": 0, **values}
    return Judge(Simulation(host, models, **given))


def is_safe_in_every_order(judge, models, candidate):
    for order in permutations(models):
        servers = [judge.server(candidate)]
        for one in order:
            results = [result for server in servers for result in server.possible_loads(one)]
            if any(outcome.evicted or outcome.spilled or outcome.failure for _after, outcome in results):
                return False
            servers = [after for after, _outcome in results]
    return True


@given(
    st.lists(st.integers(6 * 1024, 40 * 1024), min_size=1, max_size=3),
    st.integers(1, 4),
    st.sampled_from((4096, 8192, 32768)),
)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_combination_that_is_called_safe_is_safe_in_every_order(installed, sizes, parallel, context):
    judge = judge_of(sizes, [installed(name) for name in SMALL])
    candidate = Candidate(parallel, context)
    loaded = judge.most_loaded(judge.simulation.models, candidate, len(SMALL))
    for chosen in combinations(judge.simulation.models, min(loaded, 3)):
        assert is_safe_in_every_order(judge, chosen, candidate)


def test_a_host_without_a_gpu_loads_as_many_as_fit_into_its_memory_however_many_are_installed(installed):
    candidate = Candidate(1, 4096)
    loaded = []
    for count in (1, 2, 3, 4, 5):
        judge = judge_of([], [installed(name) for name in SMALL[:count]])
        loaded.append(judge.most_loaded(judge.simulation.models, candidate, count))
    assert loaded == [1, 2, 3, 4, 5]


def test_what_is_hopeless_is_never_safe(installed):
    for size in (4096, 8192, 12288, 24576):
        judge = judge_of([size], [installed("llama3.1:8b")])
        for context in (4096, 16384, 65536):
            candidate = Candidate(4, context)
            if judge.is_hopeless(judge.simulation.models, candidate, 1):
                assert not judge.alone(judge.simulation.models[0], candidate).is_safe


def test_more_context_and_more_requests_are_no_less_hopeless(installed):
    judge = judge_of([24576], [installed("llama3.1:8b"), installed("gemma3:4b")])
    hopeless = [
        [
            judge.is_hopeless(judge.simulation.models, Candidate(parallel, context), 2)
            for context in (4096, 32768, 262144)
        ]
        for parallel in (1, 4, 16)
    ]
    assert all(row == sorted(row) for row in hopeless)
    assert all(list(column) == sorted(column) for column in zip(*hopeless))
    assert hopeless[0][0] is False
    assert hopeless[-1][-1] is True


def test_what_models_take_at_the_least_is_found_once_for_all_hosts(installed, monkeypatch):
    found = []
    least = _bounds.LeastMemory
    monkeypatch.setattr(_bounds, "LeastMemory", lambda shape: found.append(shape.name) or least(shape))
    judge = judge_of([8192], [installed(name) for name in SMALL])
    models, candidate = judge.simulation.models, Candidate(1, 4096)
    for one in (judge, judge.on(judge.host.with_memory_changed(-MIB)), judge):
        assert not one.is_hopeless(models, candidate, 1)
    assert sorted(found) == sorted(SMALL)


@pytest.mark.parametrize(
    ("sizes", "headroom_mib", "reason"),
    [
        ([16384], 0, "with what is to stay free, and GPU 0 has"),
        ([22528], 0, "Ollama predicts"),
        ([65536, 65536], 0, "5 models are more than the 2 GPUs"),
        ([12288] * 4 + [2048], 0, "and GPU 4 has 2.0 GiB"),
        ([9216], 2048, "leaves"),
    ],
)
def test_what_is_not_safe_has_a_reason(installed, sizes, headroom_mib, reason):
    judge = judge_of(sizes, [installed(name) for name in SMALL], headroom_bytes=headroom_mib * MIB)
    verdict = judge.any_combination(judge.simulation.models, 5, Candidate(4, 4096), says_why=True)
    assert not verdict.is_safe
    assert reason in verdict.reason
    assert not judge.any_order(judge.simulation.models, Candidate(4, 4096)).is_safe


def test_orders_that_were_simulated_have_a_reason_where_one_is_asked_for(installed):
    judge = judge_of([8192], [installed("llama3.1:8b"), installed("gemma3:4b")])
    models, candidate = judge.simulation.models, Candidate(4, 4096)
    for asked in (
        judge.any_combination(models, 2, candidate, says_why=True),
        # Of the orders it is the last one's.
        judge.some_order(models, candidate, says_why=True),
    ):
        assert not asked.is_safe
        assert asked.reason
    for soon in (
        judge.any_combination(models, 2, candidate),
        judge.some_order(models, candidate),
        judge.any_order(models, candidate),
    ):
        assert (soon.is_safe, soon.reason) == (False, "")


def test_a_projector_has_to_lie_on_the_gpu(installed):
    vision = installed("llama3.2:1b", projector_bytes=4096 * MIB, capabilities=("vision",))
    verdict = judge_of([4096], [vision]).alone(scheduler_model(vision), Candidate(1, 4096))
    assert verdict.reason == "the projector of llama3.2:1b lies on the CPU"


def test_no_gpu_is_large_enough_for_what_the_engine_refuses(installed):
    judge = judge_of([24576], [installed("phi4:14b")])
    assert judge.bytes_of_one_gpu(judge.simulation.models, Candidate(4, 4096, "q8_0")) is None


def test_the_smallest_gpu_that_would_do_is_found(installed):
    judge = judge_of([4096], [installed("llama3.1:8b")])
    candidate = Candidate(4, 8192)
    enough = judge.bytes_of_one_gpu(judge.simulation.models, candidate)
    for size, is_safe in ((enough, True), (enough - (1 << 30), False)):
        other = judge_of([size // MIB], [installed("llama3.1:8b")])
        assert other.any_order(other.simulation.models, candidate).is_safe is is_safe


@pytest.mark.parametrize(
    ("needed_gib", "enough_gib"),
    # Beside what the model takes the engine leaves a GiB; of GPUs up to 1024 GiB is thought.
    [(1, 2), (1.1, 3), (9, 10), (1023, 1024), (1024, None)],
)
def test_the_smallest_gpu_is_looked_for_in_steps_of_a_gib(needed_gib, enough_gib):
    one = model("a")
    judge = Judge(simulation([1024], [one], a=int(needed_gib * 1024)))
    enough = judge.bytes_of_one_gpu([one], Candidate(1, 4096))
    assert enough == (None if enough_gib is None else enough_gib << 30)


SIZES = {"a": 1000, "b": 500, "c": 250, "d": 125, "e": 60}
MODELS = [model(name) for name in SIZES]


def sized(gpu_mib, count=5):
    models = MODELS[:count]
    return Judge(simulation([gpu_mib], models, **SIZES)), models


@pytest.mark.parametrize(
    ("gpu_mib", "most", "least", "loaded"),
    [
        # With a margin of 1024, one takes 1000, two 1500, three 1750, four 1875, five 1935.
        (1024 + 1935, 5, 1, 5),
        (1024 + 1934, 5, 1, 4),
        (1024 + 1935, 3, 1, 3),
        (1024 + 1749, 5, 1, 2),
        (1024 + 1000, 5, 1, 1),
        (1024 + 999, 5, 1, 0),
        # Not so many as are asked for at the least.
        (1024 + 1749, 5, 3, 0),
        (1024 + 1750, 5, 3, 3),
        (1024 + 1935, 9, 9, 5),
    ],
)
def test_as_many_are_loaded_as_any_combination_allows(gpu_mib, most, least, loaded):
    judge, models = sized(gpu_mib)
    assert judge.most_loaded(models, Candidate(1, 4096), most, least) == loaded


def test_the_largest_prediction_is_loaded_first_and_of_the_same_the_name_decides():
    models = [model("b"), model("c", 300), model("a")]
    judge = Judge(simulation([9000], models, a=1, b=1, c=1))
    assert [one.name for one in judge.load_order(models, Candidate(1, 4096))] == ["c", "a", "b"]


def test_models_that_are_none_are_safe():
    judge, _models = sized(1024)
    assert judge.any_order([], Candidate(1, 4096)).is_safe


FOUR = [model(name) for name in "abcd"]


@pytest.mark.parametrize(
    ("gpus_mib", "count", "loaded"),
    [
        # The bound knows nothing of more models than GPUs; four in all orders are 64 loads, as many as are simulated.
        ([4000, 4000], 4, 4),
        ([4000, 4000], 5, 2),
    ],
)
def test_few_models_are_simulated_in_every_order_and_of_many_the_bound_decides(gpus_mib, count, loaded):
    models = [model(name) for name in "abcde"[:count]]
    judge = Judge(simulation(gpus_mib, models, **dict.fromkeys("abcde", 100)))
    assert judge.any_order(models, Candidate(1, 4096)).is_safe is (loaded == count)
    assert judge.most_loaded(models, Candidate(1, 4096), count) == loaded


def test_models_that_are_safe_alone_may_not_be_so_together():
    judge, (a, b) = sized(1024 + 1499, 2)
    candidate = Candidate(1, 4096)
    assert judge.alone(a, candidate).is_safe
    assert judge.alone(b, candidate).is_safe
    assert not judge.any_order((a, b), candidate).is_safe
    assert not judge.any_combination((a, b), 2, candidate).is_safe
    assert judge.any_combination((a, b), 1, candidate).is_safe
    # Of the orders the last one that was tried tells why.
    verdict = judge.some_order((a, b), candidate)
    assert not verdict.is_safe
    assert verdict.reason == "a leaves 1.0 GiB of GPU 0 free, and 1.0 GiB are to stay free, when it is loaded after b"


@pytest.mark.parametrize(("others", "order"), [(0, ("large", "small")), (2, ()), (3, None)])
def test_an_order_is_looked_for_among_few_models_only(others, order):
    """Of two GPUs one is too small for the large model; Ollama takes the one with most free memory.

    What Ollama predicts to be larger, which is not what takes more, is the first to be tried first.
    """
    models = [model("large"), model("small", 300), *(model(name) for name in "abc"[:others])]
    judge = Judge(simulation([4000, 3800], models, large=2900, small=2700, a=10, b=10, c=10))
    verdict = judge.some_order(models, Candidate(1, 4096))
    assert verdict.is_safe is (order is not None)
    if order == ("large", "small"):
        assert verdict.order == order
        assert judge.is_safe_in(order, Candidate(1, 4096))
        assert not judge.is_safe_in(("small", "large"), Candidate(1, 4096))
        assert not judge.any_order(models, Candidate(1, 4096)).is_safe


def test_of_many_models_each_is_loaded_alone_whatever_ollama_predicts():
    """Of 65 not every one is simulated beside nothing, and the bound asks for 80 % of a GPU."""
    models = [*(model(str(number)) for number in range(64)), model("g", 3900)]
    judge = Judge(simulation([4000], models, **{one.name: 100 for one in models}))
    assert judge.most_loaded(models, Candidate(1, 4096), 1) == 1


def test_without_gpus_the_system_has_to_hold_all_that_start():
    sizes = {"a": 300, "b": 200, "c": -1}
    a, b, c = map(model, sizes)
    judge = Judge(simulation([], [a, b, c], **sizes))
    assert judge.system_memory_bytes((a, b), Candidate(1, 4096)) == 500 * MIB
    assert judge.system_memory_bytes((a, c), Candidate(1, 4096)) is None
