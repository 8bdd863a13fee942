# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the layers of each architecture remember, and how much of it is recurrent."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._layers import (
    LayerMemory,
    convolution_state_size,
    layer_memories,
    recurrent_state_size,
    sliding_window,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._metadata import Metadata


def metadata(architecture, values=()):
    return Metadata(
        {
            "general.architecture": architecture,
            **{f"{architecture}.{key}": one for key, one in dict(values).items()},
        }
    )


def kinds(architecture, layer_count, values=()):
    """A letter for each layer: F(ull), S(liding), N(one); small where it has a recurrent state."""
    letters = []
    for memory in layer_memories(metadata(architecture, values), layer_count):
        letter = memory.attention[0].upper()
        letters.append(letter.lower() if memory.is_recurrent else letter)
    return "".join(letters)


def caches(architecture, layer_count, values=()):
    return [one.cache_layer for one in layer_memories(metadata(architecture, values), layer_count)]


class TestSlidingWindow:
    @pytest.mark.parametrize(
        ("architecture", "values", "window"),
        [
            ("llama", {"attention.sliding_window": 4096}, 0),
            ("gemma3", {"attention.sliding_window": 1024}, 1024),
            ("gemma3", {}, 0),
            ("gemma2", {}, 4096),
            ("gpt-oss", {"attention.sliding_window": 128}, 128),
            # Whatever the header says, but none where it says none.
            ("llama4", {"attention.sliding_window": 77}, 8192),
            ("llama4", {}, 8192),
            ("llama4", {"attention.sliding_window": 0}, 0),
            ("smallthinker", {}, 0),
            ("smallthinker", {"attention.sliding_window": 1}, 4096),
            # The 32B model of exaone4 is told by its depth.
            ("exaone4", {"block_count": 64}, 4096),
            ("exaone4", {"block_count": 30, "attention.sliding_window": 4096}, 0),
        ],
    )
    def test_is_that_of_the_header_or_of_the_architecture(self, architecture, values, window):
        assert sliding_window(metadata(architecture, values)) == window

    @pytest.mark.parametrize(
        ("architecture", "values", "expected"),
        [
            ("gemma3", {}, "FFFFFFFF"),
            ("gemma3", {"attention.sliding_window": 512}, "SSSSSFSS"),
            ("gemma2", {}, "SFSFSFSF"),
            ("gemma3n", {"attention.sliding_window": 512}, "SSSSFSSS"),
            ("laguna", {"attention.sliding_window": 512}, "FSSSFSSS"),
            ("lfm2", {"attention.sliding_window": 512, "attention.head_count_kv": 8}, "SSSSSSSS"),
            # One of one is none.
            ("gemma4", {"attention.sliding_window": 512}, "FFFFFFFF"),
            ("llama4", {}, "SSSFSSSF"),
            # The header's own interval and its own list win.
            ("gemma3", {"attention.sliding_window": 512, "attention.sliding_window_pattern": 3}, "SSFSSFSS"),
            (
                "gemma3",
                {
                    "attention.sliding_window": 512,
                    "attention.sliding_window_pattern": [False] * 7 + [True],
                },
                "FFFFFFFS",
            ),
        ],
    )
    def test_is_seen_by_some_layers(self, architecture, values, expected):
        assert kinds(architecture, 8, values) == expected

    def test_a_list_shorter_than_the_layers_is_refused(self):
        values = {"attention.sliding_window": 512, "attention.sliding_window_pattern": [True] * 7}
        with pytest.raises(
            ValueError, match=r"^gemma3\.attention\.sliding_window_pattern has 7 values for 8 layers$"
        ):
            kinds("gemma3", 8, values)


