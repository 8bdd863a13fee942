# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of models in the short form that `ollama list` prints."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import same_model, short_name


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("gemma3:4b", "gemma3:4b"),
        ("gemma3", "gemma3:latest"),
        ("library/gemma3:4b", "gemma3:4b"),
        ("registry.ollama.ai/library/gemma3:4b", "gemma3:4b"),
        ("ollama.com/library/gemma3:4b", "gemma3:4b"),
        ("REGISTRY.OLLAMA.AI/library/gemma3", "gemma3:latest"),
        ("registry.ollama.ai/somebody/model:tag", "somebody/model:tag"),
        ("hf.co/somebody/Model-GGUF:Q4_K_M", "hf.co/somebody/Model-GGUF:Q4_K_M"),
        ("hf.co/library/model", "hf.co/library/model:latest"),
        ("localhost:5000/library/model", "localhost:5000/library/model:latest"),
        ("localhost:5000/library/model:tag", "localhost:5000/library/model:tag"),
    ],
)
def test_short_name(name, short):
    assert short_name(name) == short


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("gemma3", "gemma3:latest", True),
        ("Gemma3:4B", "gemma3:4b", True),
        ("registry.ollama.ai/library/gemma3:4b", "gemma3:4b", True),
        ("gemma3:4b", "gemma3:12b", False),
        ("somebody/gemma3:4b", "gemma3:4b", False),
    ],
)
def test_same_model(first, second, same):
    assert same_model(first, second) is same
