# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the architectures, and what is taken for one without a row."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._architectures import (
    ARCHITECTURES,
    Recurrence,
    Traits,
    traits,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._families import FAMILIES


def test_rows_stand_in_order_and_each_says_something() -> None:
    assert list(ARCHITECTURES) == sorted(ARCHITECTURES)
    assert Traits() not in ARCHITECTURES.values()


def test_an_architecture_without_a_row_is_plain() -> None:
    assert traits("llama") == traits("") == Traits()
    assert traits("llama").recurrence is Recurrence.NONE


@pytest.mark.parametrize(
    ("says", "names"),
    [
        (lambda row: row.is_tied_twice, ["gemma3n", "gemma4"]),
        (lambda row: row.keeps_projector_on_gpu, ["gemma3n"]),
        (lambda row: row.layers_with_cache is not None, ["gemma3n"]),
        (lambda row: row.says_shared_layers, ["gemma4"]),
        (lambda row: not row.can_flash, ["grok"]),
        (lambda row: row.recurrence is Recurrence.BESIDE_ATTENTION, ["falcon-h1"]),
        (lambda row: row.recurrence is Recurrence.ALL_BUT_EVERY_NTH, ["qwen35", "qwen35moe", "qwen3next"]),
        (
            lambda row: row.recurrence is Recurrence.WITHOUT_KV_HEADS_AND_NETWORK,
            ["nemotron_h", "nemotron_h_moe"],
        ),
        (
            lambda row: row.has_large_graph,
            [
                "bailingmoe3",
                "kimi-linear",
                "minimax-01",
                "minimax-m3",
                "nanbeige",
                "qwen35",
                "qwen35moe",
                "qwen3next",
            ],
        ),
        (lambda row: row.repeats_layers, ["nanbeige"]),
        (lambda row: row.compresses, ["deepseek4"]),
        (lambda row: row.reads_embeddings_in_place, ["bitnet"]),
        (lambda row: row.takes_back, ["qwen35", "qwen35moe"]),
        (
            lambda row: row.is_encoder and not row.is_headless,
            ["dream", "gemma-embedding", "llada", "llada-moe", "rnd1", "t5encoder"],
        ),
    ],
)
def test_which_architectures_have_a_trait(says, names: list[str]) -> None:
    assert [name for name, row in ARCHITECTURES.items() if says(row)] == names


# As llama.cpp's src/models/*.cpp call set_swa_pattern(interval, dense_first); where the header alone tells, 1 or 0.
INTERVALS = {
    (0, False): ["deepseek4", "lfm2"],
    (1, False): ["gemma4", "granite_swa", "maple", "mimo2", "spark2_5", "step35"],
    (2, False): ["gemma2", "gpt-oss"],
    (3, True): ["modern-bert"],
    (4, False): ["afmoe", "cohere2", "exaone-moe", "exaone4", "llama4", "mellum", "muse-glimmer", "olmo2"],
    (4, True): ["cohere2moe", "laguna", "smallthinker"],
    (5, False): ["gemma3n"],
    (6, False): ["gemma-embedding", "gemma3"],
    (8, False): ["plamo3"],
}
# Tokens where the header names no window, tokens whatever it names, and the only depth that has windows.
WINDOWS = {
    "exaone-moe": (128, 0, None),
    "exaone4": (4096, 0, 64),
    "gemma2": (4096, 0, None),
    "llama4": (8192, 8192, None),
    "smallthinker": (0, 4096, None),
}


def test_of_how_many_layers_one_sees_more_than_a_window() -> None:
    found: dict[tuple[int, bool], list[str]] = {}
    for name, row in ARCHITECTURES.items():
        if row.sliding:
            found.setdefault((row.sliding.interval, row.sliding.dense_first), []).append(name)
    assert found == INTERVALS


@pytest.mark.parametrize("name", [name for names in INTERVALS.values() for name in names])
def test_how_long_the_window_is_where_the_header_does_not_say(name: str) -> None:
    sliding = traits(name).sliding
    assert sliding is not None
    windows = (sliding.default_window, sliding.fixed_window, sliding.only_block_count)
    assert windows == WINDOWS.get(name, (0, 0, None))


def test_gemma3n_has_caches_in_its_first_twenty_layers() -> None:
    assert traits("gemma3n").layers_with_cache == 20


def test_what_has_no_head_is_an_encoder() -> None:
    assert all(row.is_encoder for row in ARCHITECTURES.values() if row.is_headless)


def test_ollama_gives_one_slot_to_no_plain_family() -> None:
    """A family with one slot has a recurrence or an image's positions; a plain one in its list is a slip."""
    single = {name for name, row in FAMILIES.items() if row.single_slot_since}
    recurrent = {name for name in single if traits(name).recurrence is not Recurrence.NONE}
    assert single - recurrent == {"mllama", "nemotron_h_omni", "qwen3vl", "qwen3vlmoe"}
