# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is special about each architecture, a row each: what its layers remember, its head, its projector.

Names are those of `general.architecture`, as llama.cpp loads it. An architecture without a row is a plain one.
Source, where a line names no other: llama.cpp src/models/*.cpp, load_arch_hparams and load_arch_tensors (b10488).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass


@dataclass(frozen=True)
class SlidingPattern:
    """Which layers see a window only: of every `interval` layers all but the last (or but the first).

    `interval` 0 makes all layers sliding; the header's own pattern wins over it.
    `default_window` is used when the header names none, `fixed_window` whatever the header says.
    `only_block_count`: the depth of the one model of the architecture that has windows at all.
    """

    interval: int
    dense_first: bool = False
    default_window: int = 0
    fixed_window: int = 0
    only_block_count: int | None = None


class Recurrence(Enum):
    """Which layers have a recurrent state, and which of those have attention too."""

    NONE = "none, as far as is known"
    EVERY_LAYER = "every layer, in place of attention"
    BESIDE_ATTENTION = "every layer, beside attention"
    WITHOUT_KV_HEADS = "a layer without KV heads"
    WITHOUT_KV_HEADS_AND_NETWORK = "a layer without KV heads and without a feed-forward network"
    ALL_BUT_EVERY_NTH = "all layers but every n-th"


@dataclass(frozen=True)
class Traits:
    """What is special about an architecture.

    `is_encoder`: it keeps nothing between requests. `is_headless`: it has no output head, so nothing is tied to its
    token embeddings. `layers_with_cache`: the layers after so many share the caches of the last that have one.
    `says_shared_layers`: its header says how many do. `is_tied_twice`: tied embeddings are loaded twice even where
    both copies could be one, by the order of load_arch_tensors. `inline_projector`: the kind of projector that lies
    inside of the model's file; llama.cpp tools/mtmd/clip.cpp. `keeps_projector_on_gpu`: on the CPU the projector gives
    wrong results; ollama llm/llama_server.go, shouldDisableMMProjOffload (v0.33.0-rc2). `has_large_graph`: there is
    room for more operations; llama.cpp src/llama-context.cpp, graph_max_nodes. `can_flash`: the engine lets it use
    flash attention; llama.cpp src/llama-context.cpp, llama_init_from_model. `has_no_prediction_cache`: blocks that only
    predict further tokens have none; src/llama-model.cpp, create_memory. `repeats_layers`: its layers run as often as
    `num_loops` says, each time with a cache of their own. `reads_embeddings_in_place`: its output is made with the token
    embeddings where they lie, on the host. `takes_back`: where tokens are predicted ahead, its states before each of them
    are kept; src/llama-arch.cpp, llm_arch_supports_rs_rollback. `needs_even_batch`: later builds abort on a batch
    that slots cannot share evenly. `compresses`: its layers keep a window of tokens and rows that older ones are
    compressed into.
    """

    is_encoder: bool = False
    is_headless: bool = False
    sliding: SlidingPattern | None = None
    recurrence: Recurrence = Recurrence.NONE
    layers_with_cache: int | None = None
    says_shared_layers: bool = False
    is_tied_twice: bool = False
    inline_projector: str | None = None
    keeps_projector_on_gpu: bool = False
    has_large_graph: bool = False
    can_flash: bool = True
    has_no_prediction_cache: bool = False
    needs_even_batch: bool = False
    repeats_layers: bool = False
    reads_embeddings_in_place: bool = False
    takes_back: bool = False
    compresses: bool = False

    @property
    def skips_predictions(self) -> bool:
        """Whether blocks that only predict further tokens never have a cache."""
        return self.has_no_prediction_cache or self.recurrence is not Recurrence.NONE


ARCHITECTURES: Mapping[str, Traits] = {
    "afmoe": Traits(sliding=SlidingPattern(4)),
    "arwkv7": Traits(recurrence=Recurrence.EVERY_LAYER),
    "bailingmoe3": Traits(recurrence=Recurrence.WITHOUT_KV_HEADS, has_large_graph=True),
    "bert": Traits(is_encoder=True, is_headless=True),
    "bitnet": Traits(reads_embeddings_in_place=True),
    "cohere2": Traits(sliding=SlidingPattern(4)),
    "cohere2moe": Traits(sliding=SlidingPattern(4, dense_first=True)),
    "deepseek32": Traits(has_no_prediction_cache=True),
    "deepseek4": Traits(sliding=SlidingPattern(0), has_no_prediction_cache=True, compresses=True),
    "dream": Traits(is_encoder=True),
    "eurobert": Traits(is_encoder=True, is_headless=True),
    "exaone-moe": Traits(sliding=SlidingPattern(4, default_window=128)),
    "exaone4": Traits(sliding=SlidingPattern(4, default_window=4096, only_block_count=64)),
    "falcon-h1": Traits(recurrence=Recurrence.BESIDE_ATTENTION),
    "gemma-embedding": Traits(is_encoder=True, sliding=SlidingPattern(6)),
    "gemma2": Traits(sliding=SlidingPattern(2, default_window=4096)),
    "gemma3": Traits(sliding=SlidingPattern(6), inline_projector="gemma3"),
    "gemma3n": Traits(
        sliding=SlidingPattern(5), layers_with_cache=20, is_tied_twice=True, keeps_projector_on_gpu=True
    ),
    "gemma4": Traits(
        sliding=SlidingPattern(1), says_shared_layers=True, is_tied_twice=True, inline_projector="gemma4v"
    ),
    "glm-dsa": Traits(has_no_prediction_cache=True),
    "glm4": Traits(inline_projector="glm4v"),
    "gpt-oss": Traits(sliding=SlidingPattern(2)),
    "granite_swa": Traits(sliding=SlidingPattern(1)),
    "granitehybrid": Traits(recurrence=Recurrence.WITHOUT_KV_HEADS),
    "grok": Traits(can_flash=False),
    "hy_v3": Traits(has_no_prediction_cache=True),
    "jamba": Traits(recurrence=Recurrence.WITHOUT_KV_HEADS),
    "jina-bert-v2": Traits(is_encoder=True, is_headless=True),
    "jina-bert-v3": Traits(is_encoder=True, is_headless=True),
    "kimi-linear": Traits(
        recurrence=Recurrence.WITHOUT_KV_HEADS, has_large_graph=True, needs_even_batch=True
    ),
    "laguna": Traits(sliding=SlidingPattern(4, dense_first=True)),
    "lfm2": Traits(
        sliding=SlidingPattern(0), recurrence=Recurrence.WITHOUT_KV_HEADS, inline_projector="lfm2"
    ),
    "lfm2moe": Traits(recurrence=Recurrence.WITHOUT_KV_HEADS),
    "llada": Traits(is_encoder=True),
    "llada-moe": Traits(is_encoder=True),
    "llama4": Traits(
        sliding=SlidingPattern(4, default_window=8192, fixed_window=8192), inline_projector="llama4"
    ),
    "mamba": Traits(recurrence=Recurrence.EVERY_LAYER),
    "mamba2": Traits(recurrence=Recurrence.EVERY_LAYER),
    "maple": Traits(sliding=SlidingPattern(1)),
    "mellum": Traits(sliding=SlidingPattern(4)),
    "mimo2": Traits(sliding=SlidingPattern(1), has_no_prediction_cache=True),
    "minimax-01": Traits(has_large_graph=True),
    "minimax-m3": Traits(has_large_graph=True),
    "mistral3": Traits(inline_projector="pixtral"),
    "modern-bert": Traits(is_encoder=True, is_headless=True, sliding=SlidingPattern(3, dense_first=True)),
    "muse-glimmer": Traits(sliding=SlidingPattern(4)),
    "nanbeige": Traits(repeats_layers=True, has_large_graph=True),
    "nemotron_h": Traits(recurrence=Recurrence.WITHOUT_KV_HEADS_AND_NETWORK),
    "nemotron_h_moe": Traits(recurrence=Recurrence.WITHOUT_KV_HEADS_AND_NETWORK),
    "neo-bert": Traits(is_encoder=True, is_headless=True),
    "nomic-bert": Traits(is_encoder=True, is_headless=True),
    "nomic-bert-moe": Traits(is_encoder=True, is_headless=True),
    "olmo2": Traits(sliding=SlidingPattern(4)),
    "plamo2": Traits(recurrence=Recurrence.WITHOUT_KV_HEADS),
    "plamo3": Traits(sliding=SlidingPattern(8)),
    "qwen2vl": Traits(inline_projector="qwen2.5vl_merger"),
    "qwen35": Traits(
        recurrence=Recurrence.ALL_BUT_EVERY_NTH,
        inline_projector="qwen3vl_merger",
        has_large_graph=True,
        takes_back=True,
    ),
    "qwen35moe": Traits(
        recurrence=Recurrence.ALL_BUT_EVERY_NTH,
        inline_projector="qwen3vl_merger",
        has_large_graph=True,
        takes_back=True,
    ),
    "qwen3next": Traits(recurrence=Recurrence.ALL_BUT_EVERY_NTH, has_large_graph=True),
    "qwen3vl": Traits(inline_projector="qwen3vl_merger"),
    "qwen3vlmoe": Traits(inline_projector="qwen3vl_merger"),
    "rnd1": Traits(is_encoder=True),
    "rwkv6": Traits(recurrence=Recurrence.EVERY_LAYER),
    "rwkv6qwen2": Traits(recurrence=Recurrence.EVERY_LAYER),
    "rwkv7": Traits(recurrence=Recurrence.EVERY_LAYER),
    "smallthinker": Traits(sliding=SlidingPattern(4, dense_first=True, fixed_window=4096)),
    "spark2_5": Traits(sliding=SlidingPattern(1)),
    "step35": Traits(sliding=SlidingPattern(1), has_no_prediction_cache=True),
    "t5encoder": Traits(is_encoder=True),
}
_PLAIN = Traits()


def traits(architecture: str) -> Traits:
    """What is special about an architecture."""
    return ARCHITECTURES.get(architecture, _PLAIN)
