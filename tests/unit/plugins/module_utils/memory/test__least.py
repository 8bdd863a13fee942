# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What no load of a model can do with less: held against the estimate, and counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._least import LeastMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, STEMS, shape


@pytest.mark.parametrize("name", STEMS)
def test_the_least_is_the_estimate_without_compute_buffers_where_a_batch_changes_nothing(name):
    model = shape(name)
    for context, slots in ((4096, 1), (8192, 1 if model.is_embedding else 3)):
        found = estimate(model, LoadSettings(context, slots, 1, "f16", "on")).gpus[0]
        buffers = found.weights_bytes + found.kv_cache.total_bytes + found.projector_bytes
        assert LeastMemory(model).bytes(context, slots, "f16") == buffers


@pytest.mark.parametrize(
    "name",
    [
        "first_layer_bytes",
        "output_bytes",
        "per_device_bytes",
        "projector_bytes",
        "inline_projector_bytes",
    ],
)
def test_every_byte_on_a_gpu_counts(name):
    model = shape("llama3.1:8b")
    more = replace(model, **{name: getattr(model, name) + 12345})
    assert LeastMemory(more).bytes(4096, 1, "f16") == LeastMemory(model).bytes(4096, 1, "f16") + 12345


def test_the_cache_counts_by_its_type():
    model = LeastMemory(shape("llama3.1:8b"))
    # 32 layers, 8 KV heads of 128, keys and values; two bytes an element, or 34 for 32 of them.
    elements = 32 * 2 * 8 * 128 * 4096
    assert model.bytes(4096, 1, "f16") - model.bytes(4096, 1, "q8_0") == elements * 2 - elements * 34 // 32


@pytest.mark.parametrize("build", ["b10488", "b11434"])
def test_no_build_of_the_engine_takes_less_of_a_model_that_predicts_tokens_ahead(build):
    """Newer ones keep no cache of the blocks that only predict."""
    header = json.loads((DATA / "newer" / "headers" / "glm-4.7_358b.json").read_text())
    model = shape_from_header(header, name="glm-4.7", digest="")
    found = estimate(model, LoadSettings(8192, 3, 1, "f16", "on", parse_build(build))).gpus[0]
    assert LeastMemory(model).bytes(8192, 3, "f16") <= found.weights_bytes + found.kv_cache.total_bytes


def test_a_window_is_counted_for_a_batch_of_one_token():
    model = replace(shape("gemma3:4b"), sliding_window=1023)
    # 1023 tokens and one are four times 256 cells; 29 layers slide, 4 KV heads of 256, keys and values.
    windows = LeastMemory(model).bytes(8192, 1, "f16") - LeastMemory(model).bytes(256, 1, "f16")
    assert windows == 2 * 2 * 1024 * (5 * (8192 - 256) + 29 * (1024 - 256))


def test_blocks_that_only_predict_keep_nothing():
    plain = shape("llama3.1:8b")
    predicts = replace(plain, numbers={**plain.numbers, "nextn_predict_layers": 1})
    last = replace(plain.layers[-1], cache_layer=None)
    model = replace(predicts, layers=(*plain.layers[:-1], last))
    cache = 2 * 2 * 1024 * 4096
    assert LeastMemory(plain).bytes(4096, 1, "f16") - LeastMemory(model).bytes(4096, 1, "f16") == cache


def test_what_was_computed_once_is_not_taken_for_other_settings():
    model = LeastMemory(shape("llama3.1:8b"))
    asked = [(4096, 1, "f16"), (8192, 1, "f16"), (4096, 2, "f16"), (4096, 1, "q8_0")]
    first = [model.bytes(*one) for one in asked]
    assert first == [model.bytes(*one) for one in asked]
    assert first[1] == first[2] > first[0] > first[3]
