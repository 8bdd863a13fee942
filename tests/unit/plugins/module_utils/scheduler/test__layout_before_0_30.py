# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Ollama before 0.30 lays a model out on GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import KvCache
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    MINIMUM_GPU_BYTES,
    BelievedMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._layout_before_0_30 import (
    Layout,
    lay_out,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerGpu
from hypothesis import given
from hypothesis import strategies as st

MIB = 1 << 20


def memory(layers: int = 10, layer_mib: int = 100, **changes_mib: int) -> BelievedMemory:
    sizes = {
        "output": 150,
        "beside_output": 50,
        "first_gpu": 0,
        "graph": 300,
        "partial_graph": 400,
        "buffer": 100,
        **changes_mib,
    }
    return BelievedMemory(
        layer_weights_bytes=(layer_mib * MIB,) * layers,
        caches=(KvCache(),) * layers,
        host_bytes=0,
        note="",
        **{f"{name}_bytes": size * MIB for name, size in sizes.items()},
    )


def laid_out(free_mib: list[float], model: BelievedMemory | None = None, **changes: object) -> Layout:
    gpus = [SchedulerGpu(index, 10**12, 0) for index in range(len(free_mib))]
    options = {"num_gpu": -1, "overhead_bytes": 0, "spread": False, "is_go_engine": False, **changes}
    gpus = options.pop("gpus", gpus)
    return lay_out(model or memory(), gpus, [int(one * MIB) for one in free_mib], **options)


def layers_on(layout: Layout, layers: int = 10) -> list[list[int]]:
    """Which layers lie on each GPU, of a model whose layer `n` has 2 to the power of `n` bytes; the output is the last."""
    return [[n for n in range(layers + 1) if gpu.weights_bytes >> n & 1] for gpu in layout.gpus]


def of_powers(model: BelievedMemory) -> BelievedMemory:
    count = len(model.layer_weights_bytes)
    return replace(model, layer_weights_bytes=tuple(1 << n for n in range(count)), output_bytes=1 << count)


# Ten layers of 100, 200 for the output, 100 to spare, a graph of 400 at the most, 457 set aside.
FORMULA_NEEDS = 457 + 100 + 10 * 100 + 200 + 400


@pytest.mark.parametrize(
    ("free_mib", "placement", "layers", "is_whole"),
    [
        ([], (), 0, False),
        ([FORMULA_NEEDS + 1], (0,), 11, True),
        ([FORMULA_NEEDS], (0,), 10, False),
        ([1200], (0,), 2, False),
        ([900], (), 0, False),
        ([3000, 3001], (1,), 11, True),
        ([1700, 1701], (0, 1), 11, True),
        ([1200, 1200], (0, 1), 4, False),
        ([1200, 900, 3000], (2,), 11, True),
    ],
)
def test_the_formula_packs_a_model_on_the_fewest_gpus(
    free_mib: list[int], placement: tuple[int, ...], layers: int, is_whole: bool
) -> None:
    layout = laid_out(free_mib)
    assert (layout.placement, layout.layers, layout.is_whole) == (placement, layers, is_whole)


@pytest.mark.parametrize(
    ("free_mib", "placement", "layers"),
    [([1200, 1300], (1,), 3), ([1300, 1200], (0,), 3), ([1200, 1200], (0,), 2)],
)
def test_of_two_libraries_that_hold_a_part_the_one_that_holds_more_is_taken(
    free_mib: list[int], placement: tuple[int, ...], layers: int
) -> None:
    gpus = [SchedulerGpu(index, 10**12, 0, library) for index, library in enumerate(("CUDA", "ROCm"))]
    layout = laid_out(free_mib, gpus=gpus)
    assert (layout.placement, layout.layers, layout.is_whole) == (placement, layers, False)


def test_a_whole_model_on_one_gpu_takes_the_smaller_graph() -> None:
    assert laid_out([3000]).bytes_each == ((457 + 100 + 1000 + 200 + 300) * MIB,)
    two = laid_out([1700, 1701])
    assert sum(two.bytes_each) == (2 * (457 + 100 + 400) + 1000 + 200) * MIB


@pytest.mark.parametrize(
    ("changes", "compute_mib", "layers"),
    [
        ({"num_gpu": 3}, 400, 3),
        ({"num_gpu": 10}, 300, 10),
        ({"num_gpu": 11}, 300, 11),
        # All but the output.
        ({"free_mib": FORMULA_NEEDS}, 400, 10),
    ],
)
def test_a_part_of_a_model_takes_the_larger_graph(changes: dict[str, int], compute_mib: int, layers: int) -> None:
    layout = laid_out([changes.pop("free_mib", 3000)], **changes)
    (gpu,) = layout.gpus
    assert (gpu.layers, gpu.compute_bytes) == (layers, (100 + compute_mib) * MIB)


@pytest.mark.parametrize(
    ("free_mib", "sizes_mib", "overhead_mib", "layers"),
    [
        # What is set aside, a graph, room for one more layer, and two layers.
        (457 + 400 + 100 + 300, {}, 0, 2),
        (457 + 400 + 100 + 300, {}, 10, 2),
        (457 + 400 + 100 + 300, {"first_gpu": 70}, 0, 2),
        (457 + 500 + 100 + 300, {"graph": 500}, 0, 2),
        (FORMULA_NEEDS, {}, 0, 10),
        (FORMULA_NEEDS, {}, 10, 10),
        (FORMULA_NEEDS, {"first_gpu": 70}, 0, 10),
        (FORMULA_NEEDS, {"buffer": 100, "beside_output": 50}, 0, 10),
    ],
)
def test_the_formula_takes_a_layer_that_leaves_a_byte(
    free_mib: int, sizes_mib: dict[str, int], overhead_mib: int, layers: int
) -> None:
    free_mib += overhead_mib + sizes_mib.get("first_gpu", 0)
    for more_bytes in (0, 1):
        layout = laid_out([free_mib + more_bytes / MIB], memory(**sizes_mib), overhead_bytes=overhead_mib * MIB)
        assert layout.layers == layers + more_bytes


@pytest.mark.parametrize(("overhead_mib", "first_gpu_mib"), [(0, 0), (10, 0), (0, 70)])
def test_the_formula_takes_a_gpu_with_room_for_a_layer_more_to_the_byte(overhead_mib: int, first_gpu_mib: int) -> None:
    model = memory(buffer=200, first_gpu=first_gpu_mib)
    needed = 457 + 400 + 2 * 200 + overhead_mib
    for less_bytes, is_taken in ((0, True), (1, False)):
        free = needed + first_gpu_mib - less_bytes / MIB
        assert bool(laid_out([free], model, overhead_bytes=overhead_mib * MIB).layers) is is_taken
        # The projector needs no room on a second one.
        two = laid_out([1800, needed - less_bytes / MIB], model, overhead_bytes=overhead_mib * MIB)
        assert two.placement == ((0, 1) if is_taken else (0,))


def test_on_several_gpus_the_graph_of_a_part_counts_however_large_that_of_the_whole_is() -> None:
    free_mib = 457 + 400 + 100 + 300 + 1 / MIB
    assert laid_out([free_mib, free_mib], memory(graph=500)).layers == 2 * 3


def test_the_formula_deals_layers_out_in_turn_from_the_last() -> None:
    layout = laid_out([3000, 3000, 3000], of_powers(memory()), spread=True)
    assert layers_on(layout) == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]
    assert [gpu.layers for gpu in laid_out([1500, 1500, 1500]).gpus] == [4, 4, 3]


