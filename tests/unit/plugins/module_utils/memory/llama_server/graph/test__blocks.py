# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What layers are made of: the shapes that llama-graph.cpp gives, and which memory they take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    Cells,
    cells,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph import _blocks
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import (
    Context,
    Heads,
    Routing,
    added,
    attention,
    elementwise,
    experts,
    feed_forward,
    gated,
    norm,
    operation,
    permuted,
    product,
    projected,
    query_key_value,
    reshaped,
    rows,
    stored,
    view,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    HOST,
    OUTSIDE,
    Tensor,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

# 32 query heads and 8 KV heads of 128, a row of 4096.
LLAMA = shape("llama3.1:8b")
WIDTH, TOKENS, SLOTS, CELLS = 4096, 6, 2, 256
HEAD, HEADS, KV_HEADS = 128, 32, 8


def context(model=LLAMA, attention=Attention.FLASH, layout=None, **options: object) -> Context:
    values = {"cache_type": "f16", "here": range(model.block_count), **options}
    return Context(model, layout or Cells(CELLS, 0, SLOTS, TOKENS), attention, **values)


def source(width: int = WIDTH) -> Tensor:
    return Tensor((width, TOKENS))


def test_only_what_is_elementwise_writes_over_its_operand():
    first = Tensor((3, 5), element_bytes=2)
    results = [elementwise(first), added(first, first), operation((3, 5), first), gated(first, first)]
    assert [one.reuses for one in results] == [True, True, False, False]
    assert [one.element_bytes for one in results] == [2, 2, 4, 4]


def test_views_show_the_memory_of_what_they_are_taken_from_first():
    first = Tensor((3, 5), element_bytes=2)
    turned = permuted(reshaped(first, 5, 3), 1, 0, 2, 3)
    assert turned.root is first
    assert turned.shape == (3, 5, 1, 1)
    assert turned.element_bytes == 2
    assert [one.is_plain for one in (reshaped(first, 15), view(first, (2,)), turned)] == [True, False, False]


def test_a_dimension_goes_where_the_order_says():
    # ggml_permute(a, 2, 0, 1, 3): dimension 0 becomes 2, 1 becomes 0, 2 becomes 1.
    assert permuted(Tensor((3, 5, 7)), 2, 0, 1, 3).shape == (5, 7, 3, 1)


def test_rows_and_products_have_the_widths_of_tables():
    assert rows(source(), Tensor((2,))).shape == (WIDTH, 2, 1, 1)
    here = context()
    assert product(here, 11, source()).shape == (11, TOKENS, 1, 1)
    assert here.graph.leafs == 1


@pytest.mark.parametrize(("form", "leafs"), [({"a.weight": (WIDTH, 11)}, 1), ({"a.weight": (WIDTH, 11), "a.bias": (11,)}, 2)])
def test_a_projection_has_a_bias_where_the_model_has_one(form, leafs):
    here = context(device=3)
    result = projected(here, form, "a", source())
    assert (result.shape, here.graph.leafs, result.device) == ((11, TOKENS, 1, 1), leafs, 3)


@pytest.mark.parametrize(
    ("form", "centred", "operations", "reuses"),
    [
        ({}, False, 1, True),
        ({}, True, 1, False),
        ({"n.weight": (1,)}, False, 2, True),
        ({"n.weight": (1,), "n.bias": (1,)}, True, 3, True),
    ],
)
def test_a_norm_is_followed_by_its_weight_and_bias(form, centred, operations, reuses):
    here = context()
    result = here.graph.expand(norm(here, form, "n", source(), centred=centred))
    # The source is an operation of the graph here too.
    assert len(here.graph.nodes) == operations + 1
    assert result.reuses is reuses


@pytest.mark.parametrize(("is_inside", "device"), [(True, 1), (False, None)])
def test_a_norm_runs_where_its_layer_is_while_layers_are_built(is_inside, device):
    result = norm(context(device=1, is_inside=is_inside), {"n.weight": (1,)}, "n", source())
    assert result.device == 1
    assert result.sources[0].device == device


def test_what_is_written_elsewhere_is_done_at_once_and_takes_nothing():
    here = context(device=1)
    result = stored(here, source())
    assert result in here.graph.nodes
    assert (result.root, result.data_bytes, result.device) == (OUTSIDE, 0, 1)


def test_inputs_are_made_at_their_first_use():
    here = context()
    assert here.input("a", (1,)) is here.input("a", (9,))
    assert here.inputs() == [here.input("a", ())]


@pytest.mark.parametrize(("on_cpu", "is_input"), [(False, True), (True, False)])
def test_rows_of_a_table_on_the_host_are_an_input_of_the_gpu(on_cpu, is_input):
    found = context(on_cpu=on_cpu).embeddings()
    assert (found.shape, found.is_input) == ((WIDTH, TOKENS, 1, 1), is_input)


@pytest.mark.parametrize(("numbers", "count"), [({}, TOKENS), ({"rope.dimension_sections": 4}, 4 * TOKENS)])
def test_positions_are_one_for_each_token_or_four(numbers, count):
    found = context(replace(LLAMA, numbers=numbers)).positions()
    assert found.data_bytes == 4 * count


@pytest.mark.parametrize(("capabilities", "count"), [((), SLOTS), (("embedding",), TOKENS)])
def test_the_result_is_wanted_of_one_token_of_each_slot_or_of_all(capabilities, count):
    found = context(replace(LLAMA, capabilities=capabilities)).output_rows()
    assert found.data_bytes == 4 * count


LAYER = LLAMA.layers[0]


@pytest.mark.parametrize(
    ("attention", "changes", "mask", "element_bytes"),
    [
        # Cells of a slot by the tokens of a slot, for each slot; in half precision for flash attention.
        (Attention.FLASH, {}, (CELLS, TOKENS // SLOTS, 1, SLOTS), 2),
        (Attention.PLAIN, {}, (CELLS, TOKENS // SLOTS, 1, SLOTS), 4),
        (Attention.PLAIN_ROWS, {}, (CELLS, TOKENS // SLOTS, 1, SLOTS), 4),
        (Attention.FLASH, {"attention": "sliding"}, (512, TOKENS // SLOTS, 1, SLOTS), 2),
        # An encoder's tokens see one another.
        (Attention.FLASH, {"cache_layer": None}, (TOKENS, TOKENS, 1, 1), 2),
    ],
)
def test_a_mask_has_a_column_for_each_cell(attention, changes, mask, element_bytes):
    here = context(attention=attention, layout=Cells(CELLS, 512, SLOTS, TOKENS))
    found = here.mask(replace(LAYER, **changes))
    assert (found.shape, found.element_bytes) == (mask, element_bytes)


FORM = dict(LLAMA.forms[LAYER.form])
QUERY, KEY = (HEAD, HEADS, TOKENS, 1), (HEAD, KV_HEADS, TOKENS, 1)


@pytest.mark.parametrize(
    ("form", "is_plain"),
    [(FORM, True), ({"attn_qkv.weight": (WIDTH, (HEADS + 2 * KV_HEADS) * HEAD)}, False)],
)
def test_queries_keys_and_values_come_from_three_projections_or_are_pieces_of_one(form, is_plain):
    heads = query_key_value(context(), form, LAYER, source())
    assert (heads.query.shape, heads.key.shape, heads.value.shape) == (QUERY, KEY, KEY)
    assert {heads.query.is_plain, heads.key.is_plain, heads.value.is_plain} == {is_plain}


def attended(attention_kind=Attention.FLASH, layer=LAYER, model=LLAMA, heads=None, **options):
    """The context after one layer's attention, and its result."""
    of_context = ("cache_type", "layout", "here", "on_cpu")
    here = context(model, attention_kind, **{key: value for key, value in options.items() if key in of_context})
    asked = {key: value for key, value in options.items() if key not in of_context}
    key = (layer.key_length, layer.head_count_kv, here.tokens)
    given = heads or Heads(
        Tensor((layer.key_length, layer.head_count, here.tokens)),
        Tensor(key),
        Tensor((layer.value_length, *key[1:])),
    )
    return here, attention(here, layer, given, **asked)


def results(here: Context) -> list[tuple[int, ...]]:
    """Shapes of what takes memory, in order; queries, keys and values first."""
    return [node.shape for node in here.graph.nodes if node.root is None]


SCORES = (CELLS, TOKENS // SLOTS, HEADS, SLOTS)
WEIGHTED = (HEAD, TOKENS // SLOTS, HEADS, SLOTS)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (Attention.FLASH, {}, [(HEAD, HEADS, TOKENS // SLOTS, SLOTS)]),
        # Scores, the same masked and soft-maximised over themselves, values weighted by them, and those in rows.
        (Attention.PLAIN, {}, [SCORES, SCORES, WEIGHTED, (WIDTH, TOKENS, 1, 1)]),
        (Attention.PLAIN, {"soft_cap": True}, [*[SCORES] * 5, WEIGHTED, (WIDTH, TOKENS, 1, 1)]),
        # Values in rows are turned first.
        (
            Attention.PLAIN_ROWS,
            {},
            [(CELLS, HEAD, KV_HEADS, SLOTS), SCORES, SCORES, WEIGHTED, (WIDTH, TOKENS, 1, 1)],
        ),
        # The GPU takes back what the host computed.
        (Attention.FLASH_ON_HOST, {}, [(WIDTH, TOKENS, 1, 1)]),
    ],
)
def test_attention_takes_the_memory_of_its_way_to_compute(kind, options, expected):
    here, result = attended(kind, **options)
    assert results(here)[3:] == expected
    assert result.shape == (WIDTH, TOKENS, 1, 1)


@pytest.mark.parametrize("kind", list(Attention))
def test_queries_are_read_by_token_of_a_slot_then_by_head(kind):
    """build_attn_mha(): view_4d(q, length, heads, tokens / streams, streams), then permute(q, 0, 2, 1, 3)."""
    here, _result = attended(kind)
    read = [source.shape for node in here.graph.nodes for source in node.sources if source.is_view]
    assert (HEAD, TOKENS // SLOTS, HEADS, SLOTS) in read


@pytest.mark.parametrize(
    ("cache_type", "tokens_per_slot", "changes", "padding"),
    [
        ("f16", 3, {}, 0),
        # Keys and values of every cell of every slot, in half precision, unless two tokens at the most read the blocks.
        ("q8_0", 3, {}, 2 * CELLS * SLOTS * 2 * KV_HEADS * HEAD),
        ("q8_0", 2, {}, 0),
        ("q8_0", 1, {}, 0),
        # Heads up to 256 that are a multiple of 64 are read as blocks.
        ("q8_0", 2, {"key_length": 256, "value_length": 256}, 0),
        ("q8_0", 2, {"key_length": 320, "value_length": 320}, 2 * CELLS * SLOTS * 2 * KV_HEADS * 320),
        ("q8_0", 2, {"key_length": 96, "value_length": 96}, 2 * CELLS * SLOTS * 2 * KV_HEADS * 96),
    ],
)
def test_a_quantised_cache_is_read_in_half_precision(cache_type, tokens_per_slot, changes, padding):
    layer = replace(LAYER, **changes)
    layout = Cells(CELLS, 0, SLOTS, tokens_per_slot * SLOTS)
    for on_cpu in (False, True):
        here, _result = attended(layer=layer, cache_type=cache_type, layout=layout, on_cpu=on_cpu)
        found = max(node.padding_bytes for node in here.graph.nodes)
        assert found == (0 if on_cpu else padding)


@pytest.mark.parametrize(
    ("cache_type", "key_length", "value_length", "rotations"),
    [
        ("f16", 128, 128, []),
        # Keys by the largest power of two that divides the head, values by 64 (llama-kv-cache.cpp, attn_rot_k, attn_rot_v).
        ("q8_0", 128, 128, [128, 64]),
        ("q8_0", 192, 128, [64, 64]),
        ("q8_0", 256, 64, [256, 64]),
        ("q8_0", 96, 128, [64]),
        ("q8_0", 128, 80, [128]),
    ],
)
def test_a_quantised_cache_is_rotated(cache_type, key_length, value_length, rotations):
    layers = tuple(replace(one, key_length=key_length, value_length=value_length) for one in LLAMA.layers)
    here, _result = attended(layer=layers[0], model=replace(LLAMA, layers=layers), cache_type=cache_type)
    matrices = [one.shape[0] for one in here.inputs() if one.shape[0] == one.shape[1] > 1 and one.element_bytes == 4]
    assert matrices == rotations


def test_values_that_lie_transposed_are_padded_to_the_widest():
    wide = replace(LLAMA.layers[1], value_length=2 * HEAD)
    model = replace(LLAMA, layers=(LAYER, wide, *LLAMA.layers[2:]))
    here, _result = attended(Attention.PLAIN, model=model)
    assert (2 * HEAD * KV_HEADS, TOKENS, 1, 1) in results(here)
    assert here.input("value rows full", ()).data_bytes == 8 * TOKENS * 2 * HEAD * KV_HEADS
    same, _result = attended(Attention.PLAIN)
    assert (HEAD * KV_HEADS, TOKENS, 1, 1) not in results(same)


def test_a_cache_on_another_gpu_is_copied():
    reader = replace(LLAMA.layers[1], cache_layer=0)
    model = replace(LLAMA, layers=(LAYER, reader, *LLAMA.layers[2:]))
    heads = Heads(Tensor((HEAD, HEADS, TOKENS)), None, None)
    far, _result = attended(layer=reader, model=model, heads=heads, here=range(1, 32))
    copies = [one.data_bytes for one in far.inputs() if one.element_bytes == 1]
    assert copies == [2 * KV_HEADS * HEAD * CELLS * SLOTS] * 2
    near, _result = attended(layer=reader, model=model, heads=heads)
    assert not any(one.element_bytes == 1 for one in near.inputs())


def test_an_encoder_needs_keys_and_values():
    with pytest.raises(ValueError, match="an encoder's layer has keys and values of its own"):
        attended(layer=replace(LAYER, cache_layer=None), heads=Heads(Tensor((HEAD, HEADS, TOKENS)), None, None))


HIDDEN = 64
UP, GATE = ({f"ffn_{name}.weight": (WIDTH, HIDDEN)} for name in ("up", "gate"))
DOWN = {"ffn_down.weight": (HIDDEN, WIDTH)}
HIDDEN_ROW = (HIDDEN, TOKENS, 1, 1)


@pytest.mark.parametrize(
    ("form", "squared", "hidden"),
    [
        # Up and its activation; squared once more.
        ({**UP, **DOWN}, False, [HIDDEN_ROW] * 2),
        ({**UP, **DOWN}, True, [HIDDEN_ROW] * 3),
        # Gate, up, and the one by the other.
        ({**UP, **GATE, **DOWN}, False, [HIDDEN_ROW] * 3),
        # Both halves in one, and half of that.
        ({"ffn_up.weight": (WIDTH, 2 * HIDDEN), **DOWN}, False, [(2 * HIDDEN, TOKENS, 1, 1), HIDDEN_ROW]),
    ],
)
def test_a_network_is_what_its_tensors_say(form, squared, hidden):
    here = context()
    here.graph.expand(feed_forward(here, form, source(), squared=squared))
    assert results(here)[1:] == [*hidden, (WIDTH, TOKENS, 1, 1)]


EXPERTS = {
    "ffn_gate_inp.weight": (WIDTH, 8),
    "ffn_up_exps.weight": (WIDTH, HIDDEN, 8),
    "ffn_gate_exps.weight": (WIDTH, HIDDEN, 8),
    "ffn_down_exps.weight": (HIDDEN, WIDTH, 8),
}


@pytest.mark.parametrize(("used", "is_refused"), [(0, True), (1, False), (2, False), (128, False), (129, True)])
def test_experts_are_used_one_at_least_and_128_at_most(used, is_refused):
    here = context(replace(LLAMA, numbers={"expert_used_count": used}))
    if is_refused:
        with pytest.raises(ValueError, match=f"{used} experts are used at once, expected 1 to 128"):
            experts(here, EXPERTS, source(), Routing())
    else:
        assert experts(here, EXPERTS, source(), Routing()).shape == (WIDTH, TOKENS, 1, 1)


@pytest.mark.parametrize(
    ("routing", "numbers", "more"),
    [
        (Routing(), {}, 0),
        # A sum, and the weights divided by it.
        (Routing(normalises=True), {}, 2),
        (Routing(normalises_if_told=True), {}, 0),
        (Routing(normalises_if_told=True), {"expert_weights_norm": 1}, 2),
        (Routing(scales=True), {}, 1),
        # The soft maximum of all is left out and that of the chosen comes in.
        (Routing(weighs_chosen_only=True), {}, 0),
        # The input is repeated and weighted, the result is not.
        (Routing(weighs_input=True), {}, 1),
    ],
)
def test_each_way_to_weigh_experts_has_its_operations(routing, numbers, more):
    def count(routing):
        here = context(replace(LLAMA, numbers={"expert_used_count": 2, **numbers}))
        here.graph.expand(experts(here, EXPERTS, source(), routing))
        return len(results(here))

    assert count(routing) - count(Routing()) == more


@pytest.mark.parametrize(
    ("count", "is_one_operation"),
    [(1, True), (8, True), (12, False), (288, True), (511, False), (512, True), (513, False), (576, True), (1024, False)],
)
def test_among_how_many_experts_the_gpu_chooses_as_one_operation(count, is_one_operation):
    assert _blocks._is_chosen_at_once(count) is is_one_operation


def test_experts_in_groups_keep_the_best_groups():
    numbers = {"expert_used_count": 2, "expert_group_count": 4, "expert_group_used_count": 2}
    here = context(replace(LLAMA, numbers=numbers))
    here.graph.expand(experts(here, EXPERTS, source(), Routing()))
    # Of four groups of two: sorted within, the two best of each summed, sorted, and of two groups the scores.
    for expected in ((2, 4, TOKENS, 1), (1, 2, 4, TOKENS), (1, 4, TOKENS, 1), (4, TOKENS, 1, 1), (2, 2, TOKENS, 1)):
        assert expected in results(here)
    plain = context(replace(LLAMA, numbers={"expert_used_count": 2, "expert_group_count": 1}))
    plain.graph.expand(experts(plain, EXPERTS, source(), Routing()))
    assert (2, 4, TOKENS, 1) not in results(plain)


def test_attention_on_the_host_runs_there_where_the_graph_spans_gpus():
    here = context(attention=Attention.FLASH_ON_HOST, device=1)
    heads = Heads(Tensor((HEAD, HEADS, TOKENS)), Tensor((HEAD, KV_HEADS, TOKENS)), Tensor((HEAD, KV_HEADS, TOKENS)))
    assert attention(here, LAYER, heads).device == HOST


def test_a_layout_of_cells_is_what_the_context_counts_by():
    here = context(layout=cells(LLAMA, 1000, 3, 512))
    assert (here.slots, here.tokens, here.tokens_per_slot, here.cells(LAYER)) == (3, 513, 171, 1024)
    assert context().caches_halves
    assert not context(cache_type="q8_0").caches_halves
