# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine refuses to start, or aborts on."""

from __future__ import annotations

from functools import lru_cache

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    LoadSettings,
    Refused,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    Knowledge,
    build,
    graph_bounds,
    kind_of_layer,
    knowledge,
    layers_of_kinds,
    used_layers,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    Cells,
    cells,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._architectures import (
    MEAN_POOLING,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._architectures import traits
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import (
    AS_FIRST_READ,
    EngineRules,
)

# Elements of a block of q8_0 and q4_0.
# Source: llama.cpp ggml/src/ggml-common.h, QK8_0 and QK4_0 (b10488)
BLOCK_LENGTH = 32
# A graph may have so many operations for each tensor of the model, and at least so many.
# Source: llama.cpp src/llama-context.cpp, graph_max_nodes (b10488)
NODES_PER_TENSOR = 8
LEAST_NODES = 1024
NODES_PER_TENSOR_LARGE_GRAPHS = 32
# The table of tensors has the next of these sizes, and aborts when it is full.
# Source: llama.cpp ggml/src/ggml.c, ggml_hash_size (b10488)
TABLE_SIZES = (1031, 2053, 4099, 8209, 16411, 32771, 65537, 131101, 262147, 524309, 1048583, 2097169)


def check(shape: ModelShape, layout: Cells, settings: LoadSettings, attention: Attention) -> None:
    """Raises: Refused when the engine cannot start the model so."""
    is_left_off = attention is Attention.FLASH_ON_HOST and settings.flash_attention == "auto"
    if settings.is_quantised and (not attention.is_flash or (is_left_off and not settings.engine.turns_flash_on)):
        raise Refused(
            f"{shape.name} cannot keep its KV cache in {settings.kv_cache_type} while flash attention is off:"
            " set OLLAMA_FLASH_ATTENTION=1 or OLLAMA_KV_CACHE_TYPE=f16"
        )
    if settings.is_quantised:
        lengths = {length for layer in shape.layers for length in (layer.key_length, layer.value_length)}
        odd = sorted(length for length in lengths if length % BLOCK_LENGTH)
        if odd:
            raise Refused(
                f"{shape.name} cannot keep its KV cache in {settings.kv_cache_type}: its heads have {odd[0]} elements,"
                f" no multiple of the {BLOCK_LENGTH} of a block; choose an f16 KV cache"
            )
    if shape.is_embedding and shape.number("pooling_type") == MEAN_POOLING and layout.batch % layout.slots:
        raise Refused(
            f"{shape.name} averages its tokens, and a batch of {layout.batch} cannot be shared evenly by"
            f" {layout.slots} slots: the engine aborts; choose a parallel value that divides the batch"
        )
    wants_even = settings.engine.wants_even_batches and traits(shape.architecture).needs_even_batch
    if wants_even and layout.batch % layout.slots:
        raise Refused(
            f"{shape.name} cannot share a batch of {layout.batch} evenly among {layout.slots} slots: the engine aborts;"
            " choose a parallel value that divides the batch"
        )
    if knowledge(shape) is not Knowledge.KNOWN:
        return
    most = most_nodes(shape, layout)
    table = next((size for size in TABLE_SIZES if size >= most), most)
    bounds = graph_bounds(shape, attention, settings.kv_cache_type, settings.engine)
    if bounds is not None and bounds[0] < most and bounds[1] <= table:
        return
    nodes, tensors = graph_size(
        shape, attention, settings.is_quantised, layout.slots > 1, settings.engine
    )
    if nodes >= most or tensors > table:
        raise Refused(
            f"{shape.name} with a {settings.kv_cache_type} KV cache and {layout.slots} slots makes a graph of {tensors}"
            f" tensors, more than the {table} that the engine has room for: it aborts; choose an f16 KV cache"
        )


def most_nodes(shape: ModelShape, layout: Cells) -> int:
    """Operations that the engine makes room for in a graph."""
    if traits(shape.architecture).has_large_graph:
        return max(40 * layout.tokens, NODES_PER_TENSOR_LARGE_GRAPHS * shape.tensor_count)
    return max(LEAST_NODES, NODES_PER_TENSOR * shape.tensor_count)


@lru_cache(maxsize=1024)
def graph_size(
    shape: ModelShape,
    attention: Attention,
    is_quantised: bool,
    has_several_slots: bool,
    engine: EngineRules = AS_FIRST_READ,
) -> tuple[int, int]:
    """Operations of a model's graph, and tensors in all; neither depends on the context length.

    A layer adds as many as the second of its kind; the first also adds inputs that they share.
    """
    layout = cells(shape, 256, 2 if has_several_slots else 1, 256)
    cache_type = "q8_0" if is_quantised else "f16"
    built = layers_of_kinds(shape, times=2)
    context = build(shape, layout, attention, cache_type=cache_type, layers=built, one_by_one=True, engine=engine)
    ends = [(0, 0), *context.layer_ends]
    added = {
        kind_of_layer(shape, index): (after[0] - before[0], after[1] - before[1])
        for index, before, after in zip(built[:-1], ends, ends[1:])
    }
    nodes, leafs = context.graph.node_count, context.graph.leafs
    for index in sorted(set(used_layers(shape)) - set(built)):
        more = added[kind_of_layer(shape, index)]
        nodes, leafs = nodes + more[0], leafs + more[1]
    return nodes, nodes + leafs
