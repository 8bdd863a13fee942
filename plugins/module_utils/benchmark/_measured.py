# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stored benchmark says to a plan: the parallel value worth having, or why it is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._conditions import (
    Conditions,
    why_not,
)

# Raised when a key of a stored result changes its meaning or goes.
FORMAT = 1


@dataclass(frozen=True)
class Measured:
    """The parallel value that was measured to be worth having; None: the sentence says why it is ignored.

    doubt: why the value decides nothing, as the benchmark itself noted; empty where it noted nothing.
    overhead_bytes: what each runner was measured to take on a GPU besides what is predicted for it, CUDA
    context included; None where this could not be measured.
    """

    parallel: int | None
    sentence: str
    overhead_bytes: int | None = None
    doubt: str = ""


def measured_parallel(result: Mapping[str, Any], now: Conditions) -> Measured:
    """What a stored result says of a host as it is now; it never raises, a broken result is ignored."""
    if "problem" in result:
        return Measured(None, f"the stored benchmark is ignored: {result['problem']}")
    form = result.get("format")
    if isinstance(form, int) and form > FORMAT:
        return Measured(
            None,
            f"the stored benchmark is ignored: it has format {form!r:.20}, and this version of gpufleet.ollama reads {FORMAT}; "
            "use the version that wrote it, or measure again",
        )
    try:
        when = str(result["measured_at"])
        if form != FORMAT:
            return _ignored(when, f"it has format {form!r:.20}, this version reads {FORMAT}: measure again")
        knee = result["knee"]
        parallel, reason, doubt = knee["parallel"], str(knee["reason"]), str(knee.get("note") or "")
        conditions = Conditions.from_dict(result["conditions"])
        overhead = _overhead(result.get("correction"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return Measured(
            None, f"the stored benchmark is ignored: it is not in the form that is written ({error})"
        )
    if not isinstance(parallel, int) or isinstance(parallel, bool) or parallel < 1:
        return _ignored(when, f"it found no parallel value: {reason}")
    broken = why_not(conditions, now)
    if broken:
        return _ignored(when, "; ".join(broken))
    where = "here" if all(gpu.uuid for gpu in conditions.gpus) else "on such a host"
    return Measured(parallel, f"measured {where} at {when}: {reason}", overhead, doubt)


def _ignored(when: str, reason: str) -> Measured:
    return Measured(None, f"the benchmark of {when} is ignored: {reason}")


def _overhead(correction: Any) -> int | None:
    if not correction:
        return None
    total = correction["cuda_context_bytes"] + correction["compute_excess_bytes"]
    if not isinstance(total, int) or not 0 <= total < 1 << 40:
        raise ValueError(f"its correction is {total!r:.40}, expected bytes")
    return total
