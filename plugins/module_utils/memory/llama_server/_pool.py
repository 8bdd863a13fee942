# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the CUDA backend takes while it computes, beside its buffers: pools that grow as contexts fill.

No buffer line of the engine's log shows them, and its own look at free memory knows nothing of them. They never shrink
while the model is loaded.
"""

from __future__ import annotations

from functools import lru_cache

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import KIB, MIB, padded
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import Backend
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    INDEXER_KEYS,
    Cells,
    has_indexer,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._architectures import (
    ARCHITECTURES,
    TRANSFORMER,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    HALF_BYTES,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import LayerShape, ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import EngineRules

# The pool grows by so much. Source: llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu, ggml_cuda_pool_vmm (b10488)
STEP_BYTES = 2 * MIB
# An indexer's choice of cells sorts all of them, so many rows at once: their order, keys in and out, the order sorted,
# and two more that the sort asks for.
# Source: llama.cpp ggml/src/ggml-cuda/top-k.cu and argsort.cu, argsort_f32_i32_cuda_cub_chunk_nrows (b10362 to b11218)
SORTED_BYTES = 64 * MIB
SORTED_COPIES = 6
CELL_BYTES = 4
# The mask of a position, and its score.
POSITION_BYTES = 4
# An activation that meets quantised weights: blocks of 32 in 36 bytes.
# Source: llama.cpp ggml/src/ggml-cuda/mmq.cuh, block_q8_1_mmq (b10488)
QUANTISED_BYTES = 36 / 32
# What every multiprocessor leaves unfinished of a product: a tile of 128 by 128; and the most multiprocessors of any GPU.
# Source: llama.cpp ggml/src/ggml-cuda/mmq.cuh, tmp_fixup (b10488)
UNFINISHED_BYTES = 64 * KIB
MOST_MULTIPROCESSORS = 192
# Two products at once may leave some, of which the bound of the measured models asks.
UNFINISHED_PRODUCTS = 2
# Weights of a recurrence that are made whole numbers of half precision: 16 to 21 MiB in the models measured.
RECURRENT_BYTES = 24 * MIB
# The legacy pool rounds up by a twentieth. Source: llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu, look_ahead_size (b10488)
LOOK_AHEAD = 1.05


def pool_bytes(
    shape: ModelShape,
    layout: Cells,
    attention: Attention,
    indices: range,
    *,
    backend: Backend,
    engine: EngineRules,
    copies: int = 1,
) -> int:
    """The most bytes of pools on a GPU that holds these layers, once every slot's context is full.

    Without flash attention it is the half-precision copy of one layer's scores and of its queries, to a few percent; with
    it a bound, of 8 to 64 MiB that were measured. copies: requests in flight at once, on several GPUs.
    """
    layers = [shape.layers[index] for index in indices]
    if not layers:
        return 0
    if attention.is_flash:
        most = _products_bytes(shape, layout, layers, UNFINISHED_PRODUCTS)
    else:
        most = max(_scores_bytes(layout, layers, backend), _products_bytes(shape, layout, layers, 1))
    if backend.dequantised_bytes:
        each = (_dequantised_bytes(shape, layout, form, backend.dequantised_bytes) for form in {one.form for one in layers})
        most = max(most, max(each) + STEP_BYTES)
    if shape.number(INDEXER_KEYS):
        most = max(most, _sorted_bytes(layout))
    workspace = backend.workspace_bytes if engine.allocates_workspaces else 0
    return padded(most, STEP_BYTES) + workspace + _grown_bytes(shape, layout, attention, layers, copies)


def _products_bytes(shape: ModelShape, layout: Cells, layers: list[LayerShape], unfinished: int) -> int:
    """A bound of what products take: with quantised weights, so many of them unfinished at once, and with half-precision ones."""
    of_forms = _widest_inputs(shape)
    widest = max(of_forms[form] for form in {layer.form for layer in layers})
    total = int(QUANTISED_BYTES * layout.tokens * widest)
    total += unfinished * UNFINISHED_BYTES * MOST_MULTIPROCESSORS
    total += RECURRENT_BYTES if any(layer.is_recurrent for layer in layers) else 0
    return max(total, HALF_BYTES * layout.tokens * shape.half_row_elements)


def _dequantised_bytes(shape: ModelShape, layout: Cells, form: int, element_bytes: int) -> int:
    """A bound of what the widest product takes that cuBLAS makes of quantised weights: they, its rows and its results.

    Rows of experts are put in order first. Of qwen2.5:7b with a batch of 2048, 208 MiB were measured on 7.0 (v0.5.0).
    Source: llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu, ggml_cuda_op_mul_mat_cublas and ggml_cuda_mul_mat_id (b11218).
    """
    used = shape.number("expert_used_count", 1)
    most = 0
    for _name, lengths in shape.forms[form]:
        if len(lengths) < 2:
            continue
        ends = lengths[0] + lengths[1]
        total = element_bytes * (lengths[0] * lengths[1] + layout.tokens * ends)
        if len(lengths) > 2:
            total += POSITION_BYTES * layout.tokens * used * ends
        most = max(most, total)
    return most


def _sorted_bytes(layout: Cells) -> int:
    """What sorting the cells for each token takes, in pieces of whole rows."""
    row_bytes = CELL_BYTES * layout.full
    piece_bytes = max(row_bytes, min(SORTED_BYTES, row_bytes * layout.tokens))
    return SORTED_COPIES * piece_bytes + STEP_BYTES


def _grown_bytes(
    shape: ModelShape, layout: Cells, attention: Attention, layers: list[LayerShape], copies: int
) -> int:
    """A bound of how far the compute buffer itself grows, where it is reserved for an empty context's positions.

    Each layer that chooses blocks is handed the mask of all positions by itself, and scores them for each of its heads.
    Source: llama.cpp src/models/minimax-m3.cpp, msa->pos_mask; src/llama-kv-cache-msa.cpp, get_n_pos (b11218)
    """
    if not attention.is_flash or not ARCHITECTURES.get(shape.architecture, TRANSFORMER).copies_views:
        return 0
    sparse = sum(has_indexer(shape, layer) for layer in layers)
    heads = shape.number("attention.indexer.head_count")
    return POSITION_BYTES * layout.full * layout.tokens * (copies * sparse + heads)


@lru_cache(maxsize=256)
def _widest_inputs(shape: ModelShape) -> tuple[int, ...]:
    """Elements of the widest row that meets weights, of all chosen experts together, for each form of layers."""
    used = shape.number("expert_used_count", 1)
    return tuple(
        max(
            (lengths[0] * (used if len(lengths) > 2 else 1) for _name, lengths in form if len(lengths) > 1),
            default=shape.embedding_length,
        )
        for form in shape.forms
    )


def _scores_bytes(layout: Cells, layers: list[LayerShape], backend: Backend) -> int:
    """The copy of one layer's scores, and of the queries, in half precision."""
    most = 0
    for layer in layers:
        if layer.attention == "none":
            continue
        cells = layout.sliding if layer.attention == "sliding" else layout.full
        scores = HALF_BYTES * layer.head_count * cells * layout.tokens
        if backend.keeps_size_classes:
            # One copy for each length that the context has had.
            each = max(layout.tokens // layout.slots, 1)
            scores = int(LOOK_AHEAD * scores * (-(-cells // each) + 1) / 2)
        most = max(most, scores + HALF_BYTES * layout.tokens * layer.head_count * layer.value_length)
    return most
