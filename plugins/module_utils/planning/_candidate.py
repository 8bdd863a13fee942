# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One candidate of the search: values for the settings that a plan decides."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

# What a plan decides. Whoever else sets them, the plan's own value counts.
PLANNED_VARIABLES = (
    "OLLAMA_NUM_PARALLEL",
    "OLLAMA_MAX_LOADED_MODELS",
    "OLLAMA_CONTEXT_LENGTH",
    "OLLAMA_KV_CACHE_TYPE",
    "OLLAMA_SCHED_SPREAD",
)


@dataclass(frozen=True)
class Candidate:
    """Values of the settings that a plan chooses; `context_length` in tokens per request."""

    parallel: int
    context_length: int
    kv_cache_type: str = "f16"
    spread: bool = False

    def environment(self, max_loaded_models: int) -> dict[str, str]:
        """The variables that give Ollama these values; what is Ollama's default is left out."""
        environment = {
            "OLLAMA_NUM_PARALLEL": str(self.parallel),
            "OLLAMA_MAX_LOADED_MODELS": str(max_loaded_models),
            "OLLAMA_CONTEXT_LENGTH": str(self.context_length),
        }
        if self.kv_cache_type != "f16":
            # Up to 0.24 Ollama ignores the type without flash attention, from 0.30 on the engine refuses it.
            environment["OLLAMA_KV_CACHE_TYPE"] = self.kv_cache_type
            environment["OLLAMA_FLASH_ATTENTION"] = "1"
        if self.spread:
            environment["OLLAMA_SCHED_SPREAD"] = "1"
        return environment
