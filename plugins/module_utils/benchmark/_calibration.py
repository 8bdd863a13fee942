# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Predicted, reported and measured memory of a loaded model, and what to make of the difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB

DEFAULT_BOUND = 0.05


@dataclass(frozen=True)
class Comparison:
    """One model at one parallel value. Sizes in bytes, over all GPUs it lies on; None: not told.

    predicted_bytes: by the plan, CUDA context included. reported_bytes: `size_vram` of `/api/ps`.
    logged: what the runner logged, by kind. measured_bytes: what the driver counts for the runner.
    """

    model: str
    parallel: int
    gpu_count: int
    predicted_bytes: int
    predicted_compute_bytes: int
    predicted_projector_bytes: int
    reported_bytes: int | None
    logged: Mapping[str, int] | None
    measured_bytes: int | None

    @property
    def deviation(self) -> float | None:
        """How much more is really taken than predicted, as a share of the prediction."""
        if self.measured_bytes is None or not self.predicted_bytes:
            return None
        return self.measured_bytes / self.predicted_bytes - 1

    def to_dict(self) -> dict[str, Any]:
        deviation = self.deviation
        return {
            **vars(self),
            "logged": None if self.logged is None else dict(self.logged),
            "deviation": None if deviation is None else round(deviation, 6),
        }


def compared(parallel: int, planned: Mapping[str, Any], memory: Mapping[str, Any]) -> Comparison:
    """The comparison of a plan's model with what `ollama_benchmark` saw of it."""
    shares = planned["gpus"]
    return Comparison(
        model=planned["name"],
        parallel=parallel,
        gpu_count=len(shares),
        predicted_bytes=sum(share["total_bytes"] for share in shares),
        predicted_compute_bytes=sum(
            share["compute_bytes"] + share["projector_compute_bytes"] for share in shares
        ),
        predicted_projector_bytes=sum(share["projector_bytes"] for share in shares),
        reported_bytes=memory["reported_bytes"],
        logged=memory["logged"],
        measured_bytes=memory["measured_bytes"],
    )


def warnings(
    comparisons: Iterable[Comparison], inputs: Mapping[tuple[str, int], str], bound: float = DEFAULT_BOUND
) -> list[str]:
    """A sentence for each deviation beyond the bound, with all that is needed to reproduce it.

    `inputs`: model and parallel value to the inputs in words.
    """
    return [
        f"{one.model} at {one.parallel} at once takes {one.measured_bytes // MIB} MiB of GPU memory, predicted "
        f"were {one.predicted_bytes // MIB} ({one.deviation:+.1%}, beyond {bound:.0%}): "
        f"{inputs.get((one.model, one.parallel), '')}"
        for one in comparisons
        if one.deviation is not None and one.measured_bytes is not None and abs(one.deviation) > bound
    ]


def correction(comparisons: Sequence[Comparison]) -> dict[str, int] | None:
    """What each runner takes of each GPU besides what is predicted, the most of all that were seen.

    cuda_context_bytes: beside its own buffers. compute_excess_bytes: compute buffers above the prediction.
    None where the driver or the log did not tell enough.
    """
    contexts, excesses = [], [0]
    for one in comparisons:
        if one.measured_bytes is None or one.logged is None or not one.gpu_count:
            continue
        beside = one.measured_bytes - one.logged["total_bytes"] - one.predicted_projector_bytes
        if beside >= 0:
            contexts.append(-(-beside // one.gpu_count))
            excess = one.logged["compute_bytes"] - one.predicted_compute_bytes
            excesses.append(-(-excess // one.gpu_count))
    if not contexts:
        return None
    return {"cuda_context_bytes": max(contexts), "compute_excess_bytes": max(excesses)}
