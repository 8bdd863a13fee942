# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How layers are strung together: what a style changes, and the buffers that llama.cpp reserves for its models."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import Cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import (
    Context,
    Routing,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import Tensor
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._layers import (
    PLAIN,
    Style,
    attention_heads,
    fed_forward,
    hybrid_layer,
    mixed,
    transformer_layer,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import shape
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.memory.llama_server.graph.reserved import (
    wrong_compute_buffers,
)

LLAMA, GEMMA = shape("llama3.1:8b"), shape("gemma3:4b")
WIDTH, TOKENS, SLOTS = 4096, 6, 2


# One model of each style that changes the order or the number of operations.
@pytest.mark.parametrize(
    "name",
    [
        "afmoe",
        "arctic",
        "bloom",
        "command-r7b",
        "deepseek-moe:16b",
        "falcon:40b",
        "falcon-h1:1.5b",
        "glm-4.7-flash",
        "gptneox",
        "granite3.3:8b",
        "hunyuan-a13b",
        "jina-v2",
        "laguna",
        "llama4:maverick",
        "minicpm3:4b",
        "mistral4",
        "nemotron-h:8b",
        "olmo:7b",
        "phi2",
        "phi3.5-moe",
        "qwen3-vl:8b",
        "smallthinker:21b",
        "smollm3",
        "stablelm2:12b",
        "stablelm2:1.6b",
    ],
)
def test_its_models_take_the_buffers_that_llama_cpp_reserves(name):
    assert wrong_compute_buffers(name) == []


def context(model=LLAMA) -> Context:
    return Context(
        model, Cells(256, 0, SLOTS, TOKENS), Attention.FLASH, cache_type="f16", here=range(model.block_count)
    )


def form_of(model, index=0) -> dict[str, tuple[int, ...]]:
    return dict(model.forms[model.layers[index].form])


def heads_of(style: Style, index: int = 0, model=LLAMA, **changes):
    layer = replace(model.layers[index], **changes)
    here = context(model)
    source = Tensor((model.embedding_length, TOKENS))
    return here, attention_heads(here, style, form_of(model, index), layer, source, index)


@pytest.mark.parametrize(
    ("style", "model", "index", "changes", "is_turned"),
    [
        (PLAIN, LLAMA, 0, {}, True),
        (Style(rotates="never"), LLAMA, 0, {}, False),
        # Beside sliding layers the full ones are not turned; where nothing slides all are.
        (Style(rotates="sliding"), LLAMA, 0, {}, True),
        (Style(rotates="sliding"), GEMMA, 0, {}, True),
        (Style(rotates="sliding"), GEMMA, 5, {}, False),
        # But for every fourth layer.
        (Style(no_rotation_interval=4), LLAMA, 2, {}, True),
        (Style(no_rotation_interval=4), LLAMA, 3, {}, False),
        (Style(no_rotation_interval=4), LLAMA, 4, {}, True),
        (Style(no_rotation_interval=4), LLAMA, 7, {}, False),
    ],
)
def test_positions_turn_queries_and_keys(style, model, index, changes, is_turned):
    here, heads = heads_of(style, index, model, **changes)
    positions = here.positions()
    assert (positions in heads.query.sources) is is_turned
    assert (positions in heads.key.sources) is is_turned
    assert positions not in heads.value.sources


@pytest.mark.parametrize(
    ("style", "index", "is_tempered"),
    [
        (Style(no_rotation_interval=4, tempers_unturned=True), 3, True),
        (Style(no_rotation_interval=4, tempers_unturned=True), 2, False),
        (Style(no_rotation_interval=4), 3, False),
    ],
)
def test_queries_that_are_not_turned_may_be_scaled_by_position(style, index, is_tempered):
    here, _heads = heads_of(style, index)
    assert ((1, 1, TOKENS, 1) in [one.shape for one in here.inputs()]) is is_tempered


def test_a_layer_that_reads_another_ones_cache_has_queries_only():
    _here, heads = heads_of(PLAIN, 1, cache_layer=0)
    assert (heads.key, heads.value) == (None, None)


def operations(style: Style, *, is_last: bool = False, form=None) -> tuple[int, Tensor]:
    """How many operations take or overwrite memory in one layer, and what it gives back."""
    here = context()
    result = transformer_layer(
        here, style, form or form_of(LLAMA), 0, here.input("source", (WIDTH, TOKENS)), is_last
    )
    here.graph.expand(result)
    return len([node for node in here.graph.nodes if not node.is_view]), result


@pytest.mark.parametrize(
    ("style", "more"),
    [
        # Attention's and the network's results are scaled.
        (Style(scales_residual=True), 2),
        (Style(scales_query=True), 1),
        (Style(norms_values=True), 1),
        (Style(rotates="never"), -2),
        # Norms without weights: one operation less each.
        (Style(bare_norms=True), -2),
        # They only change the order of what is added.
        (Style(residual_first=True), 0),
        (Style(mixer_residual_first=True), 0),
        (Style(parallel="attention"), 0),
        (Style(parallel="feed_forward"), 0),
        (Style(parallel="feed_forward_residual"), 0),
        # There is no second scores' soft cap in flash attention.
        (Style(soft_cap=True), 0),
    ],
)
def test_a_style_has_its_operations(style, more):
    assert operations(style)[0] - operations(PLAIN)[0] == more


@pytest.mark.parametrize(("style", "more"), [(Style(scales_residual=True), 2), (Style(residual_first=True), 0)])
def test_a_hybrid_layer_has_the_operations_of_its_style(style, more):
    def count(style):
        here = context()
        here.graph.expand(hybrid_layer(here, style, form_of(LLAMA), 0, here.input("source", (WIDTH, TOKENS)), False))
        return len([node for node in here.graph.nodes if not node.is_view])

    assert count(style) - count(PLAIN) == more


def test_a_sum_begins_with_what_the_style_says():
    for style, first_is_residual in ((PLAIN, False), (Style(residual_first=True), True)):
        _count, result = operations(style)
        network = next(one for one in result.sources if one.sources and one.sources[0].shape[0] != WIDTH)
        assert (result.sources[1] is network) is first_is_residual


@pytest.mark.parametrize(
    ("style", "is_last", "count"),
    [
        (PLAIN, False, TOKENS),
        (PLAIN, True, SLOTS),
        (Style(rows_at_end=True), True, TOKENS),
        (Style(parallel="attention"), True, SLOTS),
    ],
)
def test_after_the_last_layer_only_the_rows_wanted_go_on(style, is_last, count):
    assert operations(style, is_last=is_last)[1].shape == (WIDTH, count, 1, 1)


HIDDEN = 64
EXPERTS = {
    "ffn_gate_inp.weight": (WIDTH, 8),
    "ffn_up_exps.weight": (WIDTH, HIDDEN, 8),
    "ffn_down_exps.weight": (HIDDEN, WIDTH, 8),
}
SHARED = {"ffn_up_shexp.weight": (WIDTH, HIDDEN), "ffn_down_shexp.weight": (HIDDEN, WIDTH)}


@pytest.mark.parametrize(
    ("form", "more"),
    [
        (EXPERTS, 0),
        # A shared one is up, its activation, down, and the sum of both.
        ({**EXPERTS, **SHARED}, 4),
        # Gated it has a score, its sigmoid, and a product.
        ({**EXPERTS, **SHARED, "ffn_gate_inp_shexp.weight": (WIDTH, 1)}, 4 + 3),
        # On a shorter row: down to it and up from it.
        ({**EXPERTS, "ffn_latent_down.weight": (WIDTH, 32), "ffn_latent_up.weight": (32, WIDTH)}, 2),
    ],
)
def test_experts_may_have_a_shared_one(form, more):
    def count(form):
        here = context(replace(LLAMA, numbers={"expert_used_count": 2}))
        here.graph.expand(fed_forward(here, Style(routing=Routing()), form, here.input("source", (WIDTH, TOKENS))))
        return len([node for node in here.graph.nodes if not node.is_view])

    assert count(form) - count(EXPERTS) == more


def test_a_query_twice_as_wide_has_a_gate_in_it():
    gate = {**form_of(LLAMA), "attn_q.weight": (WIDTH, 2 * 128 * 32), "attn_q_norm.weight": (128,), "attn_k_norm.weight": (128,)}
    for form, widths in ((form_of(LLAMA), {WIDTH}), (gate, {2 * WIDTH})):
        here = context()
        source = here.input("source", (WIDTH, TOKENS))
        here.graph.expand(mixed(here, PLAIN, form, LLAMA.layers[0], source, 0))
        products = [node.shape[0] for node in here.graph.nodes if node.sources == (source,)]
        assert max(products) in widths


def test_a_plain_style_turns_queries_and_keys_and_does_nothing_else():
    assert {name: value for name, value in vars(PLAIN).items() if value and name != "routing"} == {"rotates": "always"}
    assert not any(vars(Routing()).values())
