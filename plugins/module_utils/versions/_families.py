# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What versions of Ollama do with the models of one family: a row each, by the first release that does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Tuple

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

Release = Tuple[int, int, int]


@dataclass(frozen=True)
class Family:
    """What Ollama does with a family of models, known by the manifest's `model_family` or the header's architecture.

    `single_slot_since`: it gets one slot, whatever the parallel value.
    Source: ollama server/sched.go, load(), by the first release that names the family.
    `own_engine_since`: until 0.24 it runs in Ollama's own engine.
    Source: ollama fs/ggml/ggml.go, OllamaEngineRequired() (0.11.11 to 0.24).
    `flash_since`: until 0.24 it runs with flash attention where nothing is set. `can_flash`: it ever does.
    Source: ollama fs/ggml/ggml.go, FlashAttention() and SupportsFlashAttention() (0.11.8 to 0.24).
    """

    single_slot_since: Release | None = None
    own_engine_since: Release | None = None
    flash_since: Release | None = None
    can_flash: bool = True

    def has_single_slot(self, release: Release) -> bool:
        """Whether that release gives it one slot only."""
        return _reached(self.single_slot_since, release)

    def has_own_engine(self, release: Release) -> bool:
        """Whether that release, one before 0.30, runs it in its own engine."""
        return _reached(self.own_engine_since, release)

    def flashes_by_default(self, release: Release) -> bool:
        """Whether that release, one before 0.30, uses flash attention where nothing is set."""
        return _reached(self.flash_since, release)


FAMILIES: Mapping[str, Family] = {
    "bert": Family(own_engine_since=(0, 12, 2)),
    "deepseek2": Family(own_engine_since=(0, 12, 2)),
    "gemma2": Family(can_flash=False),
    "gemma3": Family(own_engine_since=(0, 11, 11), flash_since=(0, 12, 4)),
    "gemma3n": Family(own_engine_since=(0, 11, 11)),
    "gemma4": Family(own_engine_since=(0, 20, 0)),
    "glm4moelite": Family(own_engine_since=(0, 14, 3), flash_since=(0, 15, 0)),
    "gpt-oss": Family(own_engine_since=(0, 11, 11), flash_since=(0, 11, 11)),
    "lfm2": Family(single_slot_since=(0, 15, 5), own_engine_since=(0, 15, 5), flash_since=(0, 15, 5)),
    "lfm2moe": Family(single_slot_since=(0, 15, 5), own_engine_since=(0, 15, 5), flash_since=(0, 15, 5)),
    "llama4": Family(own_engine_since=(0, 11, 11)),
    "mistral3": Family(own_engine_since=(0, 11, 11), flash_since=(0, 12, 4)),
    "mllama": Family(single_slot_since=(0, 4, 1), own_engine_since=(0, 11, 11)),
    "nemotron_h": Family(single_slot_since=(0, 17, 1), own_engine_since=(0, 17, 1), flash_since=(0, 17, 1)),
    "nemotron_h_moe": Family(
        single_slot_since=(0, 17, 1), own_engine_since=(0, 17, 1), flash_since=(0, 17, 1)
    ),
    "nemotron_h_omni": Family(single_slot_since=(0, 22, 0)),
    "nomic-bert": Family(own_engine_since=(0, 12, 2)),
    "olmo3": Family(own_engine_since=(0, 13, 3), flash_since=(0, 13, 3)),
    "qwen25vl": Family(own_engine_since=(0, 11, 11)),
    "qwen3": Family(own_engine_since=(0, 12, 2), flash_since=(0, 12, 4)),
    "qwen35": Family(single_slot_since=(0, 17, 1), own_engine_since=(0, 17, 1), flash_since=(0, 17, 1)),
    "qwen35moe": Family(single_slot_since=(0, 17, 1), own_engine_since=(0, 17, 1), flash_since=(0, 17, 1)),
    "qwen3moe": Family(own_engine_since=(0, 12, 2), flash_since=(0, 12, 4)),
    "qwen3next": Family(single_slot_since=(0, 15, 5), own_engine_since=(0, 15, 5), flash_since=(0, 15, 5)),
    "qwen3vl": Family(single_slot_since=(0, 12, 7), own_engine_since=(0, 12, 7), flash_since=(0, 12, 7)),
    "qwen3vlmoe": Family(single_slot_since=(0, 12, 7), own_engine_since=(0, 12, 7), flash_since=(0, 12, 7)),
}
_OTHER = Family()


def family(name: str) -> Family:
    """The row of a family; every other family is like one that nothing is known of."""
    return FAMILIES.get(name, _OTHER)


def _reached(since: Release | None, release: Release) -> bool:
    return since is not None and release >= since
