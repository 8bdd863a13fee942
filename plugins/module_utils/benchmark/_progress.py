# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a benchmark is, in one line for a terminal, and what there is of a result when it ends early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def progress(steps: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]], seconds: float) -> str:
    """The line before the next step: which it is, how many are done, how long the rest may take, and the rates so far.

    steps: those of the benchmark, in their order (`parallel`, `models`). measured: what the module returned for those that are
    done. seconds: since the first began.
    """
    done = len(measured)
    step = steps[done]
    line = f"{step['parallel']} at once, {', '.join(map(str, step['models']))}; {done} of {len(steps)} done"
    if not done:
        return line
    to_go = _duration(seconds / done * (len(steps) - done))
    return f"{line}, about {to_go} to go; tokens/s so far {', '.join(_rates(one) for one in measured)}"


def partial(result: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], done: int) -> dict[str, Any]:
    """A result of the first steps, which says of itself that it is not whole."""
    if done >= len(steps):
        return dict(result)
    left = ", ".join(str(step["parallel"]) for step in steps[done:])
    warning = (
        f"this benchmark has not ended, or was ended early: {done} of {len(steps)} values were measured, not those for "
        f"{left} at once; no result was kept on the host"
    )
    return {**result, "warnings": [warning, *result["warnings"]]}


def _rates(measurement: Mapping[str, Any]) -> str:
    """What each model reached with all slots in use: `4: 80.3`."""
    rates = [
        _rate(level["tokens_per_second"])
        for model in measurement["models"]
        for level in model["levels"][-1:]
        if level.get("tokens_per_second") is not None
    ]
    return f"{measurement['parallel']}: {'/'.join(rates) or 'none'}"


def _rate(tokens_per_second: float) -> str:
    return f"{tokens_per_second:.0f}" if tokens_per_second >= 100 else f"{tokens_per_second:.1f}"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
