# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lengths written as polynomials of a layout's numbers, and their values."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import Cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._unknowns import (
    FULL,
    SLIDING,
    SLOTS,
    TOKENS,
    LayoutValues,
    stands_for,
    terms_of,
    unknown_layout,
)
from hypothesis import given
from hypothesis import strategies as st

UNKNOWN = unknown_layout(several_slots=True, slides=True)
LARGEST = 1 << 31


@pytest.mark.parametrize(
    ("number", "terms"),
    [
        (0, ()),
        (7, ((7, 0),)),
        (-7, ((-7, 0),)),
        (UNKNOWN.tokens, ((1, TOKENS + SLOTS),)),
        (UNKNOWN.tokens**2 * 3, ((3, 2 * TOKENS + 2 * SLOTS),)),
        (5 + UNKNOWN.full - 2 * UNKNOWN.sliding, ((5, 0), (1, FULL), (-2, SLIDING))),
        # The largest product of lengths that one tensor has beside cells stays below the next unknown.
        ((UNKNOWN.tokens**2 + 1) * UNKNOWN.full + UNKNOWN.sliding, ((1, FULL), (1, FULL + 2 * TOKENS + 2 * SLOTS), (1, SLIDING))),
        (UNKNOWN.tokens**2 + UNKNOWN.full, ((1, 2 * TOKENS + 2 * SLOTS), (1, FULL))),
        ((UNKNOWN.tokens // UNKNOWN.slots) ** 2 + UNKNOWN.slots, ((1, 2 * TOKENS), (1, SLOTS))),
        ((UNKNOWN.slots - 1) * UNKNOWN.full, ((-1, FULL), (1, FULL + SLOTS))),
    ],
)
def test_a_number_is_read_as_the_addends_that_made_it(number, terms):
    assert terms_of(number) == terms


@given(
    tokens=st.integers(3, 1 << 14),
    slots=st.integers(2, 1 << 10),
    full=st.integers(1, 1 << 24),
    sliding=st.integers(1, 1 << 24),
    factors=st.lists(st.integers(0, LARGEST), min_size=5, max_size=5),
)
def test_a_polynomial_of_unknowns_has_the_value_of_the_same_sum_of_numbers(
    tokens, slots, full, sliding, factors
):
    def length(layout: Cells) -> int:
        scores = factors[0] * layout.full * layout.tokens * LARGEST
        window = factors[1] * layout.sliding * layout.slots - factors[2] * layout.slots
        return scores + window + factors[3] * layout.tokens**2 + layout.tokens // layout.slots * factors[4]

    layout = Cells(full=full, sliding=sliding, slots=slots, batch=tokens * slots)
    assert LayoutValues(layout).value(terms_of(length(UNKNOWN))) == length(layout)


@pytest.mark.parametrize(
    ("slots", "batch", "stands"), [(1, 2, False), (1, 3, True), (4, 8, False), (4, 9, True), (4, 12, True)]
)
def test_a_graph_of_unknowns_stands_for_layouts_with_three_tokens_of_each_slot_or_more(slots, batch, stands):
    """With up to two the engine reads a quantised cache as it is."""
    assert stands_for(Cells(full=4096, sliding=0, slots=slots, batch=batch)) is stands


def test_one_slot_and_no_window_are_no_unknowns():
    layout = unknown_layout(several_slots=False, slides=False)
    assert (layout.slots, layout.sliding) == (1, 0)