class TestRecurrentLayers:
    @pytest.mark.parametrize(
        ("architecture", "values", "expected"),
        [
            ("llama", {}, "FFFF"),
            ("mamba2", {}, "nnnn"),
            ("rwkv7", {}, "nnnn"),
            ("falcon-h1", {}, "ffff"),
            ("granitehybrid", {"attention.head_count_kv": [0, 0, 8, 0]}, "nnFn"),
            ("jamba", {"attention.head_count_kv": 8}, "FFFF"),
            # A layer with a feed-forward network has neither attention nor a state.
            (
                "nemotron_h",
                {"attention.head_count_kv": [0, 0, 8, 0], "feed_forward_length": [0, 64, 0, 0]},
                "nNFn",
            ),
            ("qwen3next", {}, "nnnF"),
            ("qwen35", {"full_attention_interval": 2}, "nFnF"),
            ("qwen35moe", {"attention.recurrent_layers": [False, True, True, False]}, "FnnF"),
        ],
    )
    def test_are_told_by_what_the_architecture_says(self, architecture, values, expected):
        assert kinds(architecture, 4, values) == expected

    def test_keep_no_kv_cache(self):
        assert caches("qwen3next", 4) == [None, None, None, 3]

    def test_beside_attention_keep_both(self):
        assert layer_memories(metadata("falcon-h1"), 1) == (LayerMemory("full", 0, True),)

    def test_an_interval_of_zero_is_refused(self):
        with pytest.raises(ValueError, match=r"^qwen35\.full_attention_interval is 0, expected 1 to "):
            kinds("qwen35", 4, {"full_attention_interval": 0})

    def test_the_number_of_kv_heads_must_be_there_to_tell_them(self):
        with pytest.raises(ValueError, match=r"^granitehybrid\.attention\.head_count_kv is missing$"):
            kinds("granitehybrid", 4)


class TestCaches:
    def test_every_layer_has_its_own(self):
        assert caches("llama", 4) == [0, 1, 2, 3]

    @pytest.mark.parametrize("architecture", ["bert", "nomic-bert", "modern-bert", "gemma-embedding"])
    def test_encoders_keep_nothing(self, architecture):
        assert caches(architecture, 3) == [None, None, None]

    def test_gemma4_shares_those_of_the_last_two_layers_that_have_one(self):
        values = {
            "attention.shared_kv_layers": 4,
            "attention.sliding_window": 512,
            "attention.sliding_window_pattern": [True, True, True, False] * 2,
        }
        assert caches("gemma4", 8, values) == [0, 1, 2, 3, 2, 2, 2, 3]

    def test_gemma3n_shares_those_after_its_twentieth_layer(self):
        found = caches("gemma3n", 30, {"attention.sliding_window": 512})
        assert found == [*range(20), 18, 18, 18, 18, 19, 18, 18, 18, 18, 19]

    def test_a_shallow_gemma3n_shares_none(self):
        assert caches("gemma3n", 3) == [0, 1, 2]

    def test_some_layers_must_have_their_own(self):
        assert caches("gemma4", 4, {"attention.shared_kv_layers": 2}) == [0, 1, 1, 1]
        with pytest.raises(
            ValueError, match=r"^gemma4\.attention\.shared_kv_layers is 3, but at least 2 of the 4 layers"
        ):
            caches("gemma4", 4, {"attention.shared_kv_layers": 3})


@pytest.mark.parametrize(
    ("values", "convolution", "recurrent"),
    [
        ({}, 0, 0),
        # RWKV: two tokens of the whole width unless it says otherwise, a matrix for each head.
        ({"wkv.head_size": 64}, 2 * 1024, 64 * 1024),
        ({"wkv.head_size": 64, "token_shift_count": 1}, 1024, 64 * 1024),
        # LFM2 remembers the inputs of a short convolution.
        ({"shortconv.l_cache": 3}, 2 * 1024, 0),
        # Kimi: three convolutions of all heads; their kernel is four where the header names none.
        ({"kda.head_dim": 128, "ssm.conv_kernel": 3}, 3 * 2 * 16 * 128, 128 * 128 * 16),
        ({"kda.head_dim": 128}, 3 * 3 * 16 * 128, 128 * 128 * 16),
        # Mamba with and without groups.
        (
            {"ssm.conv_kernel": 4, "ssm.inner_size": 4096, "ssm.state_size": 128, "ssm.group_count": 8},
            3 * (4096 + 2 * 8 * 128),
            128 * 4096,
        ),
        ({"ssm.conv_kernel": 4, "ssm.inner_size": 4096, "ssm.state_size": 16}, 3 * 4096, 16 * 4096),
        ({"ssm.conv_kernel": 0, "ssm.inner_size": 4096}, 0, 0),
    ],
)
def test_elements_of_a_recurrent_layers_states(values, convolution, recurrent):
    found = metadata("any", {"embedding_length": 1024, **values})
    assert convolution_state_size(found, 16) == convolution
    assert recurrent_state_size(found, 16) == recurrent
