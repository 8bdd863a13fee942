# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cells of a context and what a layer keeps in them, counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import KvCache
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    Cells,
    cells,
    compression,
    each_cache,
    kinds_of_cache,
    layer_cache,
    layers_cache,
    widest_value,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import AS_FIRST_READ
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, STEMS, shape
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.memory.llama_server.graph.reserved import (
    architectures,
    shape_of,
)

PLAIN = shape("llama3.1:8b")
SLIDING = shape("gemma3:4b")
ENCODER = shape("nomic-embed-text")
HYBRID = shape("qwen3.5:9b")
LATENT = shape("deepseek-v3.1:671b")


# n_ctx is padded to 256, divided among the slots, and padded again (llama-context.cpp, GGML_PAD(n_ctx / n_seq_max, 256));
# a window gets min(full, window + batch) cells, padded to 256 (llama-kv-cache-iswa.cpp). The window of gemma3 is 1024.
@pytest.mark.parametrize(
    ("model", "context", "slots", "batch", "laid_out"),
    [
        (PLAIN, 4096, 1, 512, Cells(4096, 0, 1, 512)),
        (PLAIN, 4097, 1, 512, Cells(4352, 0, 1, 512)),
        (PLAIN, 1, 1, 512, Cells(256, 0, 1, 1)),
        # 3 x 1000 = 3000 are 3072 in all, 1024 each.
        (PLAIN, 1000, 3, 512, Cells(1024, 0, 3, 512)),
        # 3 x 700 = 2100 are 2304 in all, 768 each.
        (PLAIN, 700, 3, 512, Cells(768, 0, 3, 512)),
        # 3 x 257 = 771 are 1024 in all, 341 each, which are 512.
        (PLAIN, 257, 3, 512, Cells(512, 0, 3, 512)),
        # No more tokens at once than there are.
        (PLAIN, 100, 2, 512, Cells(256, 0, 2, 200)),
        (ENCODER, 100, 1, 512, Cells(256, 0, 1, 256)),
        (ENCODER, 100, 2, 512, Cells(256, 0, 2, 512)),
        (SLIDING, 8192, 1, 512, Cells(8192, 1536, 1, 512)),
        (SLIDING, 8192, 1, 600, Cells(8192, 1792, 1, 600)),
        (SLIDING, 1280, 1, 512, Cells(1280, 1280, 1, 512)),
    ],
)
def test_cells_are_padded_in_all_and_for_each_slot(model, context, slots, batch, laid_out):
    assert cells(model, context, slots, batch) == laid_out


@pytest.mark.parametrize(("batch", "slots", "tokens"), [(512, 1, 512), (512, 3, 513), (510, 3, 510), (1, 4, 4)])
def test_each_slot_computes_as_many_tokens(batch, slots, tokens):
    assert Cells(4096, 0, slots, batch).tokens == tokens


ONE, TWO = Cells(4096, 0, 1, 512), Cells(4096, 0, 2, 512)
# llama3.1:8b: 8 KV heads of 128, so 1024 elements of a key and as many of a value for each cell.
ROW = 1024 * 4096