@pytest.mark.parametrize(
    ("free_mib", "layers", "is_whole"),
    [([1760, 1660], [6, 6], True), ([1760, 1650], [7, 5], True), ([1700, 1650], [6, 5], False)],
)
def test_the_output_goes_to_the_next_gpu_in_turn_or_to_one_before_it(
    free_mib: list[int], layers: list[int], is_whole: bool
) -> None:
    layout = laid_out(free_mib, memory(layers=11))
    assert ([gpu.layers for gpu in layout.gpus], layout.is_whole) == (layers, is_whole)


def test_a_separate_projector_lies_on_the_first_gpu_that_is_filled() -> None:
    layout = laid_out([3000, 3001], memory(first_gpu=150), spread=True)
    # Beside the output lie 50 more.
    assert [gpu.projector_bytes for gpu in layout.gpus] == [0, (150 + 50) * MIB]


@pytest.mark.parametrize("is_go_engine", [False, True])
def test_discrete_gpus_are_filled_before_integrated_ones(is_go_engine: bool) -> None:
    gpus = [SchedulerGpu(index, 10**12, 0, integrated=index == 0) for index in range(3)]
    assert laid_out([9000, 3000, 3001], gpus=gpus, is_go_engine=is_go_engine).placement == (2,)
    assert laid_out([9000, 500, 500], gpus=gpus, is_go_engine=is_go_engine).placement == (0,)


# The own engine fills the last GPU first: ten layers of 100, 200 for the output, a graph of 300, 457 set aside.
OWN_NEEDS = 457 + 1000 + 200 + 300


