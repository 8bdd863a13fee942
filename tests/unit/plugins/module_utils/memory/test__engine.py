# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens when the engine starts with a model."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import GpuMemory, KvCache
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import EngineLoad, Launch
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._fit import unit_sums
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._projector import (
    projector_compute,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerModel,
    scheduler_model,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import shape
from hypothesis import given, settings
from hypothesis import strategies as st

GIB = 1 << 30
MIB = 1 << 20
ENGINE = MemoryEngine()


@lru_cache(maxsize=None)
def model(name: str) -> SchedulerModel:
    return scheduler_model(shape(name))


def launch(gpus: int = 1, **changes: object) -> Launch:
    plain = Launch(
        context_length=4096,
        parallel=1,
        batch=512,
        kv_cache_type="f16",
        flash_attention="auto",
        num_gpu=-1,
        fit=True,
        fit_targets_bytes=(GIB,) * gpus,
        projector_on_gpu=False,
        version="0.33.0",
    )
    return replace(plain, **changes)


def started(name: str, free_gib: list[float], **changes: object) -> EngineLoad:
    free = tuple(int(one * GIB) for one in free_gib)
    return ENGINE.start(model(name), launch(len(free), **changes), free)


def test_a_model_that_leaves_the_margin_lies_wholly_on_the_gpu() -> None:
    load = started("llama3.1_8b", [12])
    alone = estimate(model("llama3.1_8b").shape, LoadSettings(4096, 1))
    assert load.used_bytes == load.logged_bytes == (alone.gpus[0].buffers_bytes,)
    assert not load.spilled
    assert load.memory.gpu_layers == load.layers == 33


def test_the_sentences_have_their_numbers_in_mib() -> None:
    whole = started("llama3.1_8b", [12])
    (used,) = whole.used_bytes
    needed = used // MIB
    assert whole.explanation == (f"It takes {needed} MiB and leaves {(12 * GIB - used) // MIB} MiB free.",)
    assert started("llama3.1_8b", [4]).explanation == (
        f"It needs {needed} of 4096 MiB free and is to leave 1024 MiB, so the engine moves layers to the CPU.",
    )
    assert started("llama3.1_8b", [2], fit=False).failure == (
        f"The engine runs out of GPU memory: llama3.1:8b needs {needed} MiB, 2048 MiB are free."
    )


def test_the_margin_decides_to_the_byte() -> None:
    needed = started("llama3.1_8b", [80]).used_bytes[0] + GIB
    fits, spills = (ENGINE.start(model("llama3.1_8b"), launch(), (needed - missing,)) for missing in (0, 1))
    assert not fits.spilled
    assert spills.spilled
    assert spills.memory.gpu_layers < spills.layers
    assert "moves layers to the CPU" in spills.explanation[0]


def test_the_recurrent_state_counts_twice_while_fit_looks() -> None:
    shape = model("qwen3.5_9b").shape
    state = estimate(shape, LoadSettings(4096, 1)).gpus[0].kv_cache.recurrent_bytes
    needed = started("qwen3.5_9b", [80]).used_bytes[0] + GIB + state
    assert state > 0
    assert not ENGINE.start(model("qwen3.5_9b"), launch(), (needed,)).spilled
    assert ENGINE.start(model("qwen3.5_9b"), launch(), (needed - 1,)).spilled


def test_ollama_does_not_see_the_full_attention_cache_of_a_sliding_window_model() -> None:
    load = started("gemma3_4b", [24])
    cache = estimate(model("gemma3_4b").shape, LoadSettings(4096, 1)).gpus[0].kv_cache
    assert cache.full_attention_bytes > 0
    assert load.used_bytes[0] - load.logged_bytes[0] == cache.full_attention_bytes


def test_a_mixture_of_experts_fills_the_gpu_and_keeps_its_layers_there() -> None:
    load = started("gpt-oss_20b", [12], context_length=8192, batch=1024)
    assert load.spilled
    assert load.memory.gpu_layers == load.layers
    assert load.used_bytes == (11 * GIB,)
    assert load.logged_bytes[0] < load.used_bytes[0]


def test_a_mixture_of_experts_loses_layers_where_not_even_its_dense_parts_fit() -> None:
    load = started("gpt-oss_20b", [1.1])
    assert load.spilled
    assert load.memory.gpu_layers == 0


@pytest.mark.parametrize(("free_gib", "keeps_layers"), [(2.6, False), (3.0, True)])
def test_whether_it_keeps_its_layers_is_decided_by_its_dense_parts(free_gib: float, keeps_layers: bool) -> None:
    load = started("gpt-oss_20b", [free_gib])
    assert (load.memory.gpu_layers == load.layers) == keeps_layers


def test_a_mixture_of_experts_shares_its_layers_out_over_several_gpus() -> None:
    load = started("gpt-oss_20b", [6, 4])
    first, second = load.memory.gpus
    assert first.layers > second.layers > 0
    assert first.layers + second.layers == load.layers
    assert (first.total_bytes, second.total_bytes) == (5 * GIB, 3 * GIB)
    units = unit_sums(model("gpt-oss_20b").shape, LoadSettings(4096, 1))
    assert (first.compute_bytes, second.compute_bytes) == units.computes_bound(2, with_cpu=True)


def test_the_output_of_a_mixture_of_experts_stays_on_the_last_gpu() -> None:
    load = started("gpt-oss_20b", [24, 2.5])
    assert "places its layers anew" in load.explanation[0]
    assert [gpu.layers for gpu in load.memory.gpus] == [24, 1]


def test_only_as_many_layers_go_to_the_cpu_as_must() -> None:
    units = unit_sums(model("llama3.1_8b").shape, LoadSettings(4096, 1))
    (compute,) = units.computes_bound(1, with_cpu=True)
    room = units.total(1, units.count, compute)
    for missing, on_cpu in ((0, 1), (1, 2)):
        load = ENGINE.start(model("llama3.1_8b"), launch(), (room + GIB - missing,))
        assert load.memory.host.layers == on_cpu


def test_every_layer_lies_on_a_gpu_or_on_the_cpu_and_what_each_gpu_needs_on_each() -> None:
    shape = model("llama3.1_8b").shape
    assert shape.per_device_bytes > 0
    (whole,) = estimate(shape, LoadSettings(4096, 1)).gpus
    load = started("llama3.1_8b", [4, 3])
    gpus, host = load.memory.gpus, load.memory.host
    assert load.spilled
    assert sum(gpu.layers for gpu in gpus) + host.layers == whole.layers
    held = sum(gpu.weights_bytes for gpu in gpus) + host.weights_bytes
    assert held == whole.weights_bytes + shape.per_device_bytes
    assert sum((gpu.kv_cache for gpu in gpus), host.kv_cache) == whole.kv_cache


def test_without_gpus_everything_lies_on_the_cpu() -> None:
    for load in (started("llama3.1_8b", []), started("llama3.1_8b", [24], num_gpu=0)):
        assert load.spilled
        assert load.memory.gpu_layers == 0
        assert sum(load.used_bytes) == 0


def test_a_number_of_layers_is_kept_as_asked() -> None:
    load = started("llama3.1_8b", [24], num_gpu=20)
    assert (load.memory.gpu_layers, load.layers, load.spilled) == (20, 33, True)
    assert load.used_bytes < started("llama3.1_8b", [24]).used_bytes


def test_several_gpus_share_by_their_free_memory() -> None:
    load = started("qwen2.5_32b", [24, 12])
    assert not load.spilled
    assert load.used_bytes[0] > load.used_bytes[1] > 0


def test_what_breaks_the_margin_of_one_gpu_is_placed_anew() -> None:
    load = started("qwen2.5_32b", [16, 6])
    assert not load.spilled
    assert "places its layers anew" in load.explanation[0]


@pytest.mark.parametrize(("free_gib", "is_as_usual"), [([24, 12], True), ([16, 6], False)])
def test_details_are_told_of_what_does_not_lie_as_usual_whoever_asked_before(
    free_gib: list[float], is_as_usual: bool
) -> None:
    brief, full = (started("qwen2.5_32b", free_gib, details=details) for details in (False, True))
    assert (brief == full) is is_as_usual
    assert full == started("qwen2.5_32b", free_gib)
    free = tuple(int(one * GIB) for one in free_gib)
    assert full == MemoryEngine().start(model("qwen2.5_32b"), launch(2), free)


def test_mixtures_of_experts_are_placed_anew_from_the_first_gpu_on() -> None:
    load = started("gpt-oss_20b", [1.05, 11.6, 11.6])
    assert not load.spilled
    assert load.used_bytes[0] == 0
    assert load.used_bytes[1] > load.used_bytes[2] > 0


def test_several_gpus_that_are_too_small_together_spill() -> None:
    load = started("qwen2.5_32b", [8, 8])
    assert load.spilled
    assert all(one <= 7 * GIB for one in load.used_bytes)


def test_gpus_without_any_free_memory_get_nothing() -> None:
    load = started("llama3.1_8b", [0, 0])
    assert load.spilled
    assert load.used_bytes == (0, 0)


def test_without_fit_the_engine_runs_out_of_memory() -> None:
    load = started("llama3.1_8b", [4], fit=False)
    assert load.is_out_of_memory
    assert "runs out of GPU memory" in load.failure
    assert not started("llama3.1_8b", [5.5], fit=False).failure


def test_what_the_engine_refuses_fails_without_a_retry() -> None:
    load = started("llama3.1_8b", [24], kv_cache_type="q8_0", flash_attention="off")
    assert load.failure.startswith("The engine refuses llama3.1:8b")
    assert not load.is_out_of_memory


def test_a_model_without_a_shape_cannot_be_foretold() -> None:
    with pytest.raises(ValueError, match="without the model's shape"):
        ENGINE.start(replace(model("llama3.1_8b"), shape=None), launch(), (24 * GIB,))


def test_a_projector_on_the_gpu_takes_its_memory_there() -> None:
    shape = replace(model("gemma3_4b").shape, projector_bytes=812 * MIB)
    with_projector = replace(model("gemma3_4b"), shape=shape, projector_bytes=812 * MIB)
    plain = ENGINE.start(with_projector, launch(), (24 * GIB,))
    on_gpu = ENGINE.start(with_projector, launch(projector_on_gpu=True), (24 * GIB,))
    compute = projector_compute(shape)
    assert on_gpu.used_bytes[0] - plain.used_bytes[0] == 812 * MIB + compute.most_bytes
    assert on_gpu.logged_bytes[0] - plain.logged_bytes[0] == compute.reserved_bytes
    spilled = ENGINE.start(with_projector, launch(projector_on_gpu=True), (3 * GIB,))
    assert spilled.spilled
    assert spilled.whole_bytes == on_gpu.whole_bytes == on_gpu.used_bytes[0]


def test_memory_to_the_last_byte_is_enough_without_fit() -> None:
    needed = started("llama3.1_8b", [80]).used_bytes[0]
    for missing, failure in ((0, ""), (1, "runs out of GPU memory")):
        load = ENGINE.start(model("llama3.1_8b"), launch(fit=False), (needed - missing,))
        assert failure in load.failure
        assert load.is_out_of_memory is bool(failure)
        assert load.layers == 33


def test_with_all_of_it_on_gpus_system_memory_has_no_layer_left() -> None:
    for load in (started("llama3.1_8b", [12]), started("llama3.1_8b", [6, 6])):
        host = load.memory.host
        assert (host.layers, host.weights_bytes, host.kv_cache) == (0, 0, KvCache())


def test_one_layer_that_is_asked_for_is_the_output() -> None:
    load = started("llama3.1_8b", [24], num_gpu=1)
    assert (load.memory.gpu_layers, load.memory.host.layers, load.spilled) == (1, 32, True)
    assert load.memory.gpus[0].kv_cache == KvCache()


@pytest.mark.parametrize("num_gpu", [33, 34, 999, -1])
def test_as_many_layers_as_there_are_or_more_are_all(num_gpu: int) -> None:
    assert started("llama3.1_8b", [24], num_gpu=num_gpu) == started("llama3.1_8b", [24])


def test_layers_that_are_asked_for_are_the_last_ones_and_are_not_moved() -> None:
    load = started("llama3.1_8b", [5, 5], num_gpu=20)
    units = unit_sums(model("llama3.1_8b").shape, LoadSettings(4096, 1))
    assert [gpu.weights_bytes for gpu in load.memory.gpus] == [units.weights(13, 23), units.weights(23, 33)]
    assert load.memory.gpus[0].compute_bytes == units.computes_bound(1, with_cpu=True)[0]
    # That it does not leave what it should is not looked at.
    assert started("llama3.1_8b", [3.5], num_gpu=20).memory.gpu_layers == 20


@pytest.mark.parametrize("free_gib", [[], [24], [24, 24]])
def test_on_the_cpu_every_gpu_is_told_to_hold_nothing(free_gib: list[float]) -> None:
    load = started("llama3.1_8b", free_gib, num_gpu=0)
    assert load.memory.gpus == (GpuMemory(),) * len(free_gib)
    assert load.logged_bytes == (0,) * len(free_gib)
    assert load.explanation == ("All of it lies on the CPU.",)
    assert (load.layers, load.spilled, load.whole_bytes) == (33, True, 0)
    assert load.memory.host.layers == 33
    assert (load.memory.basis, load.memory.note) == ("exact", "")


def test_on_the_cpu_an_older_ollama_is_an_estimate_that_says_so() -> None:
    load = started("llama3.1_8b", [], version="0.24.0")
    assert load.memory.basis == "estimate"
    assert load.memory.note == "on a CPU an Ollama before 0.30 is taken for one of 0.30"
    assert load.memory.host == started("llama3.1_8b", []).memory.host


def test_what_an_older_ollama_does_not_understand_it_leaves_as_it_is() -> None:
    asked = launch(kv_cache_type="q5_1", batch=0, version="0.24.0")
    plain = launch(kv_cache_type="f16", batch=1, version="0.24.0")
    llama = model("llama3.1_8b")
    assert ENGINE.believed(llama, asked) == MemoryEngine().believed(llama, plain)
    assert ENGINE.believed(llama, replace(plain, batch=2)) != ENGINE.believed(llama, plain)
    quantised = replace(plain, kv_cache_type="q8_0", flash_attention="on")
    assert ENGINE.believed(llama, quantised) != ENGINE.believed(llama, replace(quantised, kv_cache_type="f16"))
    assert ENGINE.start(llama, asked, ()).memory == ENGINE.start(llama, plain, ()).memory


def test_what_is_refused_still_tells_how_many_layers_there_are() -> None:
    load = started("llama3.1_8b", [24], kv_cache_type="q5_1")
    assert load.failure == "The engine refuses llama3.1:8b: kv_cache_type is q5_1, expected f16, q8_0, q4_0."
    assert (load.layers, load.used_bytes) == (33, ())
    without_shape = replace(model("llama3.1_8b"), shape=None)
    with pytest.raises(ValueError, match="without the model's shape"):
        ENGINE.believed(without_shape, launch())


def test_a_gpu_without_a_buffer_still_counts_the_projectors_from_its_free_memory() -> None:
    """What is logged is cut off at what is free, as nothing can take more."""
    shape = replace(model("gemma3_4b").shape, projector_bytes=812 * MIB)
    with_projector = replace(model("gemma3_4b"), shape=shape, projector_bytes=812 * MIB)
    load = ENGINE.start(with_projector, launch(2, projector_on_gpu=True), (24 * GIB, 24 * GIB))
    first, second = load.memory.gpus
    assert (first.projector_bytes, second.projector_bytes) == (812 * MIB, 0)
    assert (first.projector_compute_bytes > 0, second.projector_compute_bytes) == (True, 0)
    tiny = ENGINE.start(with_projector, launch(projector_on_gpu=True), (64 * MIB,))
    assert tiny.logged_bytes == (64 * MIB,)


@settings(deadline=None)
@given(
    st.sampled_from(["llama3.2_1b", "gemma3_4b", "gpt-oss_20b", "qwen3.5_9b"]),
    st.lists(st.integers(0, 24 * 1024), min_size=1, max_size=4),
    st.integers(1, 8),
)
def test_nothing_takes_more_than_is_free_and_only_what_fits_stays_whole(
    name: str, free_mib: list[int], parallel: int
) -> None:
    free = tuple(one * MIB for one in free_mib)
    load = ENGINE.start(model(name), launch(len(free), parallel=parallel), free)
    assert all(0 <= used <= most for used, most in zip(load.used_bytes, free))
    assert all(logged >= 0 for logged in load.logged_bytes)
    more = ENGINE.start(model(name), launch(len(free), parallel=parallel), tuple(one * 2 for one in free))
    assert load.spilled >= more.spilled or len(free) > 1
