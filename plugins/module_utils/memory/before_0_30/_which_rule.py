# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the two rules of Ollama before 0.30 a version takes for a model: its own engine's, or the formula."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    BelievedMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._formula import (
    formula_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._go_engine import (
    go_engine_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._families import family
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import Version


def runs_in_go_engine(shape: ModelShape, version: Version) -> bool:
    """Whether this version of Ollama runs a model of this architecture in its own engine."""
    return family(shape.architecture).has_own_engine(version.release)


def believed_memory(shape: ModelShape, settings: LoadSettings, version: Version) -> BelievedMemory:
    """What a version of Ollama before 0.30 takes a model for: its engine's allocation, else the formula."""
    compute = go_engine_memory if runs_in_go_engine(shape, version) else formula_memory
    return compute(shape, settings, version)
