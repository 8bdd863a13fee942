# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama before 0.30 believes of a model, in sum; and when it uses flash attention."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import KvCache
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    BelievedMemory,
    uses_flash_attention,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import parse
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

MIB = 1 << 20


def test_all_of_it_on_one_gpu_is_the_sum_of_its_parts_and_what_is_set_aside():
    memory = BelievedMemory(
        layer_weights_bytes=(1, 20),
        caches=(KvCache(300), KvCache(0, 4000, 50000)),
        output_bytes=600000 - 1234,
        beside_output_bytes=1234,
        first_gpu_bytes=7000000,
        graph_bytes=80000000,
        partial_graph_bytes=1 << 40,
        buffer_bytes=900000000,
        host_bytes=1 << 41,
        note="",
    )
    assert memory.layers_bytes == (301, 54020)
    assert memory.kv_cache == KvCache(300, 4000, 50000)
    assert memory.last_bytes == 600000
    # ml/device.go, MinimumMemory(): 457 MiB. The graph of a divided model and what is on the host do not count.
    assert memory.required_bytes == 457 * MIB + 987654321
    whole = memory.on_one_gpu()
    assert (whole.gpus[0].total_bytes, whole.gpus[0].projector_bytes) == (987654321, 7001234)
    assert (whole.host.layers, whole.host.weights_bytes, whole.host.kv_cache) == (0, 0, KvCache())


LLAMA, GEMMA3, GPT_OSS = shape("llama3.1:8b"), shape("gemma3:4b"), shape("gpt-oss:20b")


# fs/ggml/ggml.go: SupportsFlashAttention() wants heads alike and no embedding model and names gemma2 as one that cannot;
# FlashAttention() names the families that use it unasked.
@pytest.mark.parametrize(
    ("model", "flash_attention", "version", "uses"),
    [
        (LLAMA, "on", "0.12.6", True),
        (LLAMA, "auto", "0.12.6", False),
        (LLAMA, "off", "0.12.6", False),
        (GEMMA3, "auto", "0.12.3", False),
        (GEMMA3, "auto", "0.12.4", True),
        (GPT_OSS, "auto", "0.24.0", True),
        (GPT_OSS, "off", "0.24.0", False),
        (replace(LLAMA, capabilities=("embedding",)), "on", "0.12.6", False),
        (replace(LLAMA, architecture="gemma2"), "on", "0.12.6", False),
        (replace(LLAMA, layers=(replace(LLAMA.layers[0], value_length=64), *LLAMA.layers[1:])), "on", "0.12.6", False),
        (
            replace(LLAMA, layers=(replace(LLAMA.layers[0], value_length=64, attention="sliding"), *LLAMA.layers[1:])),
            "on",
            "0.12.6",
            False,
        ),
        # Layers without attention have no heads that could differ.
        (
            replace(LLAMA, layers=(replace(LLAMA.layers[0], value_length=64, attention="none"), *LLAMA.layers[1:])),
            "on",
            "0.12.6",
            True,
        ),
    ],
)
def test_flash_attention_is_used_where_asked_or_by_families_that_want_it(model, flash_attention, version, uses):
    assert uses_flash_attention(model, flash_attention, parse(version)) is uses
