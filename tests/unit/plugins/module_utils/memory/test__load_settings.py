# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a model may be loaded, and what is refused before anything is computed."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    HOPPER,
    OLD_WORKSPACE_BYTES,
    WORKSPACE_BYTES,
    Backend,
    LoadSettings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"context_length": 0}, "context_length is 0, expected at least 1"),
        ({"parallel": 0}, "parallel is 0, expected at least 1"),
        ({"batch": -1}, "batch is -1, expected at least 1"),
        ({"kv_cache_type": "q5_1"}, "kv_cache_type is q5_1, expected f16, q8_0, q4_0"),
        ({"flash_attention": "yes"}, "flash_attention is yes, expected auto, on, off"),
    ],
)
def test_what_the_engine_would_not_take_is_named(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        LoadSettings(**{"context_length": 4096, "parallel": 1, **values})


def test_one_of_everything_is_enough_and_the_engines_defaults_fill_the_rest():
    settings = LoadSettings(1, 1)
    # Source: llama.cpp common/common.h, n_ubatch, cache_type_k and flash_attn_type (b10488).
    assert (settings.batch, settings.kv_cache_type, settings.flash_attention) == (512, "f16", "auto")
    assert LoadSettings(1, 1, 1).batch == 1


@pytest.mark.parametrize(("cache_type", "is_quantised"), [("f16", False), ("q8_0", True), ("q4_0", True)])
def test_a_cache_of_fewer_bits_is_quantised(cache_type, is_quantised):
    assert LoadSettings(1, 1, kv_cache_type=cache_type).is_quantised is is_quantised


def test_a_usual_backend_fuses_grows_its_pool_in_place_and_takes_weights_as_they_are():
    """ggml/src/ggml-cuda/common.cuh, cublas_handle: 4 MiB of workspace, from compute capability 9.0 on 32 MiB."""
    assert Backend() == Backend(fuses=True, keeps_size_classes=False, workspace_bytes=32 << 20, dequantised_bytes=0)
    assert (OLD_WORKSPACE_BYTES, WORKSPACE_BYTES, HOPPER) == (4 << 20, 32 << 20, (9, 0))


@pytest.mark.parametrize(("fuses", "keeps_experts"), [(True, True), (False, False)])
def test_what_the_engine_does_follows_from_its_build_and_whether_it_fuses(fuses, keeps_experts):
    settings = LoadSettings(1, 1, build=parse_build("b10760"), backend=Backend(fuses=fuses))
    assert settings.engine.keeps_experts is keeps_experts
    assert not LoadSettings(1, 1).engine.keeps_experts
