# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The size of a graph by a few of its layers, against the graph of all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    LoadSettings,
    Refused,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    Knowledge,
    build,
    graph_bounds,
    knowledge,
    used_layers,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._refusals import (
    TABLE_SIZES,
    check,
    graph_size,
    most_nodes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    EngineBuild,
    parse_build,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import engine_rules
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, STEMS, shape


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize("attention", list(Attention))
def test_a_graph_has_as_many_operations_as_all_layers_add(installed, name, attention):
    shape = installed(name)
    assert knowledge(shape) is Knowledge.KNOWN
    for slots, cache_type in ((1, "f16"), (2, "f16"), (1, "q8_0"), (2, "q8_0")):
        whole = build(
            shape,
            cells(shape, 256, slots, 256),
            attention,
            cache_type=cache_type,
            layers=used_layers(shape),
        ).graph
        counted = graph_size(shape, attention, cache_type != "f16", slots > 1)
        assert counted == (whole.node_count, whole.node_count + whole.leafs)


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize("attention", list(Attention))
def test_a_bound_of_its_operations_is_never_below_them_and_close(installed, name, attention):
    shape = installed(name)
    for cache_type, number in (("f16", 10488), ("q8_0", 10488), ("f16", 11434)):
        engine = engine_rules(EngineBuild(number))
        nodes, tensors = graph_size(shape, attention, cache_type != "f16", True, engine)
        most = graph_bounds(shape, attention, cache_type, engine)
        assert most is not None
        assert nodes <= most[0] <= nodes * 1.02
        assert tensors <= most[1] <= tensors * 1.02


@pytest.mark.parametrize(
    ("is_quantised", "slots", "logged"),
    [(False, 1, 727), (False, 3, 763), (True, 1, 943)],
)
def test_a_graph_has_as_many_operations_as_the_engine_logs(is_quantised, slots, logged):
    """`graph nodes` in the recorded logs of gemma3:270m, which has the layers of gemma3:1b, but 18 of them."""
    larger = shape("gemma3:1b")
    model = replace(larger, block_count=18, layers=larger.layers[:18])
    assert graph_size(model, Attention.FLASH, is_quantised, slots > 1)[0] == logged
    of_logs = {
        int(line.rpartition("=")[2])
        for path in (DATA / "captures").glob("np*/server.log")
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if "graph nodes" in line
    }
    assert logged in of_logs


LLAMA, ENCODER = shape("llama3.1:8b"), shape("nomic-embed-text")
LARGE = replace(LLAMA, architecture="qwen3next")


# llama-context.cpp, graph_max_nodes: max(1024, 8 x tensors); for graphs known to be large max(40 x tokens, 32 x tensors).
@pytest.mark.parametrize(
    ("model", "tensors", "tokens", "most"),
    [
        (LLAMA, 128, 512, 1024),
        (LLAMA, 129, 512, 8 * 129),
        (LARGE, 100, 512, 40 * 512),
        (LARGE, 641, 512, 32 * 641),
    ],
)
def test_a_graph_has_room_by_the_tensors_of_the_model(model, tensors, tokens, most):
    assert most_nodes(replace(model, tensor_count=tensors), cells(model, 4096, 1, tokens)) == most


def test_the_table_of_tensors_has_primes_that_double():
    """ggml.c, ggml_hash_size: "next primes after powers of two" from 1024 on."""

    def is_prime(number):
        return all(number % divisor for divisor in range(2, int(number**0.5) + 1))

    nexts = [next(n for n in range((1 << power) + 1, 1 << (power + 1)) if is_prime(n)) for power in range(10, 22)]
    assert list(TABLE_SIZES) == nexts


def test_a_graph_that_has_no_room_is_refused_to_the_operation():
    model = shape("gemma3:27b")
    nodes, tensors = graph_size(model, Attention.FLASH, False, False)
    # More than every graph has room for, and the table of so many has room for the tensors.
    assert 1024 < nodes < tensors <= 4099
    layout, asked = cells(model, 4096, 1, 512), LoadSettings(4096, 1)
    with pytest.raises(Refused, match=f"makes a graph of {tensors} tensors, more than the 4099 that the engine"):
        check(replace(model, tensor_count=nodes // 8), layout, asked, Attention.FLASH)
    check(replace(model, tensor_count=nodes // 8 + 1), layout, asked, Attention.FLASH)


@pytest.mark.parametrize(
    ("model", "settings", "attention", "sentence"),
    [
        (LLAMA, LoadSettings(4096, 1, kv_cache_type="q8_0"), Attention.PLAIN, "while flash attention is off"),
        (LLAMA, LoadSettings(4096, 1, kv_cache_type="q8_0"), Attention.FLASH, None),
        (
            replace(LLAMA, layers=(replace(LLAMA.layers[0], value_length=80), *LLAMA.layers[1:])),
            LoadSettings(4096, 1, kv_cache_type="q4_0"),
            Attention.FLASH,
            "its heads have 80 elements, no multiple of the 32 of a block",
        ),
        (
            replace(LLAMA, layers=(replace(LLAMA.layers[0], value_length=96), *LLAMA.layers[1:])),
            LoadSettings(4096, 1, kv_cache_type="q4_0"),
            Attention.FLASH,
            None,
        ),
        (ENCODER, LoadSettings(2048, 3), Attention.FLASH, "a batch of 512 cannot be shared evenly by 3 slots"),
        (ENCODER, LoadSettings(2048, 2), Attention.FLASH, None),
        # Only where tokens are averaged, and only for embeddings.
        (replace(ENCODER, numbers={**ENCODER.numbers, "pooling_type": 2}), LoadSettings(2048, 3), Attention.FLASH, None),
        (LLAMA, LoadSettings(2048, 3), Attention.FLASH, None),
    ],
)
def test_what_the_engine_aborts_on_is_refused(model, settings, attention, sentence):
    layout = cells(model, settings.context_length, settings.parallel, settings.batch)
    if sentence is None:
        check(model, layout, settings, attention)
    else:
        with pytest.raises(Refused, match=sentence):
            check(model, layout, settings, attention)


KIMI = replace(LLAMA, name="kimi", architecture="kimi-linear")


def settings_of(slots, build):
    return LoadSettings(4096, slots, 512, build=parse_build(build))


@pytest.mark.parametrize("slots", [3, 5, 6])
def test_kimi_linear_does_not_start_with_a_batch_that_slots_cannot_share(slots):
    with pytest.raises(Refused, match=f"^kimi cannot share a batch of 512 evenly among {slots} slots: "):
        check(KIMI, cells(KIMI, 4096, slots, 512), settings_of(slots, "v0.5.0"), Attention.FLASH)


@pytest.mark.parametrize(("slots", "build"), [(1, "v0.5.0"), (4, "v0.5.0"), (8, "v0.5.0"), (3, "b10488")])
def test_kimi_linear_starts_with_a_batch_that_slots_share_evenly_or_an_earlier_build(slots, build):
    layout = cells(KIMI, 4096, slots, 512)
    assert layout.batch == 512
    check(KIMI, layout, settings_of(slots, build), Attention.FLASH)


@pytest.mark.parametrize(
    ("build", "name", "flash_attention", "is_refused"),
    [
        # As the engines of both builds did; its heads have no flash attention on a GPU.
        ("b10068", "deepseek-v2:16b", "auto", True),
        ("b10361", "deepseek-v2:16b", "auto", False),
        ("b10068", "deepseek-v2:16b", "on", False),
        ("b10068", "llama3.1:8b", "auto", False),
        ("b10068", "llama3.1:8b", "off", True),
    ],
)
def test_a_quantised_cache_needs_flash_attention_which_it_turns_on_only_in_later_builds(
    build: str, name: str, flash_attention: str, is_refused: bool
) -> None:
    settings = LoadSettings(4096, 1, 512, "q8_0", flash_attention, parse_build(build))
    if not is_refused:
        assert estimate(shape(name), settings).gpus
        return
    with pytest.raises(Refused, match=f"^{name} cannot keep its KV cache in q8_0 while flash attention is off"):
        estimate(shape(name), settings)
