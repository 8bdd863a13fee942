# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers that keep a state: their buffers as llama.cpp reserves them, and the operations that take no memory here."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import Context
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import Tensor
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._recurrent import (
    gated_delta_net,
    mamba,
    mamba2,
    short_convolution,
)
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.memory.llama_server.graph.reserved import (
    architectures,
    shape_of,
    wrong_compute_buffers,
)

MIXERS = {
    "mamba:2.8b": mamba,
    "jamba-mini": mamba,
    "mamba2:2.7b": mamba2,
    "falcon-h1:1.5b": mamba2,
    "qwen3.5:35b-a3b": gated_delta_net,
    "qwen3-next:80b-split": gated_delta_net,
    "lfm2:1.2b": short_convolution,
}


@pytest.mark.parametrize("name", MIXERS)
def test_its_models_take_the_buffers_that_llama_cpp_reserves(name):
    assert wrong_compute_buffers(name) == []


@pytest.mark.parametrize(("name", "mixer"), MIXERS.items())
def test_every_token_of_every_slot_comes_back_as_wide_as_it_went_in(name, mixer):
    shape = shape_of(name, architectures()[name])
    layout = cells(shape, 1024, 3, 512)
    context = Context(shape, layout, Attention.FLASH, cache_type="f16", here=range(shape.block_count))
    index = next(index for index, layer in enumerate(shape.layers) if layer.is_recurrent)
    form = dict(shape.forms[shape.layers[index].form])
    result = mixer(context, form, Tensor((shape.embedding_length, layout.tokens)))
    # A batch of 512 is 171 tokens for each of three slots.
    assert result.shape == (shape.embedding_length, 513, 1, 1)


def test_a_fused_projection_has_queries_keys_values_and_gate_side_by_side():
    """llama.cpp src/models/qwen3next.cpp, build_qkvz: files made before the projections were split have ssm_in and ssm_ba."""
    shape = shape_of("qwen3-next:80b-split", architectures()["qwen3-next:80b-split"])
    # Header: 16 key heads of 128, 32 heads, values of 4096 in all.
    names = ("ssm.group_count", "ssm.state_size", "ssm.time_step_rank", "ssm.inner_size")
    assert [shape.number(name) for name in names] == [16, 128, 32, 4096]
    split = dict(shape.forms[shape.layers[0].form])
    fused = {**split, "ssm_in.weight": (2048, 12288), "ssm_ba.weight": (2048, 64)}
    context = Context(shape, cells(shape, 1024, 2, 512), Attention.FLASH, cache_type="f16", here=range(48))
    result = context.graph.expand(gated_delta_net(context, fused, Tensor((2048, 512))))
    made = {node.shape for node in context.graph.nodes if not node.is_view}
    assert {
        (2 * 16 * 128 + 2 * 4096, 512, 1, 1),  # all of it, of every token
        (16 * 128, 256, 2, 1),  # queries, keys
        (2 * 16 * 128, 256, 2, 1),  # both
        (2 * 16 * 128 + 4096, 256, 2, 1),  # with the values
        (4096 // 16, 16, 256, 2),  # the gate by key heads
        (2 * 32, 512, 1, 1),  # strength and decay
        (32 // 16, 16, 256, 2),  # the strength by key heads
        (32, 256, 2, 1),  # the decay
        (128, 2, 16, 512),  # queries and keys, repeated for two heads each
    } <= made
    assert result.shape == (2048, 512, 1, 1)


# build_rs of llama-graph.cpp: of each state that is read seven operations show or write memory that lies elsewhere, and
# one more writes what is kept of the convolution and of the recurrence.
@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("lfm2:1.2b", 7 + 1),
        ("mamba:2.8b", 7 + 1 + 7 + 2),
        ("mamba2:2.7b", 7 + 1 + 7 + 2),
        ("qwen3.5:35b-a3b", 7 + 1 + 7 + 1),
    ],
)
def test_a_state_is_read_and_written_by_operations_that_take_no_memory(name, outside):
    shape = shape_of(name, architectures()[name])
    context = Context(shape, cells(shape, 1024, 1, 512), Attention.FLASH, cache_type="f16", here=range(1))
    index = next(index for index, layer in enumerate(shape.layers) if layer.is_recurrent)
    form = dict(shape.forms[shape.layers[index].form])
    MIXERS[name](context, form, Tensor((shape.embedding_length, 512)))
    assert context.graph.outside_nodes == outside
