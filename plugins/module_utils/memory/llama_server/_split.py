# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers of a model each of several GPUs gets."""

from __future__ import annotations

import struct
from typing import Sequence


def _single(value: float) -> float:
    """The value as the engine keeps it, in single precision."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def assigned_units(block_count: int, free_bytes: Sequence[int]) -> tuple[range, ...]:
    """Which units (layers, and the output as the last) each device gets, by its share of the free memory.

    Raises: ValueError when no device has free memory.
    Source: llama.cpp src/llama-model.cpp, load_tensors and get_layer_buft_list (b10488).
    """
    if not free_bytes or min(free_bytes) < 0 or not sum(free_bytes):
        raise ValueError(f"free memory of the GPUs is {list(free_bytes)}, expected some on at least one")
    running, sums = 0.0, []
    for free in free_bytes:
        running = _single(running + _single(free))
        sums.append(running)
    shares = [_single(one / running) for one in sums]
    units = block_count + 1
    bounds = [0]
    for share in shares[:-1]:
        first = bounds[-1]
        while first < units and share > _single(first / units):
            first += 1
        bounds.append(first)
    bounds.append(units)
    return tuple(range(first, last) for first, last in zip(bounds, bounds[1:]))
