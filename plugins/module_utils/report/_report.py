# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a fleet as plain data: each host's state, plan and drift, the worst first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._lines import (
    in_order,
    said_once,
    sentences,
    table,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._drift_causes import (
    CHANGED_SINCE,
    GPU_DROPPED,
    MENDED_BY_SITE,
    NOT_RUNNING,
    REFUSED,
    Drift,
    changed_since,
    dropped,
    explain,
    gone,
    nearest,
    shown,
    shown_wanted,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import HostData
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._memory_bar import (
    KINDS,
    MemoryBar,
    bar_of_facts,
    bar_of_plan,
    size_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._next_command import MadeBy, next_command
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._states import (
    DRIFTED,
    NOT_SEEN,
    STATES,
    UNKNOWN,
    badness,
    state_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_option

# Raised when a key of the report changes its meaning or goes.
FORMAT = 1
MOST_OF_A_PROBLEM = 1000

# Causes that say nothing without their sentence.
TOLD_WHOLE = (NOT_RUNNING, REFUSED, GPU_DROPPED, CHANGED_SINCE)


def fleet_report(hosts: Iterable[HostData], generated_at: str, made: MadeBy | None = None) -> dict[str, Any]:
    """The report of a fleet. Sizes in bytes, `generated_at` in ISO 8601, `made` by what run.

    A host whose data are not in the form that the collection's roles set is failed, and costs the others nothing.
    """
    described = sorted((_described(host) for host in hosts), key=badness)
    made = made or MadeBy()
    described = [
        {**host, "looked_at": generated_at, "next": next_command(host, made).to_dict()} for host in described
    ]
    return {
        "format": FORMAT,
        "generated_at": generated_at,
        "made": made.to_dict(),
        "summary": summary_of(described),
        "hosts": described,
    }


def summary_of(hosts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is counted over the hosts of a report."""
    states = Counter(host["state"] for host in hosts)
    gpus = [gpu for host in hosts for gpu in host["gpus"]]
    causes = Counter(cause for host in hosts for cause in causes_of(host))
    return {
        "hosts": len(hosts),
        "states": {state: states[state] for state in STATES},
        "causes": dict(causes.most_common()),
        "gpus": len(gpus),
        "gpu_memory_total_bytes": sum(gpu["memory_total_bytes"] for gpu in gpus),
        "kinds": [kind for kind in KINDS if any(gpu[f"{kind}_bytes"] for gpu in gpus)],
        "gpu_memory_free_bytes": sum(gpu["free_bytes"] for gpu in gpus),
        "not_as_planned": sum(states[state] for state in (*NOT_SEEN, DRIFTED)),
        "mended_by_site": sum(host["mended_by_site"] for host in hosts),
    }


def state_lines(report: Mapping[str, Any]) -> list[str]:
    """The report as lines for a terminal, a host a line, the worst first, then one with the counts.

    Why a host is not as planned goes on below, where it is longer than the line.
    """
    rows = [("HOST", "STATE", "PARALLEL", "MODELS", "CONTEXT", "WHY")]
    rows += [
        (
            host["name"],
            host["state"],
            _number(host["num_parallel"]),
            _number(host["max_loaded_models"]),
            _number(host["context_length"]),
            why(host),
        )
        for host in report["hosts"]
    ]
    counts = [f"{count} {state}" for state, count in report["summary"]["states"].items() if count]
    return [*table(rows, "l" * len(rows[0])), ", ".join(counts) or "no hosts"]


def warning_lines(report: Mapping[str, Any]) -> list[str]:
    """What the plans warn of, each once with the hosts that it is about."""
    hosts = sorted(report["hosts"], key=lambda host: in_order(host["name"]))
    warned = said_once({host["name"]: host["warnings"] for host in hosts})
    return ["Warnings", *sentences(warned)] if warned else []


def _described(host: HostData) -> dict[str, Any]:
    try:
        described = _host(host)
        # Neither file can hold what this refuses: numbers that are none, or half a character.
        json.dumps(described, allow_nan=False, ensure_ascii=False).encode()
        return described
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        problem = (
            f"its data are not in the form of ollama_plan and ollama_verify_result ({type(error).__name__}: {error}); "
            "run the playbook again with roles and modules of one version, and look at who is root on the host"
        )
        return _host(HostData(printable(host.name), failure=printable(problem[:MOST_OF_A_PROBLEM])))


def _host(host: HostData) -> dict[str, Any]:
    plan = host.plan or {}
    drifts = _drifts(host)
    gpus = _bars(host)
    state = state_of(host, drifts)
    return {
        "name": host.name,
        "state": state,
        "problem": _problem(host, state),
        "drift": [drift.to_dict() for drift in drifts],
        "mended_by_site": state == DRIFTED and all(drift.cause in MENDED_BY_SITE for drift in drifts),
        "compared": host.compared,
        "change": dict(host.change) if host.change else None,
        "verified": host.verified is not None,
        "notes": _notes(host),
        "safe": plan.get("safe"),
        "basis": plan.get("basis"),
        "placement": plan.get("placement"),
        "version": plan.get("version"),
        "num_parallel": plan.get("num_parallel"),
        "max_loaded_models": plan.get("max_loaded_models"),
        "context_length": plan.get("context_length"),
        "kv_cache_type": plan.get("kv_cache_type"),
        "environment": masked_option(plan.get("environment", {})),
        "models": [_model(model) for model in plan.get("models", ()) if model["planned"]],
        "gpus": [gpu.to_dict() for gpu in gpus],
        "limits": [_step(limit) for limit in plan.get("limits", ())],
        "limit": _limit(plan),
        "reasons": [str(reason) for reason in plan.get("reasons", ())],
        "warnings": [str(warning) for warning in plan.get("warnings", ())],
        "today": [str(sentence) for sentence in (plan.get("today") or {}).get("sentences", ())],
        "difference": [str(sentence) for sentence in plan.get("difference", ())],
        "seen": [_seen(row) for row in plan.get("seen", ())],
        "evidence": [dict(one) for one in plan.get("evidence", ())],
        "history": [dict(one) for one in plan.get("history", ())],
    }


def _problem(host: HostData, state: str) -> str:
    if state == UNKNOWN:
        return "; ".join(host.unseen)
    return host.unreachable or host.failure


def _step(limit: Mapping[str, Any]) -> dict[str, Any]:
    cost = limit["cost_bytes"]
    told = {name: limit[name] for name in ("step", "value", "possible", "reason")}
    return {**told, "cost_bytes": None if cost is None else size_of(cost)}


def printable(text: str) -> str:
    """The text without halves of characters, which no file can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _notes(host: HostData) -> list[str]:
    found = host.verified or {}
    told = (str(note) for kind in ("problems", "overrides", "notes") for note in found.get(kind, ()))
    return [*host.notes, *told]


def _drifts(host: HostData) -> tuple[Drift, ...]:
    if host.unreachable:
        return ()
    lost = (
        *(changed_since(sentence) for sentence in host.changes),
        *(gone(gpu) for gpu in host.gpus_gone),
        *(dropped(gpu) for gpu in (host.plan or {}).get("dropped_gpus", ())),
    )
    if not host.verified:
        return lost
    verified = host.verified
    return (
        *lost,
        *explain(
            verified["differences"],
            verified["conflicts"],
            verified.get("refusals", ()),
            verified.get("file_edited"),
        ),
    )


def _bars(host: HostData) -> list[MemoryBar]:
    if host.plan is not None:
        return [bar_of_plan(gpu) for gpu in host.plan["gpus"]]
    return [bar_of_facts(gpu) for gpu in (host.gpu or {}).get("devices", ())]


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": model["name"],
        "context_length": model["context_length"],
        "num_parallel": model["num_parallel"],
        "gpu_memory_bytes": sum(size_of(share["total_bytes"]) for share in model["gpus"]),
        "basis": model["basis"],
    }


def _seen(row: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {name: int(row[name]) for name in ("predicted_bytes", "seen_bytes", "difference_bytes")}
    told = {name: row[name] for name in ("model", "kind", "gpu", "basis", "when", "is_beyond", "is_absurd")}
    return {**told, "settings": f"{row['parallel']} x {row['context_length']}", **sizes}


def _limit(plan: Mapping[str, Any]) -> str:
    """Why the values are not larger: the first step up that is not possible, else why the first was not taken."""
    limits = list(plan.get("limits", ()))
    impossible = [limit for limit in limits if not limit["possible"]]
    return str((impossible or limits)[0]["reason"]) if limits else ""


def causes_of(host: Mapping[str, Any]) -> list[str]:
    """Each cause of a host's drift once, in the order in which they are told."""
    return list(dict.fromkeys(drift["cause"] for drift in host["drift"]))


def why(host: Mapping[str, Any]) -> str:
    """Why a host is not as planned, in one line; empty where it is."""
    if host["problem"]:
        return str(host["problem"])
    by_cause: dict[str, list[str]] = {}
    for drift in host["drift"]:
        told = by_cause.setdefault(drift["cause"], [])
        if drift["variable"]:
            told.append(f"{drift['variable']} {_short_difference(drift)}".rstrip())
        elif drift["cause"] in TOLD_WHOLE:
            told.append(drift["message"])
    return "; ".join(f"{cause}: {', '.join(told)}" if told else cause for cause, told in by_cause.items())


def _short_difference(drift: Mapping[str, Any]) -> str:
    """Found and wanted for a line of the table: of the layers that differ, what comes nearest to what runs."""
    if not drift["found"]:
        return ""
    return f"{shown(nearest(drift['found']))}, not {shown_wanted(drift['wanted'], drift['found'])}"


def _number(value: Any) -> str:
    return "-" if value is None else str(value)