@pytest.mark.parametrize(
    ("layout", "cache_type", "kept"),
    [
        (ONE, "f16", 2 * ROW * 2),
        (TWO, "f16", 2 * 2 * ROW * 2),
        # Blocks of 32 elements: 34 bytes with eight bits, 18 with four.
        (ONE, "q8_0", 2 * ROW * 34 // 32),
        (ONE, "q4_0", 2 * ROW * 18 // 32),
    ],
)
def test_a_layer_keeps_keys_and_values_for_every_cell_of_every_slot(layout, cache_type, kept):
    for on_cpu in (False, True):
        cache = layer_cache(PLAIN, 0, layout, cache_type, transposed_values=False, on_cpu=on_cpu)
        assert cache == KvCache(full_attention_bytes=kept)


def test_values_that_lie_transposed_are_as_wide_as_the_widest_layers():
    wide = replace(PLAIN.layers[1], value_length=256)
    model = replace(PLAIN, layers=(PLAIN.layers[0], wide, *PLAIN.layers[2:]))
    assert widest_value(model) == 8 * 256
    in_rows, turned = (layer_cache(model, 0, ONE, "f16", transposed_values=turned) for turned in (False, True))
    assert in_rows.total_bytes == 2 * 2 * ROW
    assert turned.total_bytes == 2 * (ROW + 2 * ROW)


def test_a_gpu_pads_rows_of_quantised_tensors_and_a_cpu_does_not():
    narrow = replace(PLAIN.layers[0], head_count_kv=1)
    model = replace(PLAIN, layers=(narrow, *PLAIN.layers[1:]))
    on_gpu, on_cpu = (
        layer_cache(model, 0, ONE, "q8_0", transposed_values=False, on_cpu=on_cpu).total_bytes
        for on_cpu in (False, True)
    )
    # Rows of 128 elements; CUDA adds the 384 that are missing of 512 to keys and to values, and aligns both to 128 bytes.
    one = 128 * 4096 * 34 // 32
    assert on_cpu == 2 * one == 2 * 557056
    assert on_gpu == 2 * 557568 >= 2 * (one + 384 * 34 // 32)


def test_a_window_counts_as_one():
    # gemma3:4b: 4 KV heads of 256; five layers with a window, then one without.
    layout = cells(SLIDING, 8192, 1, 512)
    windowed, full = (layer_cache(SLIDING, index, layout, "f16", transposed_values=False) for index in (0, 5))
    assert windowed == KvCache(sliding_window_bytes=2 * 1024 * 1536 * 2)
    assert full == KvCache(full_attention_bytes=2 * 1024 * 8192 * 2)


def test_a_state_is_kept_for_each_slot_whatever_the_context():
    # Of 32 bits each, whatever the type of the cache.
    sizes = (HYBRID.convolution_state_size, HYBRID.recurrent_state_size)
    assert all(size % 32 == 0 for size in sizes)
    for layout in (TWO, Cells(8192, 0, 2, 512)):
        cache = layer_cache(HYBRID, 0, layout, "q8_0", transposed_values=False)
        assert cache == KvCache(recurrent_bytes=2 * 4 * sum(sizes))
    assert layer_cache(HYBRID, 3, TWO, "f16", transposed_values=False).recurrent_bytes == 0


def test_a_state_is_padded_to_what_a_buffer_aligns_to():
    odd = replace(HYBRID, convolution_state_size=1, recurrent_state_size=33)
    cache = layer_cache(odd, 0, ONE, "f16", transposed_values=False)
    assert cache.recurrent_bytes == 128 + 256


def test_latent_attention_keeps_one_row_for_keys_and_values():
    layer = LATENT.layers[0]
    # kv_lora_rank 512 and 64 elements that positions turn.
    assert layer.key_width == 576
    for turned in (False, True):
        assert layer_cache(LATENT, 0, ONE, "f16", transposed_values=turned).total_bytes == 576 * 4096 * 2


# Elements of a key, and of an indexer's; rows of 2 bytes, kept tokens of 4 with their scores.
KEY, INDEXER = 512, 128


@pytest.mark.parametrize(
    ("index", "ratio", "kept"),
    [
        # A window of 128 tokens beside a batch of 512, in cells of 256.
        (0, 0, 2 * KEY * 768),
        # A row of every 4 tokens, an indexer's of each, and 8 tokens of double width kept for both.
        (2, 4, 2 * KEY * (768 + 1024) + 2 * INDEXER * 1024 + 2 * 4 * 8 * 2 * (KEY + INDEXER)),
        # A row of every 128 tokens, rounded up to 256 of them, and 128 tokens kept.
        (3, 128, 2 * KEY * (768 + 256) + 2 * 4 * 128 * KEY),
    ],
)
def test_older_tokens_are_compressed_into_rows(index, ratio, kept):
    shape = shape_of("deepseek-v4-flash:284b", architectures()["deepseek-v4-flash:284b"])
    assert compression(shape, shape.layers[index]) == ratio
    for slots in (1, 3):
        layout = cells(shape, 4096, slots, 512)
        for on_cpu in (False, True):
            cache = layer_cache(shape, index, layout, "f16", transposed_values=False, on_cpu=on_cpu)
            assert cache == KvCache(sliding_window_bytes=slots * kept)


def test_an_indexer_keeps_keys_and_where_attention_is_not_latent_values():
    # minimax-m3: keys and values of 4 heads of 128; the first three layers are dense, the others have an indexer of 128.
    header = json.loads((DATA / "newer" / "headers" / "minimax-m3_427b.json").read_text(encoding="utf-8"))
    model = shape_from_header(header, name=header["name"])
    dense, sparse = (layer_cache(model, index, ONE, "f16", transposed_values=False) for index in (0, 3))
    assert dense.total_bytes == 2 * 4 * 128 * 4096 * 2
    assert sparse.total_bytes == dense.total_bytes + 2 * 128 * 4096 * 2


def test_a_layer_that_reads_another_ones_cache_keeps_none():
    reader = replace(PLAIN.layers[1], cache_layer=0)
    model = replace(PLAIN, layers=(PLAIN.layers[0], reader, *PLAIN.layers[2:]))
    assert layer_cache(model, 1, ONE, "f16", transposed_values=False) == KvCache()
    assert layers_cache(model, range(2), ONE, "f16", transposed_values=False).total_bytes == 2 * ROW * 2


def test_several_layers_keep_what_each_of_them_keeps():
    layout = cells(SLIDING, 8192, 1, 512)
    kept = layers_cache(SLIDING, range(7), layout, "f16", transposed_values=False)
    assert kept == KvCache(2 * 1024 * 8192 * 2, 6 * 2 * 1024 * 1536 * 2)
    assert layers_cache(SLIDING, range(0), layout, "f16", transposed_values=False) == KvCache()


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "sliding"},
        {"is_recurrent": True},
        {"cache_layer": None},
        {"key_length": 64},
        {"value_length": 64},
    ],
)
def test_layers_that_keep_different_amounts_are_told_apart(changes):
    other = replace(PLAIN.layers[1], **changes)
    model = replace(PLAIN, layers=(PLAIN.layers[0], other, *PLAIN.layers[2:]))
    assert kinds_of_cache(model)[0] != kinds_of_cache(model)[1]
    assert kinds_of_cache(model)[0] == kinds_of_cache(model)[2]


