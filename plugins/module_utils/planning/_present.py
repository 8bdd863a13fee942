# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as people read it in a terminal: lines of text with sizes in GiB."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._lines import (
    in_order,
    named,
    said_once,
    sentences,
    table,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB, gib_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_option

# Of loads of which the server has told.
MOST_SEEN = 12
# Sizes and shares differ a little between hosts that are alike in all that is decided of them.
_MEASURE = re.compile(r"\d+(?:\.\d+)? ?(?:GiB|MiB|bytes|%)")


def plan_lines(plan: Mapping[str, Any], host: str) -> list[str]:
    """The plan of one host with its reasons, as lines.

    Raises: KeyError or TypeError where it is no plan.
    """
    return [*_block(plan, host), *_paragraphs("Warnings", plan["warnings"])]


def fleet_lines(plans: Mapping[str, Mapping[str, Any]], *, details: bool = False) -> list[str]:
    """The plans of several hosts: a line for those that are alike, and what is to be said of any of them, once.

    With details, before it, a block for those that are alike, with the figures of the one that has least memory left.

    Raises: KeyError or TypeError where one is no plan.
    """
    if not plans:
        return ["no host has a plan"]
    groups = _alike(plans)
    blocks = [_block(group[0], f"{names}{_figures_of(count, first)}") for names, count, first, group in _told(groups)]
    rows: list[tuple[str, ...]] = [
        ("HOST", "GPUS", "MEMORY", "REQUESTS", "MODELS", "CONTEXT", "KV", "SAFE", "WARNINGS")
    ]
    rows += [(names, *_cells(group)) for names, _count, _first, group in _told(groups)]
    warned = said_once({host: plans[host]["warnings"] for host in sorted(plans, key=in_order)})
    return [
        *([line for block in blocks for line in block] if details else []),
        *table(rows, "lrrrrrllr"),
        *(["", "Warnings", *sentences(warned)] if warned else []),
    ]


def _block(plan: Mapping[str, Any], host: str) -> list[str]:
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
    ]


def _alike(plans: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Mapping[str, Any]]]:
    """Hosts of which the same is decided for the same reasons, together; sizes may differ by what is free now."""
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for host in sorted(plans, key=in_order):
        plan = plans[host]
        models = [
            (model["name"], model["num_parallel"], model["context_length"], [gpu["index"] for gpu in model["gpus"]])
            for model in plan["models"]
            if model["planned"]
        ]
        told = (
            *(masked_option(plan["environment"]), models, plan["rules"], _verdict(plan), len(plan["warnings"])),
            *([(gpu["name"], gib_number(gpu["total_bytes"])) for gpu in plan["gpus"]], plan["kv_cache_type"]),
            *((plan.get("today") or {}).get("sentences", ()), plan.get("difference", ()), plan["reasons"]),
        )
        groups.setdefault(_MEASURE.sub("", repr(told)), {})[host] = plan
    return list(groups.values())


def _told(
    groups: Iterable[Mapping[str, Mapping[str, Any]]],
) -> Iterable[tuple[str, int, str, list[Mapping[str, Any]]]]:
    """Of each group its name, how many it is, the host whose figures are shown, and the plans with those first."""
    for group in groups:
        first, *others = sorted(group, key=lambda host: sum(gpu["free_bytes"] for gpu in group[host]["gpus"]))
        yield named(group), len(group), first, [group[first], *(group[host] for host in others)]


def _figures_of(count: int, host: str) -> str:
    return f" (figures of {host}, which has least left)" if count > 1 else ""


def _cells(plans: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    plan = plans[0]
    return (
        str(len(plan["gpus"])),
        gib_number(sum(gpu["total_bytes"] for gpu in plan["gpus"])),
        str(plan["num_parallel"]),
        str(plan["max_loaded_models"]),
        str(plan["context_length"]),
        plan["kv_cache_type"],
        "yes" if plan["safe"] else "NO",
        str(len(plan["warnings"])),
    )


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
        step = f"{limit['step']} {limit['value']}"
        rows.append((step, "yes" if limit["possible"] else "no", cost, limit["reason"]))
    return rows


def _indented(rows: Sequence[tuple[str, ...]], alignments: str) -> list[str]:
    return [*table(rows, alignments, indent=2), ""] if rows else []


def _paragraphs(title: str, told: Sequence[str]) -> list[str]:
    return [f"  {title}", *sentences(told), ""] if told else []
