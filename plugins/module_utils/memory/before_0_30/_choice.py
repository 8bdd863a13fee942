# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the two rules of Ollama before 0.30 a version takes for a model: its own engine's, or the formula."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed import (
    BelievedMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._formula import (
    formula_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._go_engine import (
    go_engine_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._versions import (
    FIRST_GO_ENGINE,
    Version,
)

# The architectures that run in this engine, by the first release that has them.
# Source: ollama fs/ggml/ggml.go, OllamaEngineRequired() (0.11.11 to 0.24).
ARCHITECTURES_SINCE = {
    "gemma3": FIRST_GO_ENGINE,
    "gemma3n": FIRST_GO_ENGINE,
    "gpt-oss": FIRST_GO_ENGINE,
    "llama4": FIRST_GO_ENGINE,
    "mistral3": FIRST_GO_ENGINE,
    "mllama": FIRST_GO_ENGINE,
    "qwen25vl": FIRST_GO_ENGINE,
    "bert": (0, 12, 2),
    "nomic-bert": (0, 12, 2),
    "deepseek2": (0, 12, 2),
    "qwen3": (0, 12, 2),
    "qwen3moe": (0, 12, 2),
    "qwen3vl": (0, 12, 7),
    "qwen3vlmoe": (0, 12, 7),
    "olmo3": (0, 13, 3),
    "glm4moelite": (0, 14, 3),
    "lfm2": (0, 15, 5),
    "lfm2moe": (0, 15, 5),
    "qwen3next": (0, 15, 5),
    "qwen35": (0, 17, 1),
    "qwen35moe": (0, 17, 1),
    "nemotron_h": (0, 17, 1),
    "nemotron_h_moe": (0, 17, 1),
    "gemma4": (0, 20, 0),
}


def runs_in_go_engine(shape: ModelShape, version: Version) -> bool:
    """Whether this version of Ollama runs a model of this architecture in its own engine."""
    since = ARCHITECTURES_SINCE.get(shape.architecture)
    return since is not None and version.release >= since


def believed_memory(shape: ModelShape, settings: LoadSettings, version: Version) -> BelievedMemory:
    """What a version of Ollama before 0.30 takes a model for: its engine's allocation, else the formula."""
    compute = go_engine_memory if runs_in_go_engine(shape, version) else formula_memory
    return compute(shape, settings, version)
