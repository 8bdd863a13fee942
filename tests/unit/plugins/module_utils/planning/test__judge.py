# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bound on what any combination takes, held against the simulation of every order."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Setting
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import host_from_facts
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._simulation import Simulation
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import scheduler_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MIB = 1 << 20
SMALL = ("llama3.2:1b", "gemma3:4b", "llama3.1:8b", "qwen3:4b", "mxbai-embed-large")


def judge_of(sizes_mib, shapes, **values):
    facts = {
        "system_memory_total_bytes": 1 << 38,
        "devices": [{"memory_total_bytes": size * MIB, "compute_capability": "8.6"} for size in sizes_mib],
    }
    host = host_from_facts(facts, on_gpu_fault="fail", environment={}, managed_environment={})
    models = [scheduler_model(shape) for shape in shapes]
    given = {"version": "0.33.0", "environment": {}, "headroom_bytes": 0, **values}
    return Judge(Simulation(host, models, **given))


def is_safe_in_every_order(judge, models, setting):
    for order in permutations(models):
        servers = [judge.server(setting)]
        for model in order:
            results = [result for server in servers for result in server.possible_loads(model)]
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
    setting = Setting(parallel, context)
    loaded = judge.most_loaded(judge.simulation.models, setting, len(SMALL))
    for chosen in combinations(judge.simulation.models, min(loaded, 3)):
        assert is_safe_in_every_order(judge, chosen, setting)


def test_what_is_hopeless_is_never_safe(installed):
    for size in (4096, 8192, 12288, 24576):
        judge = judge_of([size], [installed("llama3.1:8b")])
        for context in (4096, 16384, 65536):
            setting = Setting(4, context)
            if judge.is_hopeless(judge.simulation.models, setting, 1):
                assert not judge.alone(judge.simulation.models[0], setting).is_safe


def test_more_context_and_more_requests_are_no_less_hopeless(installed):
    judge = judge_of([24576], [installed("llama3.1:8b"), installed("gemma3:4b")])
    hopeless = [
        [
            judge.is_hopeless(judge.simulation.models, Setting(parallel, context), 2)
            for context in (4096, 32768, 262144)
        ]
        for parallel in (1, 4, 16)
    ]
    assert all(row == sorted(row) for row in hopeless)
    assert all(list(column) == sorted(column) for column in zip(*hopeless))
    assert hopeless[0][0] is False
    assert hopeless[-1][-1] is True


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
    verdict = judge.any_order(judge.simulation.models, Setting(4, 4096))
    assert not verdict.is_safe
    assert reason in verdict.reason


def test_a_projector_has_to_lie_on_the_gpu(installed):
    vision = installed("llama3.2:1b", projector_bytes=4096 * MIB, capabilities=("vision",))
    verdict = judge_of([4096], [vision]).alone(scheduler_model(vision), Setting(1, 4096))
    assert verdict.reason == "the projector of llama3.2:1b lies on the CPU"


def test_no_gpu_is_large_enough_for_what_the_engine_refuses(installed):
    judge = judge_of([24576], [installed("phi4:14b")])
    assert judge.bytes_of_one_gpu(judge.simulation.models, Setting(4, 4096, "q8_0")) is None


def test_the_smallest_gpu_that_would_do_is_found(installed):
    judge = judge_of([4096], [installed("llama3.1:8b")])
    setting = Setting(4, 8192)
    enough = judge.bytes_of_one_gpu(judge.simulation.models, setting)
    for size, is_safe in ((enough, True), (enough - (1 << 30), False)):
        other = judge_of([size // MIB], [installed("llama3.1:8b")])
        assert other.any_order(other.simulation.models, setting).is_safe is is_safe
