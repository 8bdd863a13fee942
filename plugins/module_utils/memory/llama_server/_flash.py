# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flash attention: whether the engine uses it, and whether the GPU can run it for a model's heads."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

from ansible_collections.gpufleet.ollama.plugins.module_utils.model._architectures import traits
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import LayerShape, ModelShape

# Head lengths that CUDA kernels exist for, keys and values alike.
# Source: llama.cpp ggml/src/ggml-cuda/fattn.cu, ggml_cuda_get_best_fattn_kernel (b10488)
EQUAL_HEAD_LENGTHS = frozenset((40, 64, 72, 80, 96, 112, 128, 256))
# Further head lengths (keys, values), where so many query heads share a KV head: a multiple, or at least two.
GROUPED_HEAD_LENGTHS = {(192, 128): 8, (320, 256): 32, (512, 512): 1, (576, 512): 1}
LEAST_GROUP = 2


class Attention(Enum):
    """How the engine computes attention.

    PLAIN_ROWS: flash attention was wanted and is not possible: the cache was laid out for it already.
    """

    FLASH = "flash"
    FLASH_ON_HOST = "flash on host"
    PLAIN = "plain"
    PLAIN_ROWS = "plain rows"

    @property
    def is_flash(self) -> bool:
        """Whether the scores of a whole layer never exist at once."""
        return self in (Attention.FLASH, Attention.FLASH_ON_HOST)

    @property
    def transposes_values(self) -> bool:
        """Whether cached values lie transposed."""
        return self is Attention.PLAIN


def _is_supported(layer: LayerShape) -> bool:
    lengths = (layer.key_length, layer.value_length)
    if lengths[0] == lengths[1] and lengths[0] in EQUAL_HEAD_LENGTHS:
        return True
    multiple = GROUPED_HEAD_LENGTHS.get(lengths)
    if multiple is None or not layer.head_count_kv or layer.cache_layer is None:
        return False
    group = layer.head_count // layer.head_count_kv
    return group >= LEAST_GROUP and group % multiple == 0


@lru_cache(maxsize=1024)
def supports_flash_attention(shape: ModelShape) -> bool:
    """Whether CUDA can run flash attention for every layer of the model."""
    return all(_is_supported(layer) for layer in shape.layers if layer.attention != "none")


def resolved(
    shape: ModelShape, flash_attention: str, kv_cache_type: str, *, on_cpu: bool = False
) -> Attention:
    """How attention is computed under a setting of 'auto', 'on' or 'off'.

    A quantised cache turns 'auto' into 'on'. The CPU can always.
    Source: llama.cpp src/llama-context.cpp, llama_init_from_model and resolve_fused_ops (b10488).
    """
    if flash_attention == "off" or not traits(shape.architecture).can_flash:
        return Attention.PLAIN
    if on_cpu or supports_flash_attention(shape):
        return Attention.FLASH
    if flash_attention == "auto" and kv_cache_type == "f16":
        return Attention.PLAIN_ROWS
    return Attention.FLASH_ON_HOST
