# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers each of several GPUs gets: by single-precision shares, as the engine counts."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._split import (
    assigned_units,
    bounds_of,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("unit_count", "free", "bounds"),
    [
        (33, (24,), (0, 33)),
        (33, (24, 24), (0, 17, 33)),
        (33, (24, 8), (0, 25, 33)),
        (32, (24, 8), (0, 24, 32)),
        (33, (1, 0, 1), (0, 17, 17, 33)),
        (33, (0, 24), (0, 0, 33)),
        (33, (0, 0), (0, 0, 33)),
        (2, (5, 5, 5, 5), (0, 1, 1, 2, 2)),
    ],
)
def test_units_are_dealt_by_the_share_of_free_memory(
    unit_count: int, free: tuple[int, ...], bounds: tuple[int, ...]
) -> None:
    assert bounds_of(unit_count, free) == bounds


@pytest.mark.parametrize("free", [(), (0, 0), (8, -1)])
def test_without_free_memory_nothing_can_be_dealt(free: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected some on at least one"):
        assigned_units(33, free)


@given(st.integers(1, 200), st.lists(st.integers(0, 1 << 40), min_size=1, max_size=8))
def test_every_unit_is_dealt_once_and_in_order(unit_count: int, free: list[int]) -> None:
    bounds = bounds_of(unit_count, tuple(free))
    assert bounds[0] == 0
    assert bounds[-1] == unit_count
    assert list(bounds) == sorted(bounds)
