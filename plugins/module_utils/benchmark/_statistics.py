# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles and medians of small samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass


@dataclass(frozen=True)
class Distribution:
    """The 50th, 95th and 99th percentile of a sample, in the sample's unit."""

    p50: float
    p95: float
    p99: float

    def to_dict(self) -> dict[str, float]:
        return {"p50": round(self.p50, 6), "p95": round(self.p95, 6), "p99": round(self.p99, 6)}


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent of the sample do not exceed (nearest rank).

    Raises: ValueError for an empty sample or a percentage outside of 0 to 100.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"no {percent:g}th percentile of {len(values)} values")
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def distribution(values: Sequence[float]) -> Distribution | None:
    """The distribution of a sample; None of an empty one."""
    if not values:
        return None
    return Distribution(percentile(values, 50), percentile(values, 95), percentile(values, 99))


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle.

    Raises: ValueError for an empty sample.
    """
    if not values:
        raise ValueError("no median of 0 values")
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def spread(values: Sequence[float]) -> float:
    """How far a sample's values lie apart, as a share of their median: 0 for equal ones or a single one."""
    if len(values) < 2:
        return 0.0
    centre = median(values)
    return (max(values) - min(values)) / centre if centre else 0.0
