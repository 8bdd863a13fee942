# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers of a model each of several GPUs gets."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache


def _single(value: float) -> float:
    """The value as the engine keeps it, in single precision."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def assigned_units(unit_count: int, free_bytes: Sequence[int]) -> tuple[range, ...]:
    """Which units (layers, and the output as the last) each device gets, by its share of the free memory.

    Raises: ValueError when no device has free memory.
    """
    if not free_bytes or min(free_bytes) < 0 or not sum(free_bytes):
        raise ValueError(f"free memory of the GPUs is {list(free_bytes)}, expected some on at least one")
    bounds = bounds_of(unit_count, tuple(free_bytes))
    return tuple(range(first, last) for first, last in zip(bounds, bounds[1:]))


@lru_cache(maxsize=4096)
def bounds_of(unit_count: int, free_bytes: tuple[int, ...]) -> tuple[int, ...]:
    """The first unit of each device and, last, the number of units; without any free memory the last has all.

    Source: llama.cpp src/llama-model.cpp, load_tensors and get_layer_buft_list (b10488).
    """
    running, sums = 0.0, []
    for free in free_bytes:
        running = _single(running + _single(free))
        sums.append(running)
    bounds = [0]
    for one in sums[:-1]:
        share = _single(one / running) if running else 0.0
        first = bounds[-1]
        while first < unit_count and share > _single(first / unit_count):
            first += 1
        bounds.append(first)
    return (*bounds, unit_count)
