# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that are described by their architecture numbers, held against the same models' headers."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._from_numbers import (
    header_from_numbers,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host

LLAMA = {
    "architecture": "llama",
    "block_count": 32,
    "embedding_length": 4096,
    "feed_forward_length": 14336,
    "head_count": 32,
    "head_count_kv": 8,
    "context_length": 131072,
    "vocabulary_size": 128256,
}
QWEN3 = {
    "architecture": "qwen3",
    "block_count": 40,
    "embedding_length": 5120,
    "feed_forward_length": 17408,
    "head_count": 40,
    "head_count_kv": 8,
    "key_length": 128,
    "value_length": 128,
    "context_length": 40960,
    "vocabulary_size": 151936,
}
MIXTRAL = {
    **LLAMA,
    "context_length": 32768,
    "vocabulary_size": 32000,
    "expert_count": 8,
    "expert_used_count": 2,
    "quantization": "Q4_0",
}
GEMMA3 = {
    "architecture": "gemma3",
    "block_count": 34,
    "embedding_length": 2560,
    "feed_forward_length": 10240,
    "head_count": 8,
    "head_count_kv": 4,
    "key_length": 256,
    "value_length": 256,
    "sliding_window": 1024,
    "context_length": 131072,
    "vocabulary_size": 262144,
    "tied_output": True,
}


@pytest.mark.parametrize(
    ("name", "numbers", "within"),
    [
        ("llama3.1:8b", LLAMA, 0.001),
        ("qwen3:14b", QWEN3, 0.03),
        ("mixtral:8x7b", MIXTRAL, 0.01),
        ("gemma3:4b", GEMMA3, 0.01),
    ],
)
def test_numbers_take_nearly_the_memory_of_the_model_itself(installed, name, numbers, within):
    described = shape_from_header(header_from_numbers(numbers), name=name)
    for settings in (LoadSettings(4096, 1), LoadSettings(32768, 4, 1024)):
        itself, nearly = (estimate(shape, settings).gpus[0] for shape in (installed(name), described))
        assert nearly.kv_cache == itself.kv_cache
        assert nearly.total_bytes == pytest.approx(itself.total_bytes, rel=within)
    assert described.file_bytes == pytest.approx(installed(name).file_bytes, rel=within)


def test_less_compressed_weights_are_larger():
    sizes = [
        header_from_numbers({**LLAMA, "quantization": quantization})["file_bytes"]
        for quantization in ("Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16")
    ]
    assert sizes == sorted(sizes)


def test_the_size_of_the_file_may_be_given():
    assert header_from_numbers({**LLAMA, "file_bytes": 5 << 30})["file_bytes"] == 5 << 30


def test_a_described_model_is_planned_like_an_installed_one(plan, described):
    numbers = {"name": "llama3.1:8b", "numbers": LLAMA}
    planned = plan_host(gpu=described(24), models=[numbers], version="0.33.0")
    assert planned.environment == plan([24], ["llama3.1:8b"]).environment
    assert planned.basis == "estimate"
    assert planned.warnings[0].startswith("llama3.1:8b is described by its numbers")


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ([], "numbers must be a mapping of architecture numbers, found []"),
        ({}, "architecture must be llama.cpp's name of it, such as llama, found None"),
        (
            {"architecture": "mamba2"},
            "mamba2 has recurrent layers, which numbers do not describe: give its header",
        ),
        ({"architecture": "llama"}, "block_count must be a whole number from 1 to 512, found None"),
        ({**LLAMA, "head_count": -1}, "head_count must be a whole number from 1 to 16777216, found -1"),
        ({**LLAMA, "block_count": 10**6}, "block_count must be a whole number from 1 to 512, found 1000000"),
        ({**LLAMA, "embedding_length": True}, "embedding_length must be a whole number"),
        ({**LLAMA, "heads": 3}, "heads is no architecture number; known are block_count, "),
        ({**LLAMA, "quantization": "Q9"}, "quantization must be one of F16, BF16, Q8_0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_in_one_sentence(numbers, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        header_from_numbers(numbers)