@pytest.mark.parametrize(
    ("free_mib", "placement", "layers", "is_whole"),
    [
        ([OWN_NEEDS], (0,), 11, True),
        ([OWN_NEEDS - 1], (0,), 10, False),
        ([757 + 250], (0,), 2, False),
        ([700], (), 0, False),
        ([1400, 1500], (0, 1), 11, True),
        ([1000, 3000, 1000], (1,), 11, True),
        ([900, 900], (0, 1), 2, False),
    ],
)
def test_the_own_engine_packs_a_model_by_its_real_sizes(
    free_mib: list[int], placement: tuple[int, ...], layers: int, is_whole: bool
) -> None:
    layout = laid_out(free_mib, is_go_engine=True)
    assert (layout.placement, layout.layers, layout.is_whole) == (placement, layers, is_whole)


@pytest.mark.parametrize("overhead_mib", [0, 10])
def test_the_own_engine_needs_what_a_model_takes_to_the_byte(overhead_mib: int) -> None:
    # A projector in a file of its own is nothing that the engine knows.
    model = memory(first_gpu=150)
    for less_bytes, layers in ((0, 11), (1, 10)):
        free_mib = OWN_NEEDS + overhead_mib - less_bytes / MIB
        layout = laid_out([free_mib], model, overhead_bytes=overhead_mib * MIB, is_go_engine=True)
        assert layout.layers == layers
        assert layout.bytes_each == ((OWN_NEEDS - 200 * less_bytes) * MIB,)


def test_the_own_engine_has_the_last_layers_on_the_last_gpu() -> None:
    two = laid_out([1700, 1700], is_go_engine=True)
    assert [gpu.layers for gpu in two.gpus] == [6, 5]
    of_five = laid_out([3000], of_powers(memory()), num_gpu=5, is_go_engine=True)
    assert layers_on(of_five) == [[6, 7, 8, 9, 10]]


def test_the_own_engine_evens_out_what_lies_on_several_gpus() -> None:
    # The output and four layers on the last one, six layers on the first, and on each a graph and what is set aside.
    assert laid_out([1700, 1700], is_go_engine=True).bytes_each == ((600 + 300 + 457) * MIB,) * 2


@pytest.mark.parametrize(("free_mib", "layers"), [(457 + 400 + 2 * 200 - 1, 0), (457 + 400 + 2 * 200, 1)])
def test_the_formula_takes_a_gpu_with_room_for_two_more_layers(free_mib: int, layers: int) -> None:
    # With what is set aside for one, a graph and a layer there would be room from 1157 on.
    assert laid_out([free_mib], memory(buffer=200)).layers == layers


@pytest.mark.parametrize("is_go_engine", [False, True])
def test_spread_takes_all_gpus(is_go_engine: bool) -> None:
    assert laid_out([3000, 3000], spread=True, is_go_engine=is_go_engine).placement == (0, 1)


@pytest.mark.parametrize(
    ("num_gpu", "layers", "is_whole"), [(0, 0, True), (1, 1, True), (3, 3, True), (10, 10, True), (999, 11, True)]
)
@pytest.mark.parametrize("is_go_engine", [False, True])
def test_a_number_of_layers_is_kept_as_asked(
    num_gpu: int, layers: int, is_whole: bool, is_go_engine: bool
) -> None:
    layout = laid_out([3000], num_gpu=num_gpu, is_go_engine=is_go_engine)
    assert (layout.layers, layout.is_whole) == (layers, is_whole)


def test_the_overhead_stays_free_on_each_gpu() -> None:
    assert laid_out([FORMULA_NEEDS + 500], overhead_bytes=500 * MIB).layers < 11
    assert laid_out([OWN_NEEDS + 499], overhead_bytes=500 * MIB, is_go_engine=True).layers < 11


def test_gpus_of_different_libraries_do_not_share_a_model() -> None:
    gpus = [SchedulerGpu(0, 10**12, 0), SchedulerGpu(1, 10**12, 0, library="ROCm")]
    assert not laid_out([1700, 1701], gpus=gpus).is_whole
    assert laid_out([1200, 3000], gpus=gpus).placement == (1,)


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=4), st.booleans(), st.integers(-1, 12))
def test_no_gpu_gets_more_than_it_has(free_mib: list[int], is_go_engine: bool, num_gpu: int) -> None:
    layout = laid_out(free_mib, is_go_engine=is_go_engine, num_gpu=num_gpu)
    assert all(used <= free_mib[i] * MIB for i, used in zip(layout.placement, layout.bytes_each))
    assert all(used > MINIMUM_GPU_BYTES for used in layout.bytes_each)
    assert 0 <= layout.layers <= 11
    more = laid_out([one + 500 for one in free_mib], is_go_engine=is_go_engine, num_gpu=num_gpu)
    assert not layout.is_whole or more.is_whole
