# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers whose attention sees only chosen cells: who chooses, for whom, and what comes of a layer."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    cells,
    has_indexer,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import Context
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import Tensor
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._layers import Style
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._sparse import (
    sparse_latent_layer,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA


@pytest.fixture(name="shape", scope="module")
def fixture_shape() -> ModelShape:
    header = json.loads((DATA / "newer" / "headers" / "glm-5_744b.json").read_text(encoding="utf-8"))
    return shape_from_header(header, name=header["name"])


def context_of(shape: ModelShape) -> Context:
    layout = cells(shape, 4096, 1, 512)
    return Context(shape, layout, Attention.FLASH, cache_type="f16", here=range(shape.block_count))


def layer_of(context: Context, index: int) -> Tensor:
    form = dict(context.shape.forms[context.shape.layers[index].form])
    source = Tensor((context.shape.embedding_length, context.tokens))
    return sparse_latent_layer(context, Style(), form, index, source, is_last=False)


def test_a_layer_gives_for_every_token_what_it_took(shape: ModelShape) -> None:
    context = context_of(shape)
    assert has_indexer(shape, shape.layers[0])
    assert layer_of(context, 0).shape[:2] == (shape.embedding_length, 512)


def test_as_many_cells_are_chosen_as_the_header_says(shape: ModelShape) -> None:
    context = context_of(shape)
    layer_of(context, 0)
    assert context.chosen_cells is not None
    # glm-5: attention.indexer.top_k is 2048, of 4096 cells.
    assert context.chosen_cells.shape[:2] == (2048, 512)


def test_a_layer_without_an_indexer_needs_one_before_it(shape: ModelShape) -> None:
    context = context_of(shape)
    form = {
        name: lengths
        for name, lengths in shape.forms[shape.layers[0].form]
        if not name.startswith("indexer.")
    }
    without = ModelShape(**{**vars(shape), "forms": (tuple(form.items()), *shape.forms[1:])})
    assert not has_indexer(without, without.layers[0])
    context = context_of(without)
    with pytest.raises(ValueError, match="nothing before them has chosen cells"):
        layer_of(context, 0)
