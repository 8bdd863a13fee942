# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rule a version of Ollama before 0.30 takes for a model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._formula import (
    formula_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._go_engine import (
    go_engine_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._which_rule import (
    believed_memory,
    runs_in_go_engine,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import parse
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

SETTINGS = LoadSettings(8192, 2)


# fs/ggml/ggml.go, OllamaEngineRequired(): each family by the first release that names it.
@pytest.mark.parametrize(
    ("architecture", "version", "own_engine"),
    [
        ("llama", "0.24.0", False),
        ("gemma3", "0.11.10", False),
        ("gemma3", "0.11.11", True),
        ("qwen3", "0.12.1", False),
        ("qwen3", "0.12.2-rc1", True),
    ],
)
def test_families_move_to_ollamas_own_engine_one_by_one(architecture, version, own_engine):
    model = replace(shape("gemma3:4b"), architecture=architecture)
    assert runs_in_go_engine(model, parse(version)) is own_engine


def test_what_is_believed_is_that_engines_allocation_or_the_formula():
    gemma = shape("gemma3:4b")
    before, after = parse("0.11.10"), parse("0.11.11")
    assert believed_memory(gemma, SETTINGS, before) == formula_memory(gemma, SETTINGS, before)
    assert believed_memory(gemma, SETTINGS, after) == go_engine_memory(gemma, SETTINGS, after)
    assert formula_memory(gemma, SETTINGS, after) != go_engine_memory(gemma, SETTINGS, after)
