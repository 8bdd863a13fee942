# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that Ollama's own engine (0.11.11 to 0.24) allocates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    MINIMUM_GPU_BYTES,
    BelievedMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._formula import (
    formula_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._go_engine import (
    go_engine_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._which_rule import (
    believed_memory,
    runs_in_go_engine,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import parse
from ansible_collections.gpufleet.ollama.tests.unit.data import STEMS, shape
from hypothesis import given, settings
from hypothesis import strategies as st

MIB = 1 << 20


def of(
    model: str | ModelShape,
    context_length: int = 4096,
    parallel: int = 1,
    version: str = "0.13.0",
    **changes: object,
) -> BelievedMemory:
    asked = LoadSettings(context_length, parallel, **{"flash_attention": "auto", **changes})
    model = shape(model) if isinstance(model, str) else model
    return go_engine_memory(model, asked, parse(version))


def shown_bytes(memory: BelievedMemory) -> int:
    """What 'ollama ps' shows: all but what is set aside, the host's part included."""
    return sum(memory.layers_bytes) + memory.last_bytes + memory.graph_bytes + memory.host_bytes


@pytest.mark.parametrize("version", ["0.11.11", "0.12.0", "0.13.0", "0.24.0"])
def test_gemma3_4b_shows_4_4_gb_with_one_slot_and_4_8_gb_with_three(version: str) -> None:
    gemma3 = replace(shape("gemma3_4b"), projector_bytes=int(811.8 * MIB))
    one, three = (of(gemma3, parallel=parallel, version=version) for parallel in (1, 3))
    assert shown_bytes(one) == pytest.approx(4.4e9, rel=0.05)
    assert shown_bytes(three) == pytest.approx(4.8e9, rel=0.05)
    assert three.kv_cache.total_bytes - one.kv_cache.total_bytes == 392 * MIB


@pytest.mark.parametrize(
    ("name", "parallel", "cells"),
    [
        # (cells of full layers, of sliding layers)
        ("gemma3_4b", 3, (5 * 3 * 4096, 29 * (3 * 1024 + 512))),
        ("gemma3_1b", 1, (4 * 4096, 22 * (512 + 512))),
        ("qwen3_8b", 2, (36 * 2 * 4096, 0)),
        ("gpt-oss_20b", 1, (12 * 4096, 12 * 4096)),
    ],
)
def test_the_cells_of_a_model(name: str, parallel: int, cells: tuple[int, int]) -> None:
    layer = shape(name).layers[0]
    row_bytes = 2 * (layer.key_width + layer.value_width)
    cache = of(name, parallel=parallel).kv_cache
    assert (cache.full_attention_bytes, cache.sliding_window_bytes) == (
        cells[0] * row_bytes,
        cells[1] * row_bytes,
    )


def test_gpt_oss_keeps_4096_tokens_per_slot_in_its_sliding_layers() -> None:
    long = of("gpt-oss_20b", 131072, 2).kv_cache
    assert long.sliding_window_bytes == 12 * (2 * 4096 + 512) * 8 * 128 * 2
    # Cells come by 256.
    assert of("gpt-oss_20b", 131072, batch=1).kv_cache.sliding_window_bytes == 12 * (4096 + 256) * 8 * 128 * 2


def test_a_recurrent_state_is_kept_for_each_slot() -> None:
    one, two = (of("granite4_tiny-h", parallel=parallel).kv_cache.recurrent_bytes for parallel in (1, 2))
    assert two == 2 * one > 0
    hybrid = shape("granite4_tiny-h")
    recurrent = sum(layer.is_recurrent for layer in hybrid.layers)
    assert one == 4 * recurrent * (hybrid.convolution_state_size + hybrid.recurrent_state_size)


def test_latent_attention_keeps_one_row_for_keys_and_values() -> None:
    latent = shape("deepseek-v2_16b-mla")
    assert (latent.block_count, latent.layers[0].key_width) == (27, 576)
    assert of(latent).kv_cache.full_attention_bytes == 27 * 4096 * 576 * 2


def test_layers_that_share_a_cache_keep_it_once() -> None:
    cache = of("gemma3n_e2b").caches
    assert [one.total_bytes > 0 for one in cache] == [
        layer.cache_layer == index for index, layer in enumerate(shape("gemma3n_e2b").layers)
    ]


def test_without_flash_attention_the_graph_grows_with_the_heads() -> None:
    with_flash, without = of("gemma3_4b", flash_attention="on"), of("gemma3_4b", flash_attention="off")
    assert without.graph_bytes > with_flash.graph_bytes
    assert of("gemma3_4b", kv_cache_type="q8_0", flash_attention="off").kv_cache == without.kv_cache
    quantised = of("gemma3_4b", kv_cache_type="q8_0", flash_attention="on").kv_cache
    assert quantised.total_bytes == with_flash.kv_cache.total_bytes * 34 // 64
    smallest = of("gemma3_4b", kv_cache_type="q4_0", flash_attention="on").kv_cache
    assert smallest.total_bytes == with_flash.kv_cache.total_bytes * 18 // 64


# llama3.2:3b: embedding, heads and their length, network; context and batch.
E, H, L, F, C, B = 3072, 24, 128, 8192, 4096, 512
MASKS = B * C
CHOSEN = {"expert_used_count": 2, "expert_feed_forward_length": 10_000}


# Half as much again as the widest point of a layer, and the masks.
@pytest.mark.parametrize(
    ("flash_attention", "numbers", "changes", "masks", "widest"),
    [
        ("on", {}, {}, 2 * MASKS, 3 * F + 2 * E + H * L),
        ("on", {}, {"value_length": 64}, None, None),
        ("off", {}, {}, 4 * MASKS, H * C + 2 * E + 2 * H * L),
        # Experts: gate, up and what they make of the input, or the results of all that are chosen.
        ("on", CHOSEN, {}, 2 * MASKS, 3 * 2 * 10_000 + 2 * E + H * L),
        (
            "on",
            {"expert_used_count": 8, "expert_feed_forward_length": 64},
            {},
            2 * MASKS,
            2 * 8 * E + 8 * 64 + 2 * E,
        ),
        # Scores of a window are over its cells: 256 tokens and a batch.
        ("off", {}, {"attention": "sliding"}, 4 * MASKS + 4 * B * (256 + B), 3 * F + 2 * E + H * L),
    ],
)
def test_the_graph_is_the_widest_point_of_a_layer(flash_attention, numbers, changes, masks, widest) -> None:
    plain = shape("llama3.2_3b")
    layers = tuple(replace(layer, **changes) for layer in plain.layers)
    window = 256 if "attention" in changes else 0
    model = replace(plain, layers=layers, sliding_window=window, numbers={**plain.numbers, **numbers})
    graph = of(model, flash_attention=flash_attention).graph_bytes
    if masks is None:
        # Keys and values of different lengths: no flash attention, and the longer one counts.
        masks, widest = 4 * MASKS, H * C + 2 * E + 2 * H * L
    assert graph == masks + 4 * B * widest * 3 // 2


def test_a_layer_without_attention_or_state_keeps_nothing() -> None:
    plain = shape("llama3.2_3b")
    layers = (replace(plain.layers[0], attention="none"), *plain.layers[1:])
    first, second, *_others = of(replace(plain, layers=layers)).caches
    assert (first.total_bytes, second.total_bytes) == (0, 4096 * 2 * 8 * 128 * 2)


def test_weights_and_what_lies_beside_them_are_the_files() -> None:
    model = shape("llama3.2_3b")
    memory = of(model)
    assert memory.layer_weights_bytes == tuple(layer.weights_bytes for layer in model.layers)
    assert (memory.output_bytes, memory.host_bytes) == (model.output_bytes, model.input_host_bytes)
    assert (memory.first_gpu_bytes, memory.buffer_bytes, memory.beside_output_bytes) == (0, 0, 0)
    assert memory.graph_bytes == memory.partial_graph_bytes


def test_a_projector_has_at_least_its_own_graph() -> None:
    plain = shape("llama3.2_3b")
    inside = replace(plain, inline_projector_bytes=MIB)
    apart = replace(plain, projector_bytes=2 * MIB, inline_projector_bytes=MIB)
    # Half as much again as the 122 MiB that llama.cpp needs for gemma3's, unless the text needs more.
    assert of(inside, flash_attention="on").graph_bytes == 183 * MIB
    assert of(inside, flash_attention="off").graph_bytes == of(plain, flash_attention="off").graph_bytes > 183 * MIB
    lasts = [of(model).last_bytes - of(plain).last_bytes for model in (inside, apart)]
    assert lasts == [MIB, 2 * MIB]


QWEN = {"vision.patch_size": 14, "vision.attention.head_count": 16}
PIXTRAL = {**QWEN, "vision.image_size": 1540}


# Sources: ollama issues 13687 and 13722: qwen2.5vl took 1.8 GiB for its graph, and takes 6.7 GiB from 0.13.4 on.
@pytest.mark.parametrize(
    ("architecture", "numbers", "version", "flash", "mib"),
    [
        ("qwen25vl", QWEN, "0.13.3", "on", 1883),
        ("qwen25vl", QWEN, "0.13.4", "on", 7606),
        ("qwen25vl", {**QWEN, "vision.max_pixels": 1003520}, "0.24.0", "off", 1883),
        ("qwen3vl", {**QWEN, "vision.patch_size": 16}, "0.13.0", "off", 4279),
        ("qwen3vl", {**QWEN, "vision.patch_size": 16}, "0.13.0", "on", 183),
        ("mistral3", PIXTRAL, "0.13.0", "off", 9119),
        ("mistral3", PIXTRAL, "0.13.0", "on", 183),
        ("gemma3", PIXTRAL, "0.13.0", "on", 183),
    ],
)
def test_the_graph_of_a_vision_tower_is_that_of_the_largest_image(
    architecture: str, numbers: dict[str, int], version: str, flash: str, mib: int
) -> None:
    plain = shape("llama3.2_3b")
    vision = replace(
        plain, architecture=architecture, inline_projector_bytes=MIB, numbers={**plain.numbers, **numbers}
    )
    assert of(vision, version=version, flash_attention=flash).graph_bytes // MIB == mib


@pytest.mark.parametrize(
    ("context", "parallel", "batch", "cells"),
    [(4000, 1, 512, 4096), (4000, 3, 512, 12032), (100, 1, 512, 256), (100, 3, 512, 512)],
)
def test_cells_are_padded_in_all(context: int, parallel: int, batch: int, cells: int) -> None:
    cache = of("llama3.2_3b", context, parallel, batch=batch).kv_cache
    assert cache.total_bytes == cells * 28 * 2 * 8 * 128 * 2


@pytest.mark.parametrize(
    ("name", "version", "own"),
    [
        ("gemma3_4b", "0.11.10", False),
        ("gemma3_4b", "0.11.11", True),
        ("qwen3_8b", "0.12.1", False),
        ("qwen3_8b", "0.12.2", True),
        ("gemma4_12b", "0.24.0", True),
        ("llama3.1_8b", "0.24.0", False),
    ],
)
def test_which_models_run_in_the_own_engine(name: str, version: str, own: bool) -> None:
    assert runs_in_go_engine(shape(name), parse(version)) is own
    expected = go_engine_memory if own else formula_memory
    asked = LoadSettings(4096, 2)
    assert believed_memory(shape(name), asked, parse(version)) == expected(shape(name), asked, parse(version))


@settings(deadline=None)
@given(
    st.sampled_from(STEMS), st.integers(1, 65536), st.integers(1, 16), st.sampled_from(["on", "off", "auto"])
)
def test_more_never_needs_less(name: str, context_length: int, parallel: int, flash: str) -> None:
    less = of(name, context_length, parallel, flash_attention=flash)
    more = of(name, context_length + 512, parallel + 1, flash_attention=flash)
    assert len(less.layers_bytes) == shape(name).block_count
    assert 0 < less.required_bytes <= more.required_bytes


@pytest.mark.parametrize("version", ["0.10.0", "0.11.11", "0.24.0"])
@pytest.mark.parametrize("name", ["gemma3_4b", "llama3.1_8b", "qwen3_8b"])
def test_on_one_gpu_lies_all_that_is_required_but_for_what_is_set_aside(name: str, version: str) -> None:
    vision = replace(shape(name), inline_projector_bytes=812 * MIB)
    believed = believed_memory(vision, LoadSettings(4096, 2), parse(version))
    told = believed.on_one_gpu()
    assert told.gpu_bytes + MINIMUM_GPU_BYTES == believed.required_bytes
    assert told.gpus[0].kv_cache == believed.kv_cache
    assert (told.host.layers, told.host.weights_bytes) == (0, 0)
    assert told.basis == "estimate"
    assert told.note == believed.note
