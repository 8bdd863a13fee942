# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was measured at each parallel value to the result that is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._calibration import (
    DEFAULT_BOUND,
    Comparison,
    compared,
    correction,
    warnings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._conditions import (
    Conditions,
    conditions_of,
    of_any_such_host,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._knee import (
    DEFAULT_SHARE,
    Knee,
    Point,
    find_knee,
    together,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._measured import FORMAT


@dataclass(frozen=True)
class Rules:
    """How a result is judged: shares from 0 to 1, the latency bound in seconds."""

    share: float = DEFAULT_SHARE
    latency_bound_s: float | None = None
    memory_bound: float = DEFAULT_BOUND


def result_on_host(
    measurements: Sequence[Mapping[str, Any]],
    *,
    facts: Mapping[str, Any],
    installed: Sequence[Mapping[str, Any]],
    plans: Sequence[Mapping[str, Any]],
    any_such_host: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """The result of a benchmark under the conditions of the host that was measured.

    `facts`: its `gpufleet_gpu`. `installed`: its models. `any_such_host`: whether it is to hold for every host with
    GPUs of the same names. `more`: as for `result_of`.

    Raises: ValueError as `result_of`; KeyError, IndexError or TypeError where the plans or facts are none.
    """
    first = plans[0]
    conditions = conditions_of(
        facts,
        installed,
        [model["name"] for measurement in measurements for model in measurement["models"]],
        ollama_version=first["version"],
        context_length=first["context_length"],
        kv_cache_type=first["kv_cache_type"],
    )
    result = result_of(measurements=measurements, plans=plans, conditions=conditions, **more)
    return for_any_such_host(result) if any_such_host else result


def result_of(
    *,
    measured_at: str,
    plans: Sequence[Mapping[str, Any]],
    measurements: Sequence[Mapping[str, Any]],
    skipped: Sequence[Mapping[str, Any]],
    conditions: Conditions,
    workload: Mapping[str, Any],
    rules: Rules,
) -> dict[str, Any]:
    """The result of a benchmark.

    `measurements`: what `ollama_benchmark` returned at each parallel value. `plans`: one for each of them.

    Raises: ValueError where the data are not in the form that modules and roles of this version return.
    """
    try:
        plan_of = {plan["num_parallel"]: plan for plan in plans}
        levels_of: dict[str, list[dict[str, Any]]] = {}
        comparisons = []
        for measurement in measurements:
            parallel = measurement["parallel"]
            for model in measurement["models"]:
                levels_of.setdefault(model["name"], []).append(_point(parallel, model))
                planned = _planned_model(plan_of[parallel], model["name"])
                comparisons.append((compared(parallel, planned, model["memory"]), planned))
        curves = {name: [_as_point(point) for point in points] for name, points in levels_of.items()}
        knee = _knee(together(curves) if curves else [], rules)
        rows = [comparison for comparison, _planned in comparisons]
        result = {
            "format": FORMAT,
            "measured_at": measured_at,
            "conditions": conditions.to_dict(),
            "workload": {**workload, "share": rules.share, "latency_bound_seconds": rules.latency_bound_s},
            "knee": knee.to_dict(),
            "models": [
                {"name": name, "knee": _knee(curves[name], rules).to_dict(), "points": points}
                for name, points in levels_of.items()
            ],
            "skipped": [dict(one) for one in skipped],
            "memory_bound": rules.memory_bound,
            "memory": [row.to_dict() for row in rows],
            "correction": correction(rows),
            "warnings": [
                *_notes(knee, measurements),
                *warnings(rows, _inputs(comparisons, conditions), rules.memory_bound),
            ],
        }
        json.dumps(result, allow_nan=False)
        return result
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"the measurements are not in the form of ollama_benchmark: {type(error).__name__} {error}"
        ) from error


def for_any_such_host(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result for every host with GPUs of the same names, such as those of an inventory's group."""
    conditions = of_any_such_host(Conditions.from_dict(result["conditions"]))
    return {**result, "conditions": conditions.to_dict()}


def _knee(points: Sequence[Point], rules: Rules) -> Knee:
    return find_knee(points, share=rules.share, latency_bound_s=rules.latency_bound_s)


def _point(parallel: int, model: Mapping[str, Any]) -> dict[str, Any]:
    """One model at one parallel value, with as many requests at once as slots; why it does not count, or empty."""
    full = next((level for level in model["levels"] if level["concurrency"] == parallel), None)
    return {
        "parallel": parallel,
        "unusable": _unusable(model, full),
        "tokens_per_second": float(full["tokens_per_second"]) if full else 0.0,
        "latency_p95_seconds": (full["latency_seconds"] or {}).get("p95") if full else None,
        "spread": float(full["spread"]) if full else 0.0,
        "levels": list(model["levels"]),
    }


def _unusable(model: Mapping[str, Any], full: Mapping[str, Any] | None) -> str:
    if model["problems"]:
        return str(model["problems"][0])
    if full is None:
        return "it was not measured with as many requests as slots"
    if full["failed"] or full["busy"]:
        return f"{full['failed'] + full['busy']} of {full['requests']} requests failed"
    return ""


def _as_point(point: Mapping[str, Any]) -> Point:
    return Point(
        point["parallel"],
        point["tokens_per_second"],
        point["latency_p95_seconds"],
        point["spread"],
        point["unusable"],
    )


def _planned_model(plan: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = next((model for model in plan["models"] if model["name"] == name), None)
    if found is None:
        raise ValueError(f"{name} was measured and is not planned")
    return {**found, "environment": plan["environment"]}


def _notes(knee: Knee, measurements: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = [knee.note] if knee.note else []
    for measurement in measurements:
        notes += [f"at {measurement['parallel']} at once: {problem}" for problem in measurement["problems"]]
        notes += [
            f"{model['name']} at {measurement['parallel']} at once: {problem}"
            for model in measurement["models"]
            for problem in model["problems"]
        ]
    return notes


def _inputs(
    comparisons: Sequence[tuple[Comparison, Mapping[str, Any]]], conditions: Conditions
) -> dict[tuple[str, int], str]:
    """All that a prediction depends on, in words."""
    gpus = ", ".join(gpu.name for gpu in conditions.gpus)
    return {
        (comparison.model, comparison.parallel): (
            f"{conditions.models.get(comparison.model, '')}, context {planned['context_length']}, "
            f"{planned['num_parallel']} slots, batch {planned['batch']}, KV cache {conditions.kv_cache_type}, "
            f"Ollama {conditions.ollama_version} with "
            + " ".join(f"{name}={value}" for name, value in sorted(planned["environment"].items()))
            + f", driver {conditions.driver_version}, {gpus}; reported {comparison.reported_bytes} bytes, "
            f"logged {dict(comparison.logged) if comparison.logged else 'nothing'}"
        )
        for comparison, planned in comparisons
    }
