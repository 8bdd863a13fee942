# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama before 0.30 believes of a model, in sum; and when it uses flash attention."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import (
    GpuMemory,
    HostMemory,
    KvCache,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    BelievedMemory,
    uses_flash_attention,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import parse
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

MIB = 1 << 20


MEMORY = BelievedMemory(
    layer_weights_bytes=(1, 20),
    caches=(KvCache(300), KvCache(0, 4000, 50000)),
    output_bytes=600000 - 1234,
    beside_output_bytes=1234,
    first_gpu_bytes=7000000,
    graph_bytes=80000000,
    partial_graph_bytes=1 << 40,
    buffer_bytes=900000000,
    host_bytes=1 << 41,
    note="as it believes",
)


@pytest.mark.parametrize(
    ("units", "is_first", "held"),
    [
        ((0,), True, GpuMemory(1, 1, KvCache(300), 5, 7000000)),
        ((1,), False, GpuMemory(1, 20, KvCache(0, 4000, 50000), 5)),
        # The output, with what Ollama keeps beside it.
        ((1, 2), False, GpuMemory(2, 20 + 600000 - 1234, KvCache(0, 4000, 50000), 5, 1234)),
        ((0, 1, 2), True, GpuMemory(3, 21 + 600000 - 1234, KvCache(300, 4000, 50000), 5, 7001234)),
        ((), False, GpuMemory(compute_bytes=5)),
    ],
)
def test_a_gpu_holds_its_layers_and_the_last_one_the_output_too(units, is_first, held):
    assert MEMORY.gpu(units, compute_bytes=5, is_first=is_first) == held


def test_what_lies_on_no_gpu_lies_in_system_memory():
    first, second = (MEMORY.gpu(units, compute_bytes=5, is_first=False) for units in ((0,), (2,)))
    memory = MEMORY.with_rest(first, second)
    assert (memory.gpus, memory.basis, memory.note) == ((first, second), "estimate", "as it believes")
    assert memory.host == HostMemory(1, 1 << 41, 20, KvCache(0, 4000, 50000))
    assert MEMORY.with_rest().host == HostMemory(3, 1 << 41, 600021 - 1234, KvCache(300, 4000, 50000))


def test_several_gpus_have_the_graph_of_a_divided_model_each():
    once = 301 + 54020 + 600000 + 7000000
    assert MEMORY.whole_bytes(1) == once + 80000000 + 900000000
    assert MEMORY.whole_bytes(2) == once + 2 * ((1 << 40) + 900000000)


def test_all_of_it_on_one_gpu_is_the_sum_of_its_parts_and_what_is_set_aside():
    memory = MEMORY
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
