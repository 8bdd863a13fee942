# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._layers import (
    convolution_state_size,
    layer_memories,
    recurrent_state_size,
    sliding_window,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._metadata import Metadata


def metadata(architecture: str, **values: Any) -> Metadata:
    keys = {f"{architecture}.{key.replace('__', '.')}": value for key, value in values.items()}
    return Metadata({"general.architecture": architecture, **keys})


def pattern(plain: Metadata, count: int) -> str:
    """One letter a layer: f(ull), s(liding), n(one), upper case where it has a recurrent state."""
    letters = []
    for memory in layer_memories(plain, count):
        letter = memory.attention[0]
        letters.append(letter.upper() if memory.is_recurrent else letter)
    return "".join(letters)


WINDOW = {"attention__sliding_window": 512}


@pytest.mark.parametrize(
    ("architecture", "values", "expected"),
    [
        ("llama", {}, "ffff"),
        ("llama", WINDOW, "ffff"),
        ("gemma2", {}, "sfsf"),
        ("gemma3", WINDOW, "sssssfsssss"),
        ("gemma3", {}, "fffff"),
        ("gemma3", {**WINDOW, "attention__sliding_window_pattern": [True, False, True, False]}, "sfsf"),
        ("gemma3", {**WINDOW, "attention__sliding_window_pattern": 2}, "sfsf"),
        ("gpt-oss", WINDOW, "sfsf"),
        ("cohere2", WINDOW, "sssf"),
        ("smallthinker", WINDOW, "fsssf"),
        ("lfm2", {**WINDOW, "attention__head_count_kv": [0, 8]}, "Ns"),
        ("exaone4", {"block_count": 64}, "sssf"),
        ("exaone4", {"block_count": 30}, "ffff"),
        ("mamba", {}, "NN"),
        ("falcon-h1", {}, "FF"),
        ("granitehybrid", {"attention__head_count_kv": [0, 4, 0]}, "NfN"),
        ("jamba", {"attention__head_count_kv": [0, 8]}, "Nf"),
        ("nemotron_h", {"attention__head_count_kv": [0, 8, 0], "feed_forward_length": [0, 0, 9]}, "Nfn"),
        ("qwen35", {}, "NNNfNNNf"),
        ("qwen3next", {"full_attention_interval": 2}, "NfNf"),
        ("qwen35moe", {"attention__recurrent_layers": [True, False]}, "Nf"),
    ],
)
def test_what_each_layer_remembers(architecture: str, values: dict[str, Any], expected: str) -> None:
    assert pattern(metadata(architecture, **values), len(expected)) == expected


def test_an_encoder_keeps_nothing() -> None:
    assert {memory.cache_layer for memory in layer_memories(metadata("bert"), 3)} == {None}


@pytest.mark.parametrize(
    ("architecture", "values", "expected"),
    [
        ("llama", {}, [0, 1, 2, 3]),
        ("gemma4", {**WINDOW, "attention__sliding_window_pattern": [True, False] * 3}, [0, 1, 2, 3, 4, 5]),
        (
            "gemma4",
            {
                **WINDOW,
                "attention__sliding_window_pattern": [True, False] * 3,
                "attention__shared_kv_layers": 2,
            },
            [0, 1, 2, 3, 2, 3],
        ),
    ],
)
def test_whose_cache_each_layer_reads(architecture: str, values: dict[str, Any], expected: list[int]) -> None:
    memories = layer_memories(metadata(architecture, **values), len(expected))
    assert [memory.cache_layer for memory in memories] == expected


def test_gemma3n_shares_after_its_twentieth_layer() -> None:
    memories = layer_memories(metadata("gemma3n", **WINDOW), 25)
    assert [memory.cache_layer for memory in memories[18:]] == [18, 19, 18, 18, 18, 18, 19]


def test_too_many_shared_caches_are_refused() -> None:
    plain = metadata("gemma4", attention__shared_kv_layers=5)
    with pytest.raises(
        ValueError, match=r"gemma4.attention.shared_kv_layers is 5, but at least 2 of the 6 layers"
    ):
        layer_memories(plain, 6)


@pytest.mark.parametrize(
    ("architecture", "values", "window"),
    [
        ("llama", WINDOW, 0),
        ("gemma3", WINDOW, 512),
        ("gemma2", {}, 4096),
        ("llama4", WINDOW, 8192),
        ("llama4", {}, 8192),
        ("smallthinker", {}, 0),
        ("exaone4", {"block_count": 30, **WINDOW}, 0),
    ],
)
def test_window(architecture: str, values: dict[str, Any], window: int) -> None:
    assert sliding_window(metadata(architecture, **values)) == window


@pytest.mark.parametrize(
    ("architecture", "values", "convolution", "state"),
    [
        ("llama", {}, 0, 0),
        (
            "mamba",
            {"ssm__conv_kernel": 4, "ssm__inner_size": 5120, "ssm__state_size": 16},
            3 * 5120,
            16 * 5120,
        ),
        (
            "mamba2",
            {"ssm__conv_kernel": 4, "ssm__inner_size": 5120, "ssm__state_size": 128, "ssm__group_count": 1},
            3 * (5120 + 256),
            128 * 5120,
        ),
        ("rwkv7", {"wkv__head_size": 64}, 2 * 2048, 64 * 2048),
        ("lfm2", {"shortconv__l_cache": 3}, 2 * 2048, 0),
        ("kimi-linear", {"kda__head_dim": 128, "ssm__conv_kernel": 4}, 3 * 3 * 32 * 128, 32 * 128 * 128),
    ],
)
def test_states(architecture: str, values: dict[str, Any], convolution: int, state: int) -> None:
    plain = metadata(architecture, embedding_length=2048, **values)
    assert convolution_state_size(plain, 32) == convolution
    assert recurrent_state_size(plain, 32) == state
