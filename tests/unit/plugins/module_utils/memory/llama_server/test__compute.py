# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buffers by the layers that differ, against those of graphs that have every layer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server import _compute
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    Knowledge,
    bound_bytes,
    build,
    compute_bytes,
    cpu_compute_bytes,
    devices_compute_bytes,
    host_compute_bytes,
    knowledge,
    layers_of_kinds,
    layers_on,
    pattern_of,
    spreads_unevenly,
    units_of,
    used_layers,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    Cells,
    cells,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._buffer import (
    buffer_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._devices import (
    buffers_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import AS_FIRST_READ
from ansible_collections.gpufleet.ollama.tests.unit.data import STEMS, shape

LAYOUTS = ((4096, 1, 512), (32768, 3, 1024), (8192, 4, 2048))
CACHES = ((Attention.FLASH, "f16"), (Attention.FLASH, "q8_0"), (Attention.PLAIN, "f16"))


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize(("attention", "cache_type"), CACHES)
def test_layers_that_are_alike_need_to_be_built_once(installed, name, attention, cache_type):
    shape = installed(name)
    count = shape.block_count
    # Alone, and the first, a middle and the last of several GPUs.
    for units in (
        range(count + 1),
        range(count // 3),
        range(count // 3, 2 * count // 3),
        range(1, count + 1),
    ):
        for copies, layout in enumerate(LAYOUTS, start=1):
            graphs = [
                build(
                    shape,
                    cells(shape, *layout),
                    attention,
                    cache_type=cache_type,
                    units=units,
                    layers=layers,
                ).graph
                for layers in (None, layers_on(shape, units))
            ]
            short, whole = (buffer_bytes(one, alignment=128, input_copies=copies) for one in graphs)
            assert short == whole
            assert len(graphs[0].nodes) <= len(graphs[1].nodes)


@pytest.mark.parametrize(
    ("name", "built"),
    [
        ("llama3.1_8b", [0, 1, 2, 31]),
        # Three recurrent layers and one with attention by turns; the last of each kind gives up what only they read.
        ("qwen3.5_9b", [0, 1, 2, 3, 4, 30, 31]),
    ],
)
def test_layers_that_are_built(installed, name, built):
    shape = installed(name)
    pattern = pattern_of(shape, used_layers(shape))
    assert pattern.built == built
    assert len(pattern.order) == shape.block_count


LLAMA, GEMMA3, HYBRID = shape("llama3.1:8b"), shape("gemma3:4b"), shape("qwen3.5:9b")
GEMMA3N = shape("gemma3n:e2b")
UNHEARD = replace(LLAMA, architecture="unheard of")
# A layer that may keep a state of an unheard kind: nothing is known of what it computes.
STATES = {"convolution_state_size": 100, "recurrent_state_size": 1000}
STRANGE = replace(
    UNHEARD, layers=(replace(LLAMA.layers[0], is_recurrent=True), *LLAMA.layers[1:]), **STATES
)


@pytest.mark.parametrize(
    ("model", "known"),
    [
        (LLAMA, Knowledge.KNOWN),
        (UNHEARD, Knowledge.LIKE_OTHERS),
        (STRANGE, Knowledge.NONE),
        # An architecture that is known, with a header that lacks its tensors.
        (replace(LLAMA, forms=((("attn_norm.weight", (4096,)),),) * len(LLAMA.forms)), Knowledge.NONE),
    ],
)
def test_what_is_known_of_a_graph(model, known):
    assert knowledge(model) is known


def test_a_graph_that_is_only_like_others_gets_half_as_much_again():
    layout = cells(LLAMA, 4096, 1, 512)
    exact, guarded = (compute_bytes(one, layout, Attention.FLASH, "f16") for one in (LLAMA, UNHEARD))
    assert guarded == int(exact * 1.5)


TOKENS, SLOTS = 6, 2
LAYOUT = Cells(256, 512, SLOTS, TOKENS)
# A layer of llama3.1:8b: queries, keys, values and what they give back; gate, up and down of a network.
RESULTS = 4096 + 1024 + 1024 + 4096 + 2 * 14336 + 4096
# The masks of full and sliding layers; embeddings, values of the widest layer twice, and sixteen more.
MASKED = TOKENS * (256 + 512)
INPUTS = 2 * MASKED + 4 * TOKENS * (4096 + 2 * 1024 + 16)
PLAIN_INPUTS = INPUTS + 2 * MASKED
STATE = 3 * 4 * (100 + 1000) * SLOTS
# All results thrice and five rows more; queries and what is attended to.
ROWS = 3 * RESULTS + 5 * 4096 + 2 * 32 * 128


@pytest.mark.parametrize(
    ("model", "attention", "cache_type", "bound"),
    [
        (UNHEARD, Attention.FLASH, "f16", INPUTS + 4 * TOKENS * ROWS),
        (UNHEARD, Attention.PLAIN, "f16", PLAIN_INPUTS + 4 * TOKENS * (ROWS + 2 * 32 * 256)),
        # A quantised cache is copied to half precision.
        (UNHEARD, Attention.FLASH, "q8_0", INPUTS + 4 * TOKENS * ROWS + 2 * SLOTS * 256 * 2048),
        (STRANGE, Attention.FLASH, "f16", INPUTS + 4 * TOKENS * ROWS + STATE),
        # A window has its own cells.
        (
            replace(UNHEARD, layers=tuple(replace(one, attention="sliding") for one in LLAMA.layers)),
            Attention.PLAIN,
            "f16",
            PLAIN_INPUTS + 4 * TOKENS * (ROWS + 2 * 32 * 512),
        ),
        # Without attention there are no queries.
        (
            replace(UNHEARD, layers=tuple(replace(one, attention="none") for one in LLAMA.layers)),
            Attention.FLASH,
            "q8_0",
            INPUTS + 4 * TOKENS * (3 * RESULTS + 5 * 4096),
        ),
        # Chosen experts count as often as they are used: matrices with a third length, and a row more each.
        (
            replace(
                UNHEARD,
                numbers={"expert_used_count": 3},
                forms=((("ffn_up_exps.weight", (4096, 64, 8)), ("attn_q.weight", (4096, 4096))),) * len(LLAMA.forms),
            ),
            Attention.FLASH,
            "f16",
            INPUTS + 4 * TOKENS * (3 * (3 * 64 + 4096) + 7 * 4096 + 2 * 32 * 128),
        ),
    ],
)
def test_the_bound_of_an_unknown_graph_adds_up(model, attention, cache_type, bound):
    assert bound_bytes(model, LAYOUT, attention, cache_type) == bound


@pytest.mark.parametrize("slots", [1, 3])
def test_on_the_cpu_tensors_begin_at_multiples_of_32_bytes(slots):
    model = shape("llama3.2_1b")
    for batch in (33, 500, 512):
        assert cpu_compute_bytes(model, cells(model, 4096, slots, batch), Attention.FLASH, "f16") % 32 == 0


def test_where_nothing_is_known_the_bound_counts_and_copies_for_requests_in_flight():
    bound = bound_bytes(STRANGE, LAYOUT, Attention.FLASH, "f16")
    assert compute_bytes(STRANGE, LAYOUT, Attention.FLASH, "f16") == bound
    assert cpu_compute_bytes(STRANGE, LAYOUT, Attention.FLASH, "f16") == bound
    # Three more copies of the inputs, and four of what layers with a state may hand to and fro.
    copied = bound + 3 * INPUTS + 4 * 4 * TOKENS * RESULTS
    assert compute_bytes(STRANGE, LAYOUT, Attention.FLASH, "f16", None, 4) == copied
    assert host_compute_bytes(STRANGE, LAYOUT, Attention.FLASH, "f16") == 2 * 4 * 4096 * TOKENS + INPUTS


def test_layers_with_inputs_of_their_own_may_hand_them_on_with_the_caches_that_they_read():
    numbers = {"attention.shared_kv_layers": 2, "embedding_length_per_layer_input": 10}
    model = replace(UNHEARD, numbers=numbers)
    plain, shared = (
        devices_compute_bytes(one, LAYOUT, Attention.FLASH, "f16", (range(16), range(16, 33)), 4)
        for one in (UNHEARD, model)
    )
    inputs = 4 * TOKENS * 10 * 32
    # Keys and values of the last two layers, which are on the second GPU.
    caches = 2 * 2 * 1024 * 256 * SLOTS * 2
    assert [more - less for more, less in zip(shared, plain)] == [4 * inputs, 4 * (inputs + caches)]


@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("model", [HYBRID, GEMMA3N, replace(LLAMA, architecture="olmo")])
def test_several_gpus_take_what_a_graph_built_for_their_layout_takes(model, copies):
    layout, devices = cells(model, 4096, 2, 512), (range(10), range(10, model.block_count + 1))
    layers = used_layers(model)
    whole = build(model, layout, Attention.FLASH, cache_type="f16", layers=layers, devices=devices).graph
    buffers = buffers_bytes(whole.nodes, device_count=2, alignment=128, copies=copies, most_copies=30)
    assert devices_compute_bytes(model, layout, Attention.FLASH, "f16", devices, copies) == tuple(buffers)


def test_without_a_kernel_for_its_heads_the_host_keeps_a_copy_of_one_layers_cache():
    on_host, on_gpu = (
        host_compute_bytes(LLAMA, LAYOUT, one, "f16") for one in (Attention.FLASH_ON_HOST, Attention.FLASH)
    )
    # Without the mask, which the host then has itself.
    assert on_host - on_gpu == 2 * SLOTS * 256 * (1024 + 1024) - 2 * TOKENS * 256


EXPERTS = replace(LLAMA, numbers={**LLAMA.numbers, "expert_used_count": 3})


@pytest.mark.parametrize(
    ("model", "units", "copies", "rows"),
    [
        (LLAMA, range(33), 1, 3),
        (LLAMA, range(16, 33), 4, 3),
        # The first of several GPUs hands on what comes in, once for each request in flight.
        (LLAMA, range(16), 4, 3 + 2 * 4),
        (EXPERTS, range(33), 1, 3 + 3),
    ],
)
def test_a_build_that_nobody_measured_may_keep_more_rows_of_the_residual_stream(model, units, copies, rows):
    plain, allowed = (
        compute_bytes(model, LAYOUT, Attention.FLASH, "f16", units_of(model, units), copies, engine)
        for engine in (AS_FIRST_READ, replace(AS_FIRST_READ, allows_for_change=True))
    )
    assert allowed - plain == 1.5 * rows * 4 * TOKENS * 4096


@pytest.mark.parametrize(
    ("model", "attention", "unevenly"),
    [
        (LLAMA, Attention.FLASH, False),
        (LLAMA, Attention.FLASH_ON_HOST, True),
        (HYBRID, Attention.FLASH, True),
        (replace(LLAMA, architecture="olmo"), Attention.FLASH, True),
    ],
)
def test_which_models_hand_over_more_than_the_residual_stream(model, attention, unevenly):
    assert spreads_unevenly(model, attention) is unevenly


PREDICTS = replace(LLAMA, numbers={**LLAMA.numbers, "nextn_predict_layers": 2})


@pytest.mark.parametrize(
    ("model", "units", "layers"),
    [
        (LLAMA, range(33), range(32)),
        (LLAMA, range(10, 20), range(10, 20)),
        (LLAMA, range(32, 33), range(32, 32)),
        # The last two only predict further tokens ahead.
        (PREDICTS, range(33), range(30)),
        (PREDICTS, range(31, 33), range(30, 30)),
    ],
)
def test_the_layers_that_a_graph_runs_through(model, units, layers):
    assert layers_on(model, units) == layers


def test_so_many_layers_of_each_kind_and_the_last():
    # Three recurrent layers, then one with attention, by turns.
    assert layers_of_kinds(HYBRID, times=1) == [0, 3, 31]
    assert layers_of_kinds(HYBRID, times=2) == [0, 1, 3, 7, 31]


@pytest.mark.parametrize(
    ("model", "one", "other", "alike"),
    [
        # In the middle one layer is like another; the first, the last and the output are not.
        (LLAMA, range(5, 10), range(10, 20), True),
        (LLAMA, range(5), range(5, 10), False),
        (LLAMA, range(27, 32), range(5, 10), False),
        (LLAMA, range(27, 33), range(27, 32), False),
        # The last layer counts, whatever came before: five of six have a sliding window.
        (GEMMA3, range(8, 20), range(8, 21), True),
        (GEMMA3, range(8, 23), range(8, 24), False),
        # Where states or inputs live across layers, it matters which.
        (HYBRID, range(4, 8), range(8, 12), False),
        (GEMMA3N, range(5, 10), range(10, 15), False),
    ],
)
def test_units_are_alike_that_need_the_same_buffer(model, one, other, alike):
    assert (units_of(model, one) == units_of(model, other)) is alike


MASK = 4 * TOKENS * 256
SPARSE = replace(UNHEARD, numbers={"attention.indexer.key_length": 1, "attention.indexer.head_count": 3})


@pytest.mark.parametrize(
    ("model", "attention", "units", "copies", "size"),
    [
        (UNHEARD, Attention.FLASH, range(33), 1, 0),
        (SPARSE, Attention.PLAIN, range(33), 1, 0),
        # By position and in single precision, and the one that is handed over; three forms of three heads for a slot's tokens.
        (SPARSE, Attention.FLASH, range(33), 1, 3 * MASK + 3 * 3 * MASK // SLOTS),
        (SPARSE, Attention.FLASH, range(10), 4, 3 * 4 * MASK + 3 * 3 * MASK // SLOTS),
        # Later GPUs are handed it for each of their layers.
        (SPARSE, Attention.FLASH, range(10, 33), 4, (2 * 4 + 4 * 22) * MASK + 3 * 3 * MASK // SLOTS),
        # The output has no indexer.
        (SPARSE, Attention.FLASH, range(32, 33), 4, 0),
        (
            replace(SPARSE, numbers={"attention.indexer.key_length": 1}),
            Attention.FLASH,
            range(33),
            1,
            3 * MASK + 3 * MASK // SLOTS,
        ),
    ],
)
def test_the_bound_of_what_choosing_cells_takes_adds_up(model, attention, units, copies, size):
    assert _compute._sparse_bound_bytes(model, LAYOUT, attention, units_of(model, units), copies) == size


CACHE = 2 * 1024 * 256 * SLOTS * 2


@pytest.mark.parametrize(
    ("changes", "units", "size"),
    [
        ({"numbers": {}}, range(16, 33), 0),
        ({"numbers": {"embedding_length_per_layer_input": 10}}, range(33), 4 * TOKENS * 10 * 32),
        ({"numbers": {"attention.shared_kv_layers": 2}}, range(16, 33), 2 * CACHE),
        ({"numbers": {"attention.shared_kv_layers": 2}}, range(16, 31), CACHE),
        ({"numbers": {"attention.shared_kv_layers": 2}}, range(1, 33), 2 * CACHE),
        # Before the first GPU there is nothing that could keep them.
        ({"numbers": {"attention.shared_kv_layers": 2}}, range(33), 0),
    ],
)
def test_what_gpus_hand_each_other_in_an_unknown_graph_adds_up(changes, units, size):
    model = replace(UNHEARD, **changes)
    assert _compute._from_afar_bytes(model, LAYOUT, Attention.FLASH, "f16", units) == size


@pytest.mark.parametrize("copies", [1, 4])
def test_of_several_gpus_only_the_first_hands_on_what_comes_in(copies):
    layout, devices = cells(HYBRID, 4096, 2, 512), (range(10), range(10, HYBRID.block_count + 1))
    plain, allowed = (
        devices_compute_bytes(HYBRID, layout, Attention.FLASH, "f16", devices, copies, engine)
        for engine in (AS_FIRST_READ, replace(AS_FIRST_READ, allows_for_change=True))
    )
    row = 1.5 * 4 * layout.tokens * HYBRID.embedding_length
    assert [more - less for more, less in zip(allowed, plain)] == [(3 + (2 * copies if copies > 1 else 0)) * row, 3 * row]


@pytest.mark.parametrize(
    ("model", "slots", "batch", "gathers_once", "ways"),
    [
        (LLAMA, 3, 512, False, (True,)),
        # A graph for several slots has the operations of one for a single slot.
        (LLAMA, 1, 512, True, (True, False)),
        (HYBRID, 1, 512, False, (True, False)),
        # Unless states of other slots are read, of which there are none.
        (HYBRID, 1, 512, True, (False,)),
        (HYBRID, 3, 512, True, (True,)),
        # With two tokens of each slot a quantised cache is read in another way.
        (LLAMA, 3, 6, False, ()),
        (SPARSE, 3, 512, False, ()),
    ],
)
def test_which_graphs_of_unknowns_stand_for_a_layout(model, slots, batch, gathers_once, ways):
    layout = Cells(4096, 0, slots, batch)
    assert _compute._forms_of(model, layout, replace(AS_FIRST_READ, gathers_once=gathers_once)) == ways


@pytest.mark.parametrize("layers", [None, range(32)])
def test_a_graph_of_unknowns_is_as_large_as_its_layouts_own(layers):
    """Where the kinds of layers stand for all of them no operation is lost either."""
    layout = cells(LLAMA, 4096, 2, 512)
    graph = build(LLAMA, layout, Attention.FLASH, cache_type="f16", layers=layers).graph
    most = _compute.graph_bounds(LLAMA, Attention.FLASH, "f16")
    whole = build(LLAMA, layout, Attention.FLASH, cache_type="f16", layers=range(32)).graph
    assert most == (whole.node_count, whole.node_count + whole.leafs)
    assert graph.node_count <= whole.node_count
