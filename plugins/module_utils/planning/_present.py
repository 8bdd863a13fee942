# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as people read it in a terminal: lines of text with sizes in GiB."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB, gib_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_option

WIDTH = 110
# Of loads of which the server has told.
MOST_SEEN = 12


def plan_lines(plan: Mapping[str, Any], host: str) -> list[str]:
    """The plan of one host with its reasons, as lines.

    Raises: KeyError or TypeError where it is no plan.
    """
    verdict = _verdict(plan)
    today = plan.get("today")
    return [
        *_paragraphs(f"{host} today:", today["sentences"] if today else ()),
        f"{host}: {verdict}",
        *_paragraphs("What changes", plan.get("difference", ())),
        f"  rules: {plan['rules']}",
        *(f"  {name}={value}" for name, value in masked_option(plan["environment"]).items()),
        "",
        *_indented(_model_rows(plan), "lrrrrrrrr"),
        *_indented(_gpu_rows(plan), "llrrrrr"),
        *_indented(_limit_rows(plan), "llrl"),
        *_indented(_seen_rows(plan), "lllrrrl"),
        *_paragraphs("Why", plan["reasons"]),
        *_paragraphs("Warnings", plan["warnings"]),
    ]


def fleet_lines(plans: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The plans of several hosts, one line each.

    Raises: KeyError or TypeError where one is no plan.
    """
    rows: list[tuple[str, ...]] = [
        ("HOST", "GPUS", "MEMORY", "REQUESTS", "MODELS", "CONTEXT", "KV", "SAFE", "WARNINGS")
    ]
    for host in sorted(plans):
        plan = plans[host]
        rows.append(
            (
                host,
                str(len(plan["gpus"])),
                gib_number(sum(gpu["total_bytes"] for gpu in plan["gpus"])),
                str(plan["num_parallel"]),
                str(plan["max_loaded_models"]),
                str(plan["context_length"]),
                plan["kv_cache_type"],
                "yes" if plan["safe"] else "NO",
                str(len(plan["warnings"])),
            )
        )
    return table(rows, "lrrrrrllr")


def table(rows: Sequence[Sequence[str]], alignments: str) -> list[str]:
    """Rows of equal length as aligned columns; `alignments` has l or r for each column."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(alignments))]
    return [
        "  ".join(
            cell.rjust(width) if alignment == "r" else cell.ljust(width)
            for cell, width, alignment in zip(row, widths, alignments)
        ).rstrip()
        for row in rows
    ]


def _verdict(plan: Mapping[str, Any]) -> str:
    safety = "safe" if plan["safe"] else "NOT SAFE"
    if plan["order_matters"]:
        safety += f" in the order {', '.join(plan['load_order'])}"
    where = "on the CPU" if plan["placement"] == "cpu" else "on the GPU"
    exact = ", by exact figures" if plan["safe"] else ""
    figures = exact if plan["basis"] == "exact" else ", by estimates"
    return f"{safety} {where}{figures} (Ollama {plan['version']})"


def _model_rows(plan: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("MODEL", "SLOTS", "CONTEXT", "BATCH", "GPU", "WEIGHTS", "KV", "OTHER", "TOTAL GiB")
    ]
    for model in plan["models"]:
        if not model["planned"]:
            continue
        # What the CPU computes comes after the GPUs, whose own share of system memory is no row.
        on_cpu = [None] if model["system_memory_layers"] or not model["gpus"] else []
        shares = [*model["gpus"], *on_cpu]
        for number, share in enumerate(shares):
            first = (
                model["name"],
                str(model["num_parallel"]),
                str(model["context_length"]),
                str(model["batch"]),
            )
            rows.append((*(first if number == 0 else ("",) * 4), *_share_cells(model, share)))
    return rows


def _share_cells(model: Mapping[str, Any], share: Mapping[str, Any] | None) -> tuple[str, ...]:
    if share is None:
        where = f"CPU, {model['system_memory_layers']} layers" if model["gpus"] else "CPU"
        return (where, "", "", "", gib_number(model["system_memory_bytes"]))
    projector = share["projector_bytes"] + share["projector_compute_bytes"]
    other = share["compute_bytes"] + projector + share["cuda_context_bytes"]
    return (
        f"{share['index']} until evicted" if model["evicted_by"] else str(share["index"]),
        gib_number(share["weights_bytes"]),
        gib_number(share["kv_cache_bytes"]),
        gib_number(other),
        gib_number(share["total_bytes"]),
    )


def _gpu_rows(plan: Mapping[str, Any]) -> list[tuple[str, ...]]:
    if not plan["gpus"]:
        return []
    rows: list[tuple[str, ...]] = [("GPU", "NAME", "TOTAL GiB", "OTHERS", "PLANNED", "FREE", "TO STAY FREE")]
    rows += [
        (
            str(gpu["index"]),
            gpu["name"],
            gib_number(gpu["total_bytes"]),
            gib_number(gpu["others_bytes"]),
            gib_number(gpu["planned_bytes"]),
            gib_number(gpu["free_bytes"]),
            gib_number(gpu["engine_margin_bytes"] + gpu["headroom_bytes"]),
        )
        for gpu in plan["gpus"]
    ]
    return rows


def _seen_rows(plan: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What loads took beside what was foretold, in MiB; at most so many rows, those that differ most first."""
    seen = sorted(plan.get("seen", ()), key=lambda row: -abs(row["difference_bytes"]))[:MOST_SEEN]
    if not seen:
        return []
    rows: list[tuple[str, ...]] = [("LOADED", "BUFFER", "GPU", "FORETOLD MiB", "SEEN", "DIFFERENCE", "WHEN")]
    for row in seen:
        sizes = (f"{row[name] / MIB:.1f}" for name in ("predicted_bytes", "seen_bytes", "difference_bytes"))
        rows.append((row["model"], row["kind"], str(row["gpu"]), *sizes, row["when"]))
    return rows


def _limit_rows(plan: Mapping[str, Any]) -> list[tuple[str, ...]]:
    if not plan["limits"]:
        return []
    rows: list[tuple[str, ...]] = [("NEXT STEP", "POSSIBLE", "COST GiB", "")]
    for limit in plan["limits"]:
        cost = "?" if limit["cost_bytes"] is None else gib_number(limit["cost_bytes"])
        reason = textwrap.shorten(limit["reason"], WIDTH - 30, placeholder=" …")
        rows.append((f"{limit['step']} {limit['value']}", "yes" if limit["possible"] else "no", cost, reason))
    return rows


def _indented(rows: Sequence[tuple[str, ...]], alignments: str) -> list[str]:
    return [*(f"  {line}" for line in table(rows, alignments)), ""] if rows else []


def _paragraphs(title: str, sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    lines = [f"  {title}"]
    for sentence in sentences:
        lines += textwrap.wrap(sentence, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return [*lines, ""]
