# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout changed on a host, and the table with which it ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._lines import in_order, named, table
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._drift_causes import (
    Drift,
    explain,
    nearest,
    shown,
    shown_wanted,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._states import NOT_SEEN

NOTHING = "nothing"


def change_of(
    differences: Iterable[Mapping[str, Any]], restarted: bool | None, seconds: float | None
) -> dict[str, Any]:
    """What became of a host that a rollout has begun to change, as the report tells it.

    differences: as they were found before the change. restarted: None where nobody knows.
    """
    drifts = explain(differences, ())
    return {
        "variables": [_variable(drift) for drift in drifts if drift.variable],
        "others": [drift.message for drift in drifts if not drift.variable],
        "restarted": restarted,
        "seconds": None if seconds is None else round(float(seconds), 1),
    }


def closing_lines(report: Mapping[str, Any]) -> list[str]:
    """The hosts after a rollout, those that failed first, then those that it changed; the others share a line."""
    changed = [host for host in report["hosts"] if host["change"] or host["state"] in NOT_SEEN]
    same: dict[str, list[str]] = {}
    for host in report["hosts"]:
        if host not in changed:
            same.setdefault(host["state"], []).append(host["name"])
    rows: list[tuple[str, ...]] = [("HOST", "STATE", "RESTARTED", "SECONDS", "CHANGED")]
    rows += [_row(host) for host in sorted(changed, key=_failed_first)]
    rows += [(named(names), state, "-", "-", NOTHING) for state, names in same.items()]
    return table(rows, "lllrl")


def _failed_first(host: Mapping[str, Any]) -> tuple[Any, ...]:
    return host["state"] not in NOT_SEEN, in_order(host["name"])


def _row(host: Mapping[str, Any]) -> tuple[str, ...]:
    change = host["change"] or {}
    seconds = change.get("seconds")
    restarted = {True: "yes", False: "no", None: "?" if change else "-"}[change.get("restarted")]
    return (
        host["name"],
        host["state"],
        restarted,
        "-" if seconds is None else f"{seconds:.0f}",
        host["problem"] or "; ".join(_words(change)) or NOTHING,
    )


def _words(change: Mapping[str, Any]) -> Iterable[str]:
    for one in change.get("variables", ()):
        yield f"{one['name']} {one['before']} -> {one['after']}"
    yield from change.get("others", ())


def _variable(drift: Drift) -> dict[str, str]:
    return {
        "name": drift.variable,
        "before": shown(nearest(drift.found)),
        "after": shown_wanted(drift.wanted, drift.found),
    }
