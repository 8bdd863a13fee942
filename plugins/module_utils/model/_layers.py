# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each layer of a model remembers: full attention, a sliding window, a recurrent state or nothing.

The rules are llama.cpp's, by `general.architecture`.
Source: llama.cpp src/models/*.cpp (load_arch_hparams) and src/llama-hparams.cpp (b10488).
"""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._architectures import (
    Recurrence,
    SlidingPattern,
    traits,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._metadata import Metadata

DEFAULT_FULL_ATTENTION_INTERVAL = 4

# Layers that share a cache read the last layer with one of their own kind: the last if full, the one before
# if sliding.
# Source: llama.cpp src/llama-model.cpp, create_memory (b10488)
SHARED_SLIDING_OFFSET = 2
SHARED_FULL_OFFSET = 1

FULL = "full"
SLIDING = "sliding"
NONE = "none"
ATTENTIONS = (FULL, SLIDING, NONE)


@dataclass(frozen=True)
class LayerMemory:
    """What one layer remembers.

    attention: 'full', 'sliding' or 'none'. cache_layer: the layer whose KV cache it reads (its own index, or
    an
    earlier one it shares; None: it keeps nothing between requests). is_recurrent: it has a state per slot.
    """

    attention: str
    cache_layer: int | None
    is_recurrent: bool


def sliding_window(metadata: Metadata) -> int:
    """Tokens that a sliding-window layer sees; 0 when the model has no such layer."""
    pattern = traits(metadata.architecture).sliding
    if pattern is None:
        return 0
    if pattern.only_block_count and metadata.integer("block_count") != pattern.only_block_count:
        return 0
    window = metadata.integer("attention.sliding_window", default=pattern.default_window)
    return pattern.fixed_window if window and pattern.fixed_window else window


def _is_sliding(metadata: Metadata, pattern: SlidingPattern, layer: int, layer_count: int) -> bool:
    flags = metadata.flags("attention.sliding_window_pattern", layer_count)
    if flags is not None:
        return flags[layer]
    interval = metadata.integer("attention.sliding_window_pattern", default=pattern.interval)
    if interval == 0:
        return True
    return layer % interval != 0 if pattern.dense_first else layer % interval < interval - 1


def _is_recurrent(metadata: Metadata, layer: int, layer_count: int) -> bool:
    recurrence = traits(metadata.architecture).recurrence
    if recurrence in (Recurrence.EVERY_LAYER, Recurrence.BESIDE_ATTENTION):
        return True
    if recurrence is Recurrence.WITHOUT_KV_HEADS:
        return metadata.per_layer("attention.head_count_kv", layer_count)[layer] == 0
    if recurrence is Recurrence.WITHOUT_KV_HEADS_AND_NETWORK:
        return (
            metadata.per_layer("attention.head_count_kv", layer_count)[layer] == 0
            and metadata.per_layer("feed_forward_length", layer_count, default=0)[layer] == 0
        )
    if recurrence is Recurrence.ALL_BUT_EVERY_NTH:
        flags = metadata.flags("attention.recurrent_layers", layer_count)
        if flags is not None:
            return flags[layer]
        interval = metadata.integer(
            "full_attention_interval", default=DEFAULT_FULL_ATTENTION_INTERVAL, minimum=1
        )
        return (layer + 1) % interval != 0
    return _is_unknown_hybrid(metadata)


def _is_unknown_hybrid(metadata: Metadata) -> bool:
    """Whether a header has a recurrence of which it is not known in which layers: then all count as having both."""
    is_known = traits(metadata.architecture).recurrence is not Recurrence.NONE
    return not is_known and recurrent_state_size(metadata, 1) > 0


def _has_attention(metadata: Metadata, layer: int, layer_count: int, is_recurrent: bool) -> bool:
    recurrence = traits(metadata.architecture).recurrence
    if recurrence is Recurrence.BESIDE_ATTENTION:
        return True
    if is_recurrent:
        return _is_unknown_hybrid(metadata)
    if recurrence is Recurrence.WITHOUT_KV_HEADS_AND_NETWORK:
        return metadata.per_layer("feed_forward_length", layer_count, default=0)[layer] == 0
    return True


def _layers_with_cache(metadata: Metadata, layer_count: int) -> int:
    special = traits(metadata.architecture)
    if special.layers_with_cache is not None:
        return min(special.layers_with_cache, layer_count)
    if special.says_shared_layers:
        shared = metadata.integer("attention.shared_kv_layers", default=0)
        if shared > layer_count - SHARED_SLIDING_OFFSET:
            raise ValueError(
                f"{metadata.architecture}.attention.shared_kv_layers is {shared}, but at least {SHARED_SLIDING_OFFSET}"
                f" of the {layer_count} layers must keep a cache of their own"
            )
        return layer_count - shared
    return layer_count


def layer_memories(metadata: Metadata, layer_count: int) -> tuple[LayerMemory, ...]:
    """What each of the first `layer_count` layers remembers, in order.

    Raises: ValueError when a key of the header contradicts the architecture.
    """
    is_encoder = traits(metadata.architecture).is_encoder
    pattern = traits(metadata.architecture).sliding
    window = sliding_window(metadata)
    with_cache = _layers_with_cache(metadata, layer_count)
    memories = []
    for layer in range(layer_count):
        is_recurrent = _is_recurrent(metadata, layer, layer_count)
        if not _has_attention(metadata, layer, layer_count, is_recurrent):
            memories.append(LayerMemory(NONE, None, is_recurrent))
            continue
        is_sliding = pattern is not None and window > 0 and _is_sliding(metadata, pattern, layer, layer_count)
        cache_layer: int | None = layer
        if is_encoder:
            cache_layer = None
        elif layer >= with_cache:
            cache_layer = with_cache - (SHARED_SLIDING_OFFSET if is_sliding else SHARED_FULL_OFFSET)
        memories.append(LayerMemory(SLIDING if is_sliding else FULL, cache_layer, is_recurrent))
    return tuple(memories)


def convolution_state_size(metadata: Metadata, head_count: int) -> int:
    """Elements that one recurrent layer keeps of the last tokens, per slot.

    Source: llama.cpp src/llama-hparams.cpp, n_embd_r (b10488).
    """
    embedding_length = metadata.integer("embedding_length")
    if metadata.integer("wkv.head_size", default=0):
        return metadata.integer("token_shift_count", default=2) * embedding_length
    short_convolution = metadata.integer("shortconv.l_cache", default=0)
    if short_convolution:
        return embedding_length * (short_convolution - 1)
    kernel = metadata.integer("ssm.conv_kernel", default=0)
    delta_head = metadata.integer("kda.head_dim", default=0)
    if delta_head:
        return 3 * (kernel - 1 if kernel else 3) * head_count * delta_head
    groups = metadata.integer("ssm.group_count", default=0)
    width = metadata.integer("ssm.inner_size", default=0) + 2 * groups * metadata.integer(
        "ssm.state_size", default=0
    )
    return max(kernel - 1, 0) * width


def recurrent_state_size(metadata: Metadata, head_count: int) -> int:
    """Elements of the recurrent state of one layer, per slot.

    Source: llama.cpp src/llama-hparams.cpp, n_embd_s (b10488).
    """
    wkv_head = metadata.integer("wkv.head_size", default=0)
    if wkv_head:
        return metadata.integer("embedding_length") * wkv_head
    delta_head = metadata.integer("kda.head_dim", default=0)
    if delta_head:
        return delta_head * delta_head * head_count
    return metadata.integer("ssm.state_size", default=0) * metadata.integer("ssm.inner_size", default=0)
