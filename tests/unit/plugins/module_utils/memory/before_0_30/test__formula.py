# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that Ollama 0.10.0 to 0.11.10 computes by formula."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    MINIMUM_GPU_BYTES,
    BelievedMemory,
    uses_flash_attention,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._formula import (
    formula_memory,
    vision_graph_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import parse
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, HEADERS, STEMS, bench, shape
from hypothesis import given, settings
from hypothesis import strategies as st

MIB = 1 << 20


def of(
    model: str | ModelShape,
    context_length: int = 4096,
    parallel: int = 1,
    version: str = "0.11.8",
    **changes: object,
) -> BelievedMemory:
    asked = LoadSettings(context_length, parallel, **{"flash_attention": "off", **changes})
    model = shape(model) if isinstance(model, str) else model
    return formula_memory(model, asked, parse(version))


def test_what_users_reported_is_met_within_a_tenth_or_named_with_its_reason() -> None:
    with (DATA / "ollama_reported.csv").open(newline="") as lines:
        found = bench("reported").findings(csv.DictReader(lines), HEADERS)
    compared = [one for one in found if not one.reason]
    assert {one.model for one in compared} == {
        "Qwen3-30B-A3B-Instruct-2507",
        "devstral 24b fp16",
        "gemma3:12b",
        "gemma3:1b",
        "gemma3:4b",
        "gpt-oss:120b (sha 90a618fe)",
        "gpt-oss:20b",
        "llama3.2:3b",
        "qwen2.5-coder:7b (sha 60e05f21)",
        "qwen3-30b-a3b-2507",
    }
    assert len(compared) == 15
    assert [one for one in compared if abs(one.error_percent) > 10] == []


@pytest.mark.parametrize(
    ("name", "parallel", "kv_bytes"),
    [
        # Full attention: context x layers x KV heads x (key + value) x 2 bytes.
        ("llama3.1_8b", 1, 4096 * 32 * 8 * 256 * 2),
        ("llama3.1_8b", 3, 3 * 4096 * 32 * 8 * 256 * 2),
        # gemma3: 5 global layers of 34, the others one window of 1024 per slot and one batch.
        ("gemma3_4b", 1, (5 * 4096 + 29 * (1024 + 512)) * 4 * 512 * 2),
        ("gemma3_4b", 3, (5 * 3 * 4096 + 29 * (3 * 1024 + 512)) * 4 * 512 * 2),
        # gpt-oss: every other layer keeps 4096 tokens per slot and one batch.
        ("gpt-oss_20b", 2, (12 * 2 * 4096 + 12 * (2 * 4096 + 512)) * 8 * 128 * 2),
    ],
)
def test_the_cache_of_a_model(name: str, parallel: int, kv_bytes: int) -> None:
    assert of(name, parallel=parallel).kv_cache.total_bytes == kv_bytes


def test_a_layer_without_kv_heads_is_recurrent_and_independent_of_the_context() -> None:
    cache = of("granite4_tiny-h").kv_cache
    assert cache.recurrent_bytes > 0
    assert of("granite4_tiny-h", 65536).kv_cache.recurrent_bytes == cache.recurrent_bytes


@pytest.mark.parametrize(
    ("name", "context_length", "graph_mib"),
    [
        ("llama3.1_8b", 4096, 4 * 512 * (1 + 4 * 4096 + 4096 * 33) / MIB),
        ("qwen2.5_7b", 32768, 4 * 512 * (1 + 2 * 3584 + 32768 * 29) / MIB),
        ("gemma3_4b", 4096, 4 * 512 * (2560 + 262144) / MIB),
        ("command-r_35b", 4096, 4 * 512 * (2 + 4 * 8192 + 4096 * 65) / MIB),
        # No formula of its own: the cache times the heads per KV head, by six.
        ("qwen3_8b", 4096, 4 * 4096 * 36 * 8 * 256 * 2 / 6 / MIB),
    ],
)
def test_the_graph_of_an_architecture(name: str, context_length: int, graph_mib: float) -> None:
    assert of(name, context_length).graph_bytes / MIB == pytest.approx(graph_mib, rel=1e-3)


# llama3.2:3b by other names: embedding, heads, KV heads, length of a head, of a key as the header has it, context, batch.
E, H, KV, L, K, C, B = 3072, 24, 8, 128, 96, 4096, 512
FEW, MANY = 10, 10_000_000
MOVED, OUT = E * MANY * 105 // 128, 4 * B * (E + MANY)
EXPERTS = {"expert_count": 8, "feed_forward_length": 8192}
GATE_BYTES = 8 * 8192 * E


# Term by term as GraphSize() has them, (full, partial); each case of a max once by a small and once by a large vocabulary.
@pytest.mark.parametrize(
    ("architecture", "vocabulary", "full", "partial"),
    [
        (
            "llama",
            FEW,
            4 * B * (1 + 4 * E + C * (1 + H)),
            4 * B * E + 4 * B * (1 + E + C) + E * E * 9 // 16 + 4 * C * (B * H + L * KV),
        ),
        ("llama4", MANY, OUT, 4 * B * E + OUT + MOVED),
        *(
            (
                gemma,
                FEW,
                times * 4 * B * (2 + C + C * H + 2 * E + 2 * K * H),
                times * (4 * B * (2 * E + 1 + 2 * K * H + C + C * H) + 4 * K * C * 8 + E * K * H * 9 // 16),
            )
            for gemma, times in (("gemma", 1), ("gemma2", 1), ("gemma3n", 4))
        ),
        ("gemma", MANY, OUT, OUT + MOVED),
        ("gemma3n", MANY, 4 * OUT, 4 * (OUT + MOVED)),
        (
            "command-r",
            FEW,
            4 * B * (2 + 4 * E + C * (1 + H)),
            4 * B * (1 + 2 * E + C * (1 + H)) + 4 * E * C + E * E * 9 // 16,
        ),
        ("command-r", MANY, OUT, OUT + MOVED),
        (
            "qwen2",
            FEW,
            4 * B * (1 + 2 * E + C + C * H),
            4 * (B * (1 + 2 * E + C * (1 + H)) + E * (1 + C)),
        ),
        ("qwen2", MANY, OUT, OUT + MOVED),
        ("phi2", FEW, 4 * B * (1 + 4 * E + C + C * H), 4 * B * (2 + 3 * E + C + C * H)),
        ("phi2", MANY, OUT, 4 * B * (2 * E + MANY) + MOVED),
        ("stablelm", FEW, 4 * B * (C * (1 + H) + 3 * E + 2), 4 * B * (C * (1 + H) + 3 * E + 2)),
        ("stablelm", MANY, 4 * B * (C * (1 + H) + 3 * E + 2), 4 * B * (MANY + 2 * E)),
        (
            "deepseek2",
            FEW,
            4 * B * (3 * E + 2 + C * (1 + KV) + 2 * K * KV),
            4 * B * (2 * E + 1 + 2 * K * KV + C + C * KV) + 4 * K * C * KV + E * K * KV * 9 // 16,
        ),
        ("deepseek2", MANY, 4 * B * (3 * E + MANY), 4 * B * (3 * E + MANY) + MOVED),
        ("chatglm", MANY, OUT, OUT + MOVED),
    ],
)
def test_the_graphs_are_those_of_graph_size(architecture: str, vocabulary: int, full: int, partial: int) -> None:
    plain = shape("llama3.2_3b")
    numbers = {**plain.numbers, "attention.key_length": K}
    memory = of(replace(plain, architecture=architecture, vocabulary_size=vocabulary, numbers=numbers))
    assert (memory.graph_bytes, memory.partial_graph_bytes) == (full, partial)


@pytest.mark.parametrize(
    ("gate_bytes", "context", "partial"),
    [
        # The gates thrice and the results beside them, or the scores where the context is long.
        (GATE_BYTES, 512, 3 * GATE_BYTES + 4 * 512 * (2 * 8192 + KV + E + 512 + L * KV)),
        (8, C, 4 * (C * B * H + C * L * KV + B * 1024 + L * KV * B)),
    ],
)
def test_the_partial_graph_of_experts(gate_bytes: int, context: int, partial: int) -> None:
    plain = shape("llama3.2_3b")
    # Half of a layer's elements are its gates.
    form = (("ffn_gate_exps.weight", (E, 8)), ("ffn_up_exps.weight", (E, 8)))
    layers = tuple(replace(layer, form=0, weights_bytes=2 * gate_bytes) for layer in plain.layers)
    model = replace(plain, forms=(form,), layers=layers, numbers={**plain.numbers, **EXPERTS})
    assert of(model, context).partial_graph_bytes == partial


@pytest.mark.parametrize(
    ("asked", "context", "batch"), [(512, 4096, 512), (512, 512, 512), (512, 511, 511), (1024, 4096, 1024)]
)
def test_no_more_tokens_are_computed_at_once_than_one_slot_has(asked: int, context: int, batch: int) -> None:
    model = replace(shape("llama3.2_3b"), architecture="chatglm", vocabulary_size=MANY)
    assert of(model, context, 3, batch=asked).graph_bytes == 4 * batch * (E + MANY)


def test_a_recurrent_state_is_what_the_header_says_in_32_bits() -> None:
    """fs/ggml/ggml.go, GraphSize(): nEmbdS and nEmbdR of a layer without KV heads."""
    plain = shape("llama3.2_3b")
    numbers = {"ssm.state_size": 16, "ssm.inner_size": 512, "ssm.group_count": 2, "ssm.conv_kernel": 4}
    layers = (replace(plain.layers[0], head_count_kv=0), *plain.layers[1:])
    of_first = [
        of(replace(plain, layers=layers, numbers=given)).caches[0].total_bytes
        for given in (numbers, {**numbers, "ssm.conv_kernel": 0})
    ]
    assert of_first == [4 * (16 * 512 + 3 * (512 + 2 * 2 * 16)), 4 * 16 * 512]


def test_which_layers_slide() -> None:
    """Every sixth layer of gemma3 sees all, of gpt-oss every other from the second on."""
    for name, full in (("gemma3_4b", [5, 11, 17, 23, 29]), ("gpt-oss_20b", list(range(1, 24, 2)))):
        caches = of(name).caches
        assert [index for index, cache in enumerate(caches) if cache.full_attention_bytes] == full
        assert all(bool(cache.sliding_window_bytes) != (index in full) for index, cache in enumerate(caches))


def with_layers(changes: dict[int, dict[str, object]], name: str = "llama3.2_3b", **more: object) -> ModelShape:
    plain = shape(name)
    layers = tuple(replace(layer, **changes.get(index, {})) for index, layer in enumerate(plain.layers))
    return replace(plain, layers=layers, **more)


def test_room_is_kept_for_one_more_layer_like_the_first() -> None:
    memory = of(with_layers({0: {"weights_bytes": 1000, "head_count_kv": 2}}))
    assert memory.buffer_bytes == 1000 + 2 * 2 * 128 * 4096 * 2


@pytest.mark.parametrize(
    ("changes", "graph"),
    [
        # Without a formula of its own: the caches, times the heads for each KV head where these are fewest, by six.
        ({}, H // KV * 28 * 2 * KV * L * C * 2 // 6),
        ({3: {"head_count_kv": 4}}, H // 4 * (27 * KV + 4) * 2 * L * C * 2 // 6),
        # A layer without KV heads keeps a state, which this header does not tell of; then each head counts.
        ({3: {"head_count_kv": 0}}, H * 27 * 2 * KV * L * C * 2 // 6),
        # The most heads of any layer.
        ({3: {"head_count": 2 * H}}, 2 * H // KV * 28 * 2 * KV * L * C * 2 // 6),
    ],
)
def test_the_graph_of_an_architecture_that_has_no_formula(changes: dict[int, dict[str, object]], graph: int) -> None:
    memory = of(with_layers(changes, architecture="falcon"))
    assert (memory.graph_bytes, memory.partial_graph_bytes) == (graph, graph)


def test_without_any_head_one_is_counted() -> None:
    every = {index: {"head_count": 0, "head_count_kv": 0} for index in range(28)}
    numbers = {"ssm.state_size": 16, "ssm.inner_size": 512}
    memory = of(with_layers(every, architecture="mamba", numbers=numbers))
    assert memory.graph_bytes == 28 * 4 * 16 * 512 // 6


@pytest.mark.parametrize(("heads_kv", "divisor"), [(8, 8), (1, 1), (0, 1)])
def test_gpt_oss_takes_its_caches_as_if_none_slid(heads_kv: int, divisor: int) -> None:
    every = {index: {"head_count_kv": heads_kv} for index in range(24)}
    numbers = {"ssm.state_size": 16, "ssm.inner_size": 512}
    model = with_layers(every, "gpt-oss_20b", numbers=numbers)
    plain = 24 * (2 * heads_kv * 64 * C * 2 if heads_kv else 4 * 16 * 512)
    assert of(model).partial_graph_bytes == 2 * (64 // divisor) * plain // 6


def test_heads_are_as_long_as_the_embedding_shared_by_the_fewest_of_them() -> None:
    """fs/ggml/ggml.go, GraphSize(): embeddingHeads is of the smallest head count, where the header has no key length."""
    model = with_layers(
        {0: {"head_count": 12}}, architecture="gemma", numbers={}, vocabulary_size=FEW
    )
    assert of(model).graph_bytes == 4 * B * (2 + C * (1 + H) + 2 * E + 2 * (E // 12) * H)


@pytest.mark.parametrize(
    ("form", "gate_bytes"),
    [
        ((("ffn_gate_exps.weight", (2, 3)), ("ffn_up_exps.weight", (2, 3, 4))), 1000 * 6 // 30),
        ((("ffn_up_exps.weight", (2, 3, 4)),), 0),
        ((), 0),
    ],
)
def test_experts_gates_are_those_of_the_first_layer(form: tuple[object, ...], gate_bytes: int) -> None:
    plain = shape("llama3.2_3b")
    forms = (form, (("ffn_gate_exps.weight", (7, 7)),))
    model = with_layers({0: {"weights_bytes": 1000}}, forms=forms, numbers={**plain.numbers, **EXPERTS})
    layers = (replace(model.layers[0], form=0), *(replace(layer, form=1) for layer in model.layers[1:]))
    found = of(replace(model, layers=layers), 512).partial_graph_bytes
    assert found == 3 * gate_bytes + 4 * 512 * (2 * 8192 + KV + E + 512 + L * KV)


def test_a_projector_in_a_file_of_its_own_goes_before_one_inside() -> None:
    both = replace(shape("gemma3_4b"), inline_projector_bytes=812 * MIB, projector_bytes=MIB)
    memory = of(both)
    assert (memory.first_gpu_bytes, memory.beside_output_bytes) == (MIB, 0)
    assert of("gemma3_4b").beside_output_bytes == 0


def test_a_vision_tower_has_three_colours_and_a_million_pixels_unless_told() -> None:
    numbers = {"vision.patch_size": 14, "vision.attention.head_count": 8, "vision.embedding_length": 512}
    qwen = replace(shape("llama3.2_3b"), architecture="qwen25vl", numbers=numbers)
    pixels = 28 * 28 * 1280
    patches = pixels // 196
    assert vision_graph_bytes(qwen) == 4 * (2 * pixels * 3 + patches * (3 * 196 + patches * 8 + 512))


def test_the_graph_of_gpt_oss_halved_with_0_11_5_and_is_small_with_flash_attention() -> None:
    newer, older = of("gpt-oss_20b", version="0.11.5"), of("gpt-oss_20b", version="0.11.4")
    assert newer.graph_bytes == of("gpt-oss_20b").graph_bytes
    assert older.graph_bytes == 2 * newer.graph_bytes
    flash = of("gpt-oss_20b", parallel=2, flash_attention="on")
    assert flash.graph_bytes == (4 * 2 + 8 + 110) * MIB


@pytest.mark.parametrize(
    "architecture", ["gemma3n", "phi2", "stablelm", "chatglm", "deepseek2", "llama4", "falcon"]
)
def test_other_architectures_have_a_graph_too(architecture: str) -> None:
    other = replace(shape("llama3.2_3b"), architecture=architecture)
    memory = of(other)
    assert memory.graph_bytes > 0
    assert memory.partial_graph_bytes > 0


def test_experts_of_llama_models_enlarge_the_partial_graph() -> None:
    dense = replace(shape("mixtral_8x7b"), numbers={**shape("mixtral_8x7b").numbers, "expert_count": 0})
    assert of("mixtral_8x7b").graph_bytes == of(dense).graph_bytes
    assert of("mixtral_8x7b").partial_graph_bytes > of(dense).partial_graph_bytes


def test_all_of_it_is_required_with_a_minimum_and_a_layer_to_spare() -> None:
    memory = of("llama3.1_8b")
    assert memory.required_bytes == (
        MINIMUM_GPU_BYTES
        + memory.buffer_bytes
        + sum(memory.layer_weights_bytes)
        + memory.kv_cache.total_bytes
        + shape("llama3.1_8b").output_bytes
        + memory.graph_bytes
    )
    assert memory.buffer_bytes == memory.layers_bytes[0]


@pytest.mark.parametrize(
    ("name", "asked", "version", "flash"),
    [
        ("llama3.1_8b", "on", "0.11.8", True),
        ("llama3.1_8b", "auto", "0.11.8", False),
        ("gpt-oss_20b", "auto", "0.11.10", False),
        ("gpt-oss_20b", "auto", "0.11.11", True),
        ("gemma3_4b", "auto", "0.12.3", False),
        ("gemma3_4b", "auto", "0.12.4", True),
        ("gemma3_4b", "off", "0.12.4", False),
        ("gemma2_9b", "on", "0.24.0", False),
        ("nomic-embed-text", "on", "0.24.0", False),
        ("deepseek-v2_16b", "on", "0.24.0", False),
    ],
)
def test_which_models_run_with_flash_attention(name: str, asked: str, version: str, flash: bool) -> None:
    assert uses_flash_attention(shape(name), asked, parse(version)) is flash


def test_the_cache_is_quantised_only_with_flash_attention() -> None:
    plain = of("llama3.1_8b").kv_cache.total_bytes
    assert of("llama3.1_8b", flash_attention="on").kv_cache.total_bytes == plain
    assert of("llama3.1_8b", kv_cache_type="q8_0").kv_cache.total_bytes == plain
    assert of("llama3.1_8b", kv_cache_type="q8_0", flash_attention="on").kv_cache.total_bytes == plain // 2
    assert of("llama3.1_8b", kv_cache_type="q4_0", flash_attention="on").kv_cache.total_bytes == plain // 4


def test_a_projector_inside_the_file_lies_beside_the_output_and_needs_a_graph() -> None:
    inside = replace(shape("gemma3_4b"), inline_projector_bytes=812 * MIB)
    apart = replace(shape("gemma3_4b"), projector_bytes=812 * MIB)
    graph = 4 * (896 * 896 * 3 + 1152 * 14 + 4096 * 4096 * 16)
    assert vision_graph_bytes(inside) == graph
    assert of(inside).last_bytes - of("gemma3_4b").last_bytes == 812 * MIB + graph
    assert of(apart).first_gpu_bytes == 812 * MIB
    assert of(apart).last_bytes == of("gemma3_4b").last_bytes


def test_a_vision_graph_follows_from_the_files_own_numbers() -> None:
    numbers = {
        "vision.image_size": 448,
        "vision.patch_size": 14,
        "vision.attention.head_count": 8,
        "vision.num_channels": 3,
        "vision.embedding_length": 512,
        "vision.max_pixels": 196 * 100,
    }
    plain = shape("llama3.2_3b")
    mistral = replace(plain, architecture="mistral3", numbers={**plain.numbers, **numbers})
    assert vision_graph_bytes(mistral) == 4 * (448 * 448 * 3 + 512 * 14 + 1024 * 1024 * 8)
    qwen = replace(mistral, architecture="qwen25vl")
    assert vision_graph_bytes(qwen) == 4 * (2 * 19600 * 3 + 100 * (3 * 196 + 100 * 8 + 512))
    assert vision_graph_bytes(plain) == 0


@settings(deadline=None)
@given(
    st.sampled_from(STEMS), st.integers(1, 65536), st.integers(1, 16), st.sampled_from(["on", "off", "auto"])
)
def test_more_never_needs_less(name: str, context_length: int, parallel: int, flash: str) -> None:
    less = of(name, context_length, parallel, flash_attention=flash)
    more = of(name, context_length + 512, parallel + 1, flash_attention=flash)
    assert len(less.layers_bytes) == shape(name).block_count
    assert 0 < less.required_bytes <= more.required_bytes
