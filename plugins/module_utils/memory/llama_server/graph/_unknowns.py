# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A layout whose numbers are unknowns, so that a graph is built once and measured for many layouts.

Operations are the same whatever the layout; only lengths of tensors differ. In a graph that is built of unknowns each
length is a polynomial of them, written as one whole number: the unknowns are powers of a base so large that sums and
products of lengths never run into each other.
"""

from __future__ import annotations

from typing import Tuple

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import Cells

# The addends of a polynomial: each a factor and an exponent of the base.
Terms = Tuple[Tuple[int, int], ...]

# A byte count's factors stay far below half the base: four lengths of at most 2 ** 31 or so, of which two are unknowns.
BASE_BITS = 120
_BASE = 1 << BASE_BITS
_HALF = _BASE >> 1
# Exponents of the base, so far apart that no product of lengths in one tensor reaches the next: tokens per slot and
# slots come squared at most (the mask of an encoder), cells once.
TOKENS, SLOTS, FULL, SLIDING = 1, 3, 9, 18
# Below so few tokens per slot, attention reads a quantised cache in another way.
LEAST_TOKENS = 3


def unknown_layout(*, several_slots: bool, slides: bool) -> Cells:
    """A layout of unknowns: with one slot or an unknown number of them, with a sliding window or without."""
    tokens = 1 << BASE_BITS * TOKENS
    slots = 1 << BASE_BITS * SLOTS if several_slots else 1
    return Cells(
        full=1 << BASE_BITS * FULL,
        sliding=1 << BASE_BITS * SLIDING if slides else 0,
        slots=slots,
        batch=tokens * slots,
    )


def stands_for(layout: Cells) -> bool:
    """Whether a graph of unknowns has the operations of this layout's."""
    return layout.tokens >= LEAST_TOKENS * layout.slots


def terms_of(number: int) -> Terms:
    """The addends of a polynomial; negative factors too."""
    terms = []
    exponent = 0
    while number:
        empty = ((number & -number).bit_length() - 1) // BASE_BITS
        number >>= empty * BASE_BITS
        exponent += empty
        factor = number & (_BASE - 1)
        if factor >= _HALF:
            factor -= _BASE
        terms.append((factor, exponent))
        number = (number - factor) >> BASE_BITS
        exponent += 1
    return tuple(terms)


class LayoutValues:
    """The unknowns' values in one layout."""

    def __init__(self, layout: Cells) -> None:
        self._values = (layout.tokens // layout.slots, layout.slots, layout.full, layout.sliding)
        self._powers: dict[int, int] = {0: 1}

    def value(self, terms: Terms) -> int:
        """The value of a polynomial."""
        powers = self._powers
        total = 0
        for factor, exponent in terms:
            power = powers.get(exponent)
            total += factor * (self._power(exponent) if power is None else power)
        return total

    def _power(self, exponent: int) -> int:
        left, power = exponent, 1
        for unknown, value in zip((SLIDING, FULL, SLOTS, TOKENS), reversed(self._values)):
            times, left = divmod(left, unknown)
            power *= value**times
        self._powers[exponent] = power
        return power
