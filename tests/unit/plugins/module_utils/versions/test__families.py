# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each family's row says, and what is said of a family without one."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._families import (
    FAMILIES,
    Family,
    family,
)


@pytest.mark.parametrize(
    ("name", "release", "single_slot", "own_engine", "flashes"),
    [
        ("qwen35", (0, 17, 0), False, False, False),
        ("qwen35", (0, 17, 1), True, True, True),
        ("gemma3", (0, 11, 11), False, True, False),
        ("gemma3", (0, 12, 4), False, True, True),
        ("gpt-oss", (0, 11, 10), False, False, False),
        ("gpt-oss", (0, 11, 11), False, True, True),
        ("mllama", (0, 10, 0), True, False, False),
        ("gemma4", (0, 20, 0), False, True, False),
        ("nemotron_h_omni", (0, 22, 0), True, False, False),
        ("llama", (0, 33, 0), False, False, False),
        ("", (0, 33, 0), False, False, False),
    ],
)
def test_what_a_release_does_with_a_family(
    name: str, release: tuple[int, int, int], single_slot: bool, own_engine: bool, flashes: bool
) -> None:
    row = family(name)
    assert row.has_single_slot(release) is single_slot
    assert row.has_own_engine(release) is own_engine
    assert row.flashes_by_default(release) is flashes


SINCE = {
    "single_slot_since": {
        (0, 4, 1): ["mllama"],
        (0, 12, 7): ["qwen3vl", "qwen3vlmoe"],
        (0, 15, 5): ["lfm2", "lfm2moe", "qwen3next"],
        (0, 17, 1): ["nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe"],
        (0, 22, 0): ["nemotron_h_omni"],
    },
    "own_engine_since": {
        (0, 11, 11): ["gemma3", "gemma3n", "gpt-oss", "llama4", "mistral3", "mllama", "qwen25vl"],
        (0, 12, 2): ["bert", "deepseek2", "nomic-bert", "qwen3", "qwen3moe"],
        (0, 12, 7): ["qwen3vl", "qwen3vlmoe"],
        (0, 13, 3): ["olmo3"],
        (0, 14, 3): ["glm4moelite"],
        (0, 15, 5): ["lfm2", "lfm2moe", "qwen3next"],
        (0, 17, 1): ["nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe"],
        (0, 20, 0): ["gemma4"],
    },
    "flash_since": {
        (0, 11, 11): ["gpt-oss"],
        (0, 12, 4): ["gemma3", "mistral3", "qwen3", "qwen3moe"],
        (0, 12, 7): ["qwen3vl", "qwen3vlmoe"],
        (0, 13, 3): ["olmo3"],
        (0, 15, 0): ["glm4moelite"],
        (0, 15, 5): ["lfm2", "lfm2moe", "qwen3next"],
        (0, 17, 1): ["nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe"],
    },
}


@pytest.mark.parametrize("trait", SINCE)
def test_what_each_release_began_to_do(trait: str) -> None:
    """The lists of ollama server/sched.go and fs/ggml/ggml.go, by the release in which a name came in."""
    began: dict[tuple[int, int, int], list[str]] = {}
    for name, row in FAMILIES.items():
        if getattr(row, trait):
            began.setdefault(getattr(row, trait), []).append(name)
    assert began == SINCE[trait]


def test_gemma2_never_runs_with_flash_attention() -> None:
    assert [name for name, row in FAMILIES.items() if not row.can_flash] == ["gemma2"]


def test_every_row_says_something_and_they_stand_in_order() -> None:
    assert Family() not in FAMILIES.values()
    assert list(FAMILIES) == sorted(FAMILIES)
