# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each layer of a model remembers: full attention, a sliding window, a recurrent state or nothing.

The rules are llama.cpp's, by `general.architecture`.
Source: llama.cpp src/models/*.cpp (load_arch_hparams) and src/llama-hparams.cpp (b10488).
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.gpufleet.ollama.plugins.module_utils.model._metadata import Metadata


@dataclass(frozen=True)
class SlidingPattern:
    """Which layers see a window only: of every `interval` layers all but the last (or but the first).

    `interval` 0 makes all layers sliding; the header's own pattern wins over it.
    `default_window` is used when the header names none, `fixed_window` whatever the header says.
    """

    interval: int
    dense_first: bool = False
    default_window: int = 0
    fixed_window: int = 0


SLIDING_PATTERNS: dict[str, SlidingPattern] = {
    "afmoe": SlidingPattern(4),
    "cohere2": SlidingPattern(4),
    "cohere2moe": SlidingPattern(4, dense_first=True),
    "exaone-moe": SlidingPattern(4, default_window=128),
    "exaone4": SlidingPattern(4, default_window=4096),
    "gemma-embedding": SlidingPattern(6),
    "gemma2": SlidingPattern(2, default_window=4096),
    "gemma3": SlidingPattern(6),
    "gemma3n": SlidingPattern(5),
    "gemma4": SlidingPattern(1),
    "gpt-oss": SlidingPattern(2),
    "granite_swa": SlidingPattern(1),
    "laguna": SlidingPattern(4, dense_first=True),
    "lfm2": SlidingPattern(0),
    "llama4": SlidingPattern(4, default_window=8192, fixed_window=8192),
    "maple": SlidingPattern(1),
    "mellum": SlidingPattern(4),
    "mimo2": SlidingPattern(1),
    "modern-bert": SlidingPattern(3, dense_first=True),
    "muse-glimmer": SlidingPattern(4),
    "olmo2": SlidingPattern(4),
    "plamo3": SlidingPattern(8),
    "smallthinker": SlidingPattern(4, dense_first=True, fixed_window=4096),
    "spark2_5": SlidingPattern(1),
    "step35": SlidingPattern(1),
}
# The sliding window of exaone4 belongs to the 32B model, told by its depth.
# Source: llama.cpp src/models/exaone4.cpp (b10488)
EXAONE4_SLIDING_BLOCK_COUNT = 64

ENCODERS: frozenset[str] = frozenset(
    (
        "bert",
        "dream",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "llada",
        "llada-moe",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "rnd1",
        "t5encoder",
    )
)
RECURRENT: frozenset[str] = frozenset(("arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7"))
# A layer without KV heads is recurrent.
HYBRID_BY_KV_HEADS: frozenset[str] = frozenset(
    ("bailingmoe3", "granitehybrid", "jamba", "kimi-linear", "lfm2", "lfm2moe", "plamo2")
)
# A layer without KV heads is recurrent when it has no feed-forward network either.
HYBRID_BY_FEED_FORWARD: frozenset[str] = frozenset(("nemotron_h", "nemotron_h_moe"))
# All layers but every n-th are recurrent.
HYBRID_BY_INTERVAL: frozenset[str] = frozenset(("qwen35", "qwen35moe", "qwen3next"))
# Every layer has both attention and a recurrent state.
HYBRID_IN_PARALLEL: frozenset[str] = frozenset(("falcon-h1",))
DEFAULT_FULL_ATTENTION_INTERVAL = 4

# gemma3n: the layers after these reuse the cache of the last two that hold one.
# Source: llama.cpp src/models/gemma3n.cpp, n_layer_kv_from_start (b10488)
GEMMA3N_LAYERS_WITH_CACHE = 20
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
    pattern = SLIDING_PATTERNS.get(metadata.architecture)
    if pattern is None:
        return 0
    if metadata.architecture == "exaone4" and metadata.integer("block_count") != EXAONE4_SLIDING_BLOCK_COUNT:
        return 0
    window = metadata.integer("attention.sliding_window", default=pattern.default_window)
    return pattern.fixed_window if window and pattern.fixed_window else window


def _is_sliding(metadata: Metadata, layer: int, layer_count: int) -> bool:
    pattern = SLIDING_PATTERNS[metadata.architecture]
    flags = metadata.flags("attention.sliding_window_pattern", layer_count)
    if flags is not None:
        return flags[layer]
    interval = metadata.integer("attention.sliding_window_pattern", default=pattern.interval)
    if interval == 0:
        return True
    return layer % interval != 0 if pattern.dense_first else layer % interval < interval - 1


def _is_recurrent(metadata: Metadata, layer: int, layer_count: int) -> bool:
    architecture = metadata.architecture
    if architecture in RECURRENT or architecture in HYBRID_IN_PARALLEL:
        return True
    if architecture in HYBRID_BY_KV_HEADS:
        return metadata.per_layer("attention.head_count_kv", layer_count)[layer] == 0
    if architecture in HYBRID_BY_FEED_FORWARD:
        return (
            metadata.per_layer("attention.head_count_kv", layer_count)[layer] == 0
            and metadata.per_layer("feed_forward_length", layer_count, default=0)[layer] == 0
        )
    if architecture in HYBRID_BY_INTERVAL:
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
    known = HYBRID_BY_KV_HEADS | HYBRID_BY_FEED_FORWARD | HYBRID_BY_INTERVAL
    return metadata.architecture not in known and recurrent_state_size(metadata, 1) > 0


def _has_attention(metadata: Metadata, layer: int, layer_count: int, is_recurrent: bool) -> bool:
    if metadata.architecture in HYBRID_IN_PARALLEL:
        return True
    if is_recurrent:
        return metadata.architecture not in RECURRENT and _is_unknown_hybrid(metadata)
    if metadata.architecture in HYBRID_BY_FEED_FORWARD:
        return metadata.per_layer("feed_forward_length", layer_count, default=0)[layer] == 0
    return True


def _layers_with_cache(metadata: Metadata, layer_count: int) -> int:
    if metadata.architecture == "gemma3n":
        return min(GEMMA3N_LAYERS_WITH_CACHE, layer_count)
    if metadata.architecture == "gemma4":
        shared = metadata.integer("attention.shared_kv_layers", default=0)
        if shared > layer_count - SHARED_SLIDING_OFFSET:
            raise ValueError(
                f"gemma4.attention.shared_kv_layers is {shared}, but at least {SHARED_SLIDING_OFFSET} of the"
                f" {layer_count} layers must keep a cache of their own"
            )
        return layer_count - shared
    return layer_count


def layer_memories(metadata: Metadata, layer_count: int) -> tuple[LayerMemory, ...]:
    """What each of the first `layer_count` layers remembers, in order.

    Raises: ValueError when a key of the header contradicts the architecture.
    """
    is_encoder = metadata.architecture in ENCODERS
    window = sliding_window(metadata)
    with_cache = _layers_with_cache(metadata, layer_count)
    memories = []
    for layer in range(layer_count):
        is_recurrent = _is_recurrent(metadata, layer, layer_count)
        if not _has_attention(metadata, layer, layer_count, is_recurrent):
            memories.append(LayerMemory(NONE, None, is_recurrent))
            continue
        is_sliding = window > 0 and _is_sliding(metadata, layer, layer_count)
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