INDEXED = {**PLAIN.numbers, "attention.indexer.key_length": 64}


@pytest.mark.parametrize(
    ("numbers", "names", "differ"),
    [
        # The last block only predicts.
        ({**PLAIN.numbers, "nextn_predict_layers": 31}, ((), ()), True),
        ({**PLAIN.numbers, "nextn_predict_layers": 32}, ((), ()), False),
        # Only the second layer has an indexer; both have; no tensor says which, so that all have.
        (INDEXED, ((), ("indexer.k.weight",)), True),
        (INDEXED, (("indexer.k.weight",), ("indexer.k.weight",)), False),
        (INDEXED, ((), ()), False),
        (PLAIN.numbers, ((), ("indexer.k.weight",)), False),
    ],
)
def test_layers_that_predict_or_choose_are_told_apart(numbers, names, differ):
    forms = tuple(tuple((name, (1, 1)) for name in one) for one in names)
    first, second = (replace(layer, form=form) for layer, form in zip(PLAIN.layers, (0, 1)))
    model = replace(PLAIN, numbers=numbers, forms=forms, layers=(first, second, *PLAIN.layers[2:]))
    kinds = kinds_of_cache(model)
    assert (kinds[0] != kinds[1]) is differ


@pytest.mark.parametrize(
    ("numbers", "caches_predictions", "ahead"),
    [
        ({"nextn_predict_layers": 1}, True, 4096),
        ({"nextn_predict_layers": 1}, False, 0),
        ({"nextn_predict_layers": 0}, True, 0),
        ({}, True, 0),
    ],
)
def test_blocks_that_only_predict_have_a_cache_where_the_build_makes_one(numbers, caches_predictions, ahead):
    layers = (*PLAIN.layers[:-1], replace(PLAIN.layers[-1], cache_layer=None))
    model = replace(PLAIN, numbers=numbers, layers=layers)
    layout = cells(model, 4096, 1, 512, replace(AS_FIRST_READ, caches_predictions=caches_predictions))
    assert layout.ahead == ahead
    last = layer_cache(model, 31, layout, "f16", transposed_values=False)
    assert last == KvCache(full_attention_bytes=2 * ROW * 2 if ahead else 0)


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize("transposed_values", [False, True])
def test_the_layers_of_a_model_keep_what_each_of_them_keeps(name, transposed_values):
    model = shape(name)
    layout, half = cells(model, 8192, 2, 512), range(model.block_count // 2, model.block_count)
    for on_cpu in (False, True):
        asked = {"transposed_values": transposed_values, "on_cpu": on_cpu}
        single = [layer_cache(model, index, layout, "q8_0", **asked) for index in half]
        assert each_cache(model, half, layout, "q8_0", **asked) == single
        assert layers_cache(model, half, layout, "q8_0", **asked) == sum(single, KvCache())
