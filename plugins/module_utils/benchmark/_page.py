# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmarks of a fleet as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._curve import chart

FORMAT = 1


def benchmark_report(results: Mapping[str, Mapping[str, Any]], generated_at: str) -> dict[str, Any]:
    """The results of hosts, by name, with what is needed to draw them.

    Raises: ValueError where a result is not in the form that the role makes.
    """
    try:
        return {
            "format": FORMAT,
            "generated_at": generated_at,
            "hosts": [{"name": name, **_host(result)} for name, result in sorted(results.items())],
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a benchmark is not in the form of role ollama_benchmark: {error}") from error


def _host(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "measured_at": result["measured_at"],
        "conditions": result["conditions"],
        "workload": result["workload"],
        "knee": result["knee"],
        "skipped": result["skipped"],
        "warnings": result["warnings"],
        "memory": result["memory"],
        "memory_bound": result["memory_bound"],
        "correction": result["correction"],
        "models": [_model(model, result["knee"]["parallel"]) for model in result["models"]],
    }


def _model(model: Mapping[str, Any], knee: int | None) -> dict[str, Any]:
    return {
        "name": model["name"],
        "knee": model["knee"],
        "points": model["points"],
        "charts": [
            drawn
            for drawn in (
                chart(model["points"], "tokens_per_second", "tokens/s, all requests together", knee),
                chart(model["points"], "latency_p95_seconds", "s, 95 % of the requests", knee),
            )
            if drawn
        ],
    }
