# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parallel value beyond which more slots bring nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

DEFAULT_SHARE = 0.05


@dataclass(frozen=True)
class Point:
    """What was measured at one parallel value: tokens/s of all requests together, latency in seconds.

    spread: how far repeated measurements lie apart, as a share. unusable: why it does not count, or empty.
    """

    parallel: int
    tokens_per_second: float
    latency_p95_s: float | None = None
    spread: float = 0.0
    unusable: str = ""


@dataclass(frozen=True)
class Knee:
    """The smallest parallel value that is as good as the best; None where none was usable."""

    parallel: int | None
    reason: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"parallel": self.parallel, "reason": self.reason, "note": self.note}


def find_knee(
    points: Sequence[Point], *, share: float = DEFAULT_SHARE, latency_bound_s: float | None = None
) -> Knee:
    """The smallest parallel value within `share` of the best throughput, among those under the latency bound.

    Raises: ValueError where the share is not from 0 up to but without 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share is {share:g}, expected from 0 up to but without 1")
    admissible = [point for point in points if not refused(point, latency_bound_s)]
    if not admissible:
        reasons = "; ".join(f"{point.parallel}: {refused(point, latency_bound_s)}" for point in points)
        return Knee(None, f"no parallel value can be used ({reasons or 'none was measured'})")
    best = max(admissible, key=lambda point: (point.tokens_per_second, -point.parallel))
    least = best.tokens_per_second * (1 - share)
    knee = min(
        (point for point in admissible if point.tokens_per_second >= least),
        key=lambda point: point.parallel,
    )
    apart = max(knee.spread, best.spread)
    note = ""
    if knee is not best and apart > share:
        note = (
            f"repeated measurements lie {apart:.0%} apart, more than the {share:.0%} that decide: "
            "measure more rounds"
        )
    return Knee(knee.parallel, _reason(knee, best, share), note)


def refused(point: Point, latency_bound_s: float | None = None) -> str:
    """Why a point does not count; empty where it does."""
    if point.unusable:
        return point.unusable
    if latency_bound_s is not None and (point.latency_p95_s or 0.0) > latency_bound_s:
        return f"95 % of the requests took up to {point.latency_p95_s:.2f} s, above {latency_bound_s:g} s"
    if point.tokens_per_second <= 0:
        return "nothing was generated"
    return ""


def _reason(knee: Point, best: Point, share: float) -> str:
    if knee is best:
        return f"{knee.parallel} at once gave the most, {knee.tokens_per_second:.1f} tokens/s"
    part = knee.tokens_per_second / best.tokens_per_second
    return (
        f"{knee.parallel} at once gave {knee.tokens_per_second:.1f} tokens/s, {part:.0%} of the most, "
        f"{best.tokens_per_second:.1f} at {best.parallel} (within {share:.0%})"
    )


def together(points_of: Mapping[str, Sequence[Point]]) -> list[Point]:
    """One curve for several models: the mean of their throughputs, each as a share of that model's best.

    A parallel value counts when it does so for every model. The latency is the longest of all models.
    """
    if len(points_of) == 1:
        return list(next(iter(points_of.values())))
    bests = {
        name: max((point.tokens_per_second for point in points if not point.unusable), default=0.0)
        for name, points in points_of.items()
    }
    by_parallel: dict[int, dict[str, Point]] = {}
    for name, points in points_of.items():
        for point in points:
            by_parallel.setdefault(point.parallel, {})[name] = point
    return [_joined(parallel, found, bests) for parallel, found in sorted(by_parallel.items())]


def _joined(parallel: int, found: Mapping[str, Point], bests: Mapping[str, float]) -> Point:
    missing = [name for name in bests if name not in found]
    complaints = [f"{name} was not measured" for name in missing]
    complaints += [f"{name}: {point.unusable}" for name, point in found.items() if point.unusable]
    shares = [point.tokens_per_second / bests[name] for name, point in found.items() if bests[name] > 0]
    mean_best = sum(bests.values()) / len(bests)
    latencies = [point.latency_p95_s for point in found.values() if point.latency_p95_s is not None]
    joined = Point(
        parallel,
        mean_best * sum(shares) / len(bests),
        max(latencies, default=None),
        max((point.spread for point in found.values()), default=0.0),
    )
    return replace(joined, unusable="; ".join(complaints))
