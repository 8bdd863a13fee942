# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Points of a curve in the coordinates of a drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

WIDTH, HEIGHT = 420, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34


@dataclass(frozen=True)
class Axes:
    """What a drawing spans: parallel values from left to right, 0 to `top` upwards."""

    parallels: tuple[int, ...]
    top: float

    def x(self, parallel: int) -> float:
        low, high = self.parallels[0], self.parallels[-1]
        share = (parallel - low) / (high - low) if high > low else 0.5
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - _BOTTOM - value / self.top * (HEIGHT - _TOP - _BOTTOM), 1)


def chart(
    points: Sequence[Mapping[str, Any]], key: str, unit: str, knee: int | None
) -> dict[str, Any] | None:
    """What a template needs to draw a model's points; None where nothing was measured.

    `key`: of a point, what is drawn upwards. Points that do not count are drawn and marked.
    """
    drawn = [point for point in points if point.get(key) is not None and point["tokens_per_second"] > 0]
    if not drawn:
        return None
    step = _tick(max(float(point[key]) for point in drawn))
    ticks = [
        round(step * number, 6)
        for number in range(6)
        if number == 0 or step * (number - 1) < _most(drawn, key)
    ]
    axes = Axes(tuple(sorted(int(point["parallel"]) for point in drawn)), ticks[-1])
    marks = [
        {
            "parallel": point["parallel"],
            "x": axes.x(point["parallel"]),
            "y": axes.y(float(point[key])),
            "value": round(float(point[key]), 3),
            "is_knee": point["parallel"] == knee,
            "unusable": point["unusable"],
        }
        for point in sorted(drawn, key=lambda point: int(point["parallel"]))
    ]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": _LEFT,
        "right": WIDTH - _RIGHT,
        "top": _TOP,
        "bottom": HEIGHT - _BOTTOM,
        "unit": unit,
        "ticks": [{"y": axes.y(value), "label": f"{value:g}"} for value in ticks],
        "points": marks,
        "line": " ".join(f"{mark['x']},{mark['y']}" for mark in marks if not mark["unusable"]),
        "knee_x": next((mark["x"] for mark in marks if mark["is_knee"]), None),
    }


def _most(points: Sequence[Mapping[str, Any]], key: str) -> float:
    return max(float(point[key]) for point in points)


def _tick(most: float) -> float:
    """A round step (1, 2 or 5 times a power of ten) of which at most five reach the largest value."""
    step = 1e-6
    while True:
        for factor in (1, 2, 5):
            if step * factor * 5 >= most:
                return step * factor
        step *= 10
