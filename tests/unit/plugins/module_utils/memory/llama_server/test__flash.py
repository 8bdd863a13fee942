# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way attention is computed, by the heads of a model and by the settings."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import (
    Attention,
    resolved,
    supports_flash_attention,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

PLAIN = shape("llama3.1:8b")


def with_heads(key: int, value: int, heads: int, heads_kv: int, **changes: object):
    """A model of one layer with such heads."""
    fields = {"key_length": key, "value_length": value, "head_count": heads, "head_count_kv": heads_kv}
    layer = replace(PLAIN.layers[0], **{**fields, **changes})
    return replace(PLAIN, block_count=1, layers=(layer,))


# What ggml_cuda_get_best_fattn_kernel has kernels for (ggml/src/ggml-cuda/fattn.cu, b10488): `switch (K->ne[0])` with
# its conditions on V->ne[0] and on gqa_ratio, query heads for each KV head.
@pytest.mark.parametrize(
    ("key", "value", "heads", "heads_kv", "is_supported"),
    [
        *((length, length, 1, 1, True) for length in (40, 64, 72, 80, 96, 112, 128, 256)),
        (32, 32, 8, 8, False),
        (48, 48, 8, 8, False),
        (128, 64, 8, 8, False),
        (64, 128, 8, 8, False),
        # 192 with 128: groups of a multiple of eight.
        (192, 128, 64, 8, True),
        (192, 128, 128, 8, True),
        (192, 128, 96, 8, False),
        (192, 128, 32, 8, False),
        (192, 192, 64, 8, False),
        # 320 with 256: of 32.
        (320, 256, 32, 1, True),
        (320, 256, 16, 1, False),
        # 512 and 576 with 512: any group, but a head by itself is none.
        (512, 512, 2, 1, True),
        (512, 512, 3, 1, True),
        (512, 512, 1, 1, False),
        (512, 512, 3, 2, False),
        (576, 512, 16, 1, True),
        (576, 512, 2, 1, True),
        (576, 512, 3, 1, True),
        (576, 512, 1, 1, False),
        (512, 512, 8, 0, False),
    ],
)
def test_flash_attention_needs_heads_that_a_kernel_exists_for(key, value, heads, heads_kv, is_supported):
    assert supports_flash_attention(with_heads(key, value, heads, heads_kv)) is is_supported


def test_grouped_heads_need_a_cache_and_layers_without_attention_need_nothing():
    assert not supports_flash_attention(with_heads(512, 512, 2, 1, cache_layer=None))
    assert supports_flash_attention(with_heads(32, 32, 8, 8, attention="none"))


def test_one_layer_that_no_kernel_exists_for_is_enough():
    odd = replace(PLAIN.layers[0], key_length=32, value_length=32)
    assert supports_flash_attention(PLAIN)
    assert not supports_flash_attention(replace(PLAIN, layers=(*PLAIN.layers[1:], odd)))


UNSUPPORTED = with_heads(32, 32, 8, 8)


@pytest.mark.parametrize(
    ("model", "flash_attention", "cache_type", "on_cpu", "attention"),
    [
        (PLAIN, "auto", "f16", False, Attention.FLASH),
        (PLAIN, "on", "q8_0", False, Attention.FLASH),
        (PLAIN, "off", "f16", False, Attention.PLAIN),
        (PLAIN, "off", "f16", True, Attention.PLAIN),
        # The cache is laid out before the engine finds that it cannot.
        (UNSUPPORTED, "auto", "f16", False, Attention.PLAIN_ROWS),
        (UNSUPPORTED, "auto", "q8_0", False, Attention.FLASH_ON_HOST),
        (UNSUPPORTED, "on", "f16", False, Attention.FLASH_ON_HOST),
        (UNSUPPORTED, "off", "f16", False, Attention.PLAIN),
        (UNSUPPORTED, "auto", "f16", True, Attention.FLASH),
        # llama_init_from_model turns it off for grok, whatever is asked.
        (replace(PLAIN, architecture="grok"), "on", "f16", False, Attention.PLAIN),
        (replace(PLAIN, architecture="grok"), "on", "f16", True, Attention.PLAIN),
    ],
)
def test_the_setting_says_what_is_wanted_and_the_heads_what_is_possible(
    model, flash_attention, cache_type, on_cpu, attention
):
    assert resolved(model, flash_attention, cache_type, on_cpu=on_cpu) is attention


@pytest.mark.parametrize(
    ("attention", "is_flash", "transposes_values"),
    [
        (Attention.FLASH, True, False),
        (Attention.FLASH_ON_HOST, True, False),
        (Attention.PLAIN, False, True),
        (Attention.PLAIN_ROWS, False, False),
    ],
)
def test_only_attention_that_was_never_meant_to_flash_turns_its_values(attention, is_flash, transposes_values):
    assert (attention.is_flash, attention.transposes_values) == (is_flash, transposes_values)
