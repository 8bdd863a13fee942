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


def test_gemma2_never_runs_with_flash_attention() -> None:
    assert [name for name, row in FAMILIES.items() if not row.can_flash] == ["gemma2"]


def test_every_row_says_something_and_they_stand_in_order() -> None:
    assert Family() not in FAMILIES.values()
    assert list(FAMILIES) == sorted(FAMILIES)
