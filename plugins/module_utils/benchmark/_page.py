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
    """The results of hosts, by name, with what is needed to draw them; `left_out` are those that no page can show."""
    hosts: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for name, result in sorted(results.items()):
        try:
            hosts.append({"name": name, **_host(result)})
        except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            reason = f"its result is not in the form of role ollama_benchmark: {type(error).__name__} {error}"
            left_out.append({"name": name, "reason": reason})
    return {"format": FORMAT, "generated_at": generated_at, "hosts": hosts, "left_out": left_out}


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
