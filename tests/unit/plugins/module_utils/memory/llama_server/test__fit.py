# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compute buffers while GPUs take turns, against those that an engine allocated with one layer on the CPU."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from statistics import median

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import Launch
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    runs_flash_elsewhere,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._fit import (
    _dense_bytes,
    _refitted,
    _without_experts,
    placed,
    unit_sums,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import AS_FIRST_READ
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, shape
from hypothesis import given, settings
from hypothesis import strategies as st

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Model:
    """What an engine is told."""

    name: str
    shape: ModelShape


MODEL = Model("gpt-oss:20b", shape("gpt-oss_20b"))
# The engine logs two decimals of a MiB.
ROUNDING_MIB = 0.1


@lru_cache(maxsize=1)
def differences_mib() -> tuple[list[float], list[float]]:
    """How much more is foretold than was allocated: on first GPUs, which compute for the CPU too, and on others."""
    with (DATA / "engine_memory_multi_gpu.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if (row["mode"], row["status"]) == ("ngl=L-1layer", "ok")]
    first: list[float] = []
    others: list[float] = []
    rows.sort(key=lambda row: (row["run_id"], int(row["device"])))
    for _run, devices in groupby(rows, key=lambda row: row["run_id"]):
        run = list(devices)
        row = run[0]
        model = shape(row["model"].replace(":", "_"))
        settings = LoadSettings(int(row["ctx"]), int(row["parallel"]), int(row["ubatch"]), row["kv_type"], row["fa"])
        counts = [int(device["layers"]) + int(device["has_output"]) for device in run]
        bounds = [model.block_count + 1 - sum(counts[position:]) for position in range(len(counts) + 1)]
        assert bounds[0] == 1
        computes = unit_sums(model, settings).computes(bounds)
        off = [ours / MIB - float(device["compute_mib"]) for ours, device in zip(computes, run)]
        first.append(off[0])
        others += off[1:]
    return first, others


def test_the_first_gpus_bound_is_never_below_what_it_took_for_a_layer_on_the_cpu() -> None:
    first, _others = differences_mib()
    assert len(first) == 176
    assert min(first) > 0
    assert median(first) < 128


def test_the_other_gpus_need_what_the_graph_over_these_gpus_gives() -> None:
    _first, others = differences_mib()
    assert len(others) == 352
    assert sum(abs(one) < ROUNDING_MIB for one in others) == 183
    assert min(others) > -52
    assert max(others) < 170


@pytest.mark.parametrize("name", ["llama3.1_8b", "gemma3_4b", "gpt-oss_20b"])
def test_the_bound_is_the_whole_graph_and_for_the_cpu_a_tensor_and_a_layers_cache(name: str) -> None:
    units = unit_sums(shape(name), LoadSettings(8192, 2))
    whole = units.alone.gpus[0].compute_bytes
    without, with_cpu = (units.computes_bound(3, with_cpu=one) for one in (False, True))
    assert without == (whole,) * 3
    assert with_cpu[1:] == without[1:]
    model = shape(name)
    largest_cache = max(
        units.kv_cache(index, index + 1).total_bytes for index in range(model.block_count)
    )
    largest_layer = max(layer.weights_bytes for layer in model.layers)
    assert largest_cache < with_cpu[0] - whole < largest_cache + largest_layer


@pytest.mark.parametrize("name", ["llama3.1_8b", "gemma3_4b", "qwen3.5_9b"])
def test_all_units_together_keep_what_the_model_keeps_alone(name: str) -> None:
    units = unit_sums(shape(name), LoadSettings(8192, 2))
    assert units.count == shape(name).block_count + 1
    assert units.kv_cache(0, units.count) == units.alone.gpus[0].kv_cache
    assert units.weights(0, units.count) == units.alone.gpus[0].weights_bytes
    assert (units.weights(7, 7), units.total(7, 7, 1 << 30)) == (0, 0)


UNITS = {name: unit_sums(shape(name), LoadSettings(4096, 1)) for name in ("llama3.1_8b", "gpt-oss_20b", "gemma3_4b")}
ROOMS = st.lists(st.integers(0, 16 * 1024), min_size=1, max_size=4).map(lambda sizes: [size * MIB for size in sizes])


@settings(max_examples=60)
@given(st.sampled_from(["llama3.1_8b", "gemma3_4b"]), ROOMS)
def test_the_last_gpus_are_filled_first_and_to_the_last_layer_that_fits(name: str, room: list[int]) -> None:
    units = UNITS[name]
    bounds, is_whole = _refitted(units, room, has_experts=False)
    assert len(bounds) == len(room) + 1
    assert bounds == sorted(bounds)
    assert bounds[-1] == units.count
    assert is_whole is (bounds[0] == 0)
    whole, with_cpu = (units.computes_bound(len(room), with_cpu=one) for one in (False, True))
    for position, most in enumerate(room):
        first, last = bounds[position : position + 2]
        if first:
            assert units.total(first, last, with_cpu[position]) <= most
            assert units.total(first - 1, last, with_cpu[position]) > most
        elif last:
            assert units.total(0, last, min(whole[position], with_cpu[position])) <= most


@settings(max_examples=60)
@given(ROOMS)
def test_experts_are_whole_only_where_each_gpu_has_room_for_its_layers(room: list[int]) -> None:
    units = UNITS["gpt-oss_20b"]
    bounds, is_whole = _refitted(units, room, has_experts=True)
    computes = units.computes_bound(len(room), with_cpu=False)
    if is_whole:
        for first, last, compute, most in zip(bounds, bounds[1:], computes, room):
            assert units.total(first, last, compute) <= most
    assert bounds[-1] == units.count
    assert is_whole is (bounds[0] == 0)


@pytest.mark.parametrize(("missing", "bounds"), [(0, [0, 7, 25]), (1, [0, 6, 25])])
def test_the_first_gpu_of_experts_is_filled_to_the_byte(missing: int, bounds: list[int]) -> None:
    units = UNITS["gpt-oss_20b"]
    first, second = units.computes_bound(2, with_cpu=False)
    room = [units.total(0, 7, first) - missing, units.total(6, 25, second)]
    assert _refitted(units, room, has_experts=True) == (bounds, True)


@pytest.mark.parametrize(("missing", "found"), [(0, ([0, 7, 25], True)), (1, ([1, 7, 25], False))])
def test_where_experts_do_not_all_fit_the_last_gpu_is_filled_first(missing: int, found: tuple[list[int], bool]) -> None:
    units = UNITS["gpt-oss_20b"]
    whole, with_cpu = (units.computes_bound(2, with_cpu=one) for one in (False, True))
    # On the second GPU one layer less than the first leaves.
    room = [units.total(0, 7, whole[0]) - missing, units.total(7, 25, with_cpu[1])]
    bounds, is_whole = _refitted(units, room, has_experts=missing == 1)
    assert is_whole is found[1]
    assert bounds[1:] == found[0][1:]
    assert (bounds[0] > 0) is (not is_whole)


def test_the_dense_parts_of_a_mixture_are_all_but_its_experts_own_tensors() -> None:
    units, model = UNITS["gpt-oss_20b"], shape("gpt-oss_20b")
    # Weights of a layer are shared out by the numbers of elements.
    share = 0
    for layer in model.layers:
        elements = {name: math.prod(lengths) for name, lengths in model.forms[layer.form]}
        of_experts = elements["ffn_gate_exps.weight"] + elements["ffn_up_exps.weight"] + elements["ffn_down_exps.weight"]
        of_experts += sum(count for name, count in elements.items() if name.endswith("_exps.bias"))
        share += layer.weights_bytes * of_experts // sum(elements.values())
    assert _dense_bytes(units) == units.alone.gpus[0].buffers_bytes - share
    dense = UNITS["llama3.1_8b"]
    assert _dense_bytes(dense) == dense.alone.gpus[0].buffers_bytes


@pytest.mark.parametrize(("missing", "keeps_layers"), [(0, True), (1, False)])
def test_layers_stay_on_gpus_where_the_dense_parts_fit_to_the_byte(missing: int, keeps_layers: bool) -> None:
    units = UNITS["gpt-oss_20b"]
    free = _dense_bytes(units) + GIB - missing
    launch = Launch(4096, 1, 512, "f16", "auto", -1, True, (GIB,), False, "0.33.0")
    load = placed(MODEL, launch, units, (units.alone.gpus[0].compute_bytes,), (free,))
    assert (load.memory.gpu_layers == units.count) is keeps_layers
    assert load.spilled


def test_experts_fill_what_is_left_of_each_gpu_and_none_that_is_full() -> None:
    units = UNITS["gpt-oss_20b"]
    for room in ([6 * GIB, 3 * GIB], [5 * GIB, -GIB, 4 * GIB]):
        gpus = _without_experts(units, room)
        assert [gpu.total_bytes for gpu in gpus] == [max(most, 0) for most in room]
        assert sum(gpu.layers for gpu in gpus) == units.count


def test_the_largest_tensor_of_a_layer_is_copied_to_compute_for_the_cpu() -> None:
    plain = shape("llama3.1_8b")
    form = (("a.weight", (30, 10)), ("b.weight", (10, 10)), ("c.bias", (100,)))
    layers = tuple(replace(layer, form=0, weights_bytes=5000 + index) for index, layer in enumerate(plain.layers))
    model = replace(plain, forms=(form, ()), layers=layers, largest_tensor_bytes=0)
    # 300 of 500 elements; and one layer's cache of 8 KV heads of 128.
    cache_bytes = 2 * 2 * 1024 * 4096
    assert unit_sums(model, LoadSettings(4096, 1)).copied_bytes == 5031 * 300 // 500 + cache_bytes


def test_without_a_layer_the_first_gpu_still_computes_for_the_cpu() -> None:
    units = unit_sums(shape("llama3.1_8b"), LoadSettings(4096, 1))
    bounds = [20, 20, 33]
    first, second = units.on_gpus(bounds, units.computes(bounds))
    assert (first.layers, first.weights_bytes, first.kv_cache.total_bytes) == (0, 0, 0)
    assert first.compute_bytes == units.computes_bound(1, with_cpu=True)[0]
    assert second.layers == 13
    assert (first.pool_bytes, second.pool_bytes) == (0, units.pool_bytes)
    assert units.pool_bytes == units.alone.gpus[0].pool_bytes > 0
    first, _second = units.on_gpus([0, 0, 33], units.computes([0, 0, 33]))
    assert first.total_bytes == 0


def test_what_the_first_gpu_is_handed_is_the_largest_tensor_whatever_its_type() -> None:
    plain = shape("llama3.1_8b")
    # ffn_down of some layers is of Q6_K, and most other tensors of Q4_K.
    assert plain.largest_tensor_bytes == 14336 * 4096 * 210 // 256
    untold = replace(plain, name="untold", largest_tensor_bytes=0)
    # Keys and values of 8 heads of 128 for 4096 tokens beside it; more of them where they are quantised.
    cache = 2 * 1024 * 4096
    halves, quantised = LoadSettings(4096, 1), LoadSettings(4096, 1, kv_cache_type="q8_0")
    assert unit_sums(plain, halves).copied_bytes == plain.largest_tensor_bytes + 2 * cache
    assert unit_sums(plain, quantised).copied_bytes == plain.largest_tensor_bytes + 1.5 * cache * 34 // 32
    assert unit_sums(untold, halves).copied_bytes < unit_sums(plain, halves).copied_bytes


# MiB of caches, states and compute buffer on the GPU that has all units from this one on, the others on the CPU (v0.5.0).
@pytest.mark.parametrize(("first", "loses", "held_mib"), [(6, True, 381.1689), (7, False, 158.9941)])
def test_an_attention_layer_before_the_first_recurrent_one_on_a_gpu_costs_flash_attention(
    first: int, loses: bool, held_mib: float
) -> None:
    # granite4:micro-h has attention in layers 5, 15, 25 and 35.
    model, settings = shape("granite4_micro-h"), LoadSettings(4096, 1, build=parse_build("v0.5.0"))
    units = unit_sums(model, settings)
    assert units.loses_flash(first) is loses
    (gpu,) = units.on_gpus([first, 41], units.computes([first, 41]))
    held = (gpu.kv_cache.total_bytes + gpu.compute_bytes) / MIB
    assert held_mib < held < held_mib + 64
    # The copy of 40 heads' scores in half precision.
    assert (gpu.pool_bytes > 2 * 40 * 4096 * 512) is loses


def test_where_flash_attention_is_not_left_to_the_engine_it_stays() -> None:
    model = shape("granite4_micro-h")
    for fixed in (LoadSettings(4096, 1, flash_attention="on"), LoadSettings(4096, 1, kv_cache_type="q8_0")):
        assert not unit_sums(model, fixed).loses_flash(6)
    assert not unit_sums(model, LoadSettings(4096, 1)).loses_flash(0)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("granite4_micro-h", [5, 15, 25, 35]),
        # Experts, or a norm, are made before the next layer reads its states; others have none.
        ("granite4_tiny-h", []),
        ("qwen3.5_9b", []),
        ("nemotron-3-nano_30b", []),
        ("llama3.1_8b", []),
    ],
)
def test_after_which_layers_it_is_lost(name: str, layers: list[int]) -> None:
    assert runs_flash_elsewhere(shape(name), AS_FIRST_READ) == tuple((layer, layer + 1) for layer in layers)
