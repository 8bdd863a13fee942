# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A placement in words and figures: as data, as tables for the terminal, as an inventory for the playbooks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._lines import sentences, table
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._choose import Gap
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._order import HostMove, order_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._place import PlacedHost, Placement

# Longer tables of hosts are told in one line for all that hold the same.
MOST_ROWS = 40
MOST_NAMED = 5
FORMAT = 1


def as_data(placement: Placement, remedies: Sequence[str]) -> dict[str, Any]:
    """The placement as plain data for JSON; sizes in bytes, context lengths in tokens per request."""
    return {
        "format": FORMAT,
        "is_met": placement.is_met,
        "survive": int(placement.survives),
        "demand": [
            {
                "name": supply.demand.name,
                "requests": supply.demand.requests,
                "context_length": supply.demand.context_length,
                "replicas": supply.demand.replicas,
                "priority": supply.demand.priority,
                "slots": supply.slots,
                "hosts": supply.hosts,
                "slots_without_one": supply.slots_without_one,
                "short_slots": supply.short_slots,
                "short_hosts": supply.short_hosts,
            }
            for supply in placement.supplies
        ],
        "hosts": [_host(host) for host in placement.hosts],
        "left_out": dict(placement.fleet.left_out),
        "remedies": list(remedies),
        "notes": notes(placement),
    }


def _host(host: PlacedHost) -> dict[str, Any]:
    return {
        "name": host.name,
        "slots": dict(host.slots),
        "num_parallel": host.parallel,
        "context_length": host.proof.context_length,
        "kv_cache_type": host.proof.kv_cache_type,
        "planned_bytes": host.proof.planned_bytes,
        "total_bytes": sum(gpu.total_bytes for gpu in host.proof.gpus),
        "to_pull": list(host.to_pull),
        "to_load": list(host.to_load),
        "changes": host.changes,
    }


def notes(placement: Placement) -> list[str]:
    """What the operator should know besides, one sentence each."""
    found = [
        f"{name} is left out, its slots do not count: {why}" for name, why in placement.fleet.left_out.items()
    ]
    found += [_missing(supply) for supply in placement.supplies if supply.short_slots or supply.short_hosts]
    if placement.survives:
        for supply in placement.supplies:
            lacking = supply.demand.requests - supply.slots_without_one
            if lacking > 0 and not supply.short_slots:
                found.append(
                    f"{supply.demand.name} has {supply.slots_without_one} of {supply.demand.requests} slots when the host "
                    "with most of them is lost"
                )
    found += _measured(placement)
    found += map(_gap, placement.gaps)
    if not placement.is_complete:
        found.append("there was no time to look for every useful set of models: a better placement may exist")
    return [*found, *dips(placement)]


def _measured(placement: Placement) -> list[str]:
    """Which slots do not count, because a benchmark has found fewer of them to be worth having."""
    requests = {supply.demand.name: supply.demand.requests for supply in placement.supplies}
    alike: dict[tuple[str, int], list[str]] = {}
    for name, host in placement.fleet.hosts.items():
        for model, slots in host.useful.items():
            if slots < min(requests[model], host.exact.policy.max_parallel):
                alike.setdefault((model, slots), []).append(name)
    return [
        f"{model}: of a host's slots {slots} count, as many as a benchmark found worth having: {named(names)}"
        for (model, slots), names in alike.items()
    ]


def named(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _missing(supply: Any) -> str:
    demand = supply.demand
    parts = []
    if supply.short_slots:
        parts.append(f"{supply.short_slots} of {demand.requests} slots")
    if supply.short_hosts:
        spread = f" of different {demand.spread}" if demand.spread and demand.replicas > 1 else ""
        parts.append(f"{supply.short_hosts} of {demand.replicas} hosts{spread}")
    return f"{demand.name} lacks {' and '.join(parts)}"


def _gap(gap: Gap) -> str:
    of = {
        "demand": "slots missing",
        "survive": "slots missing when a host is lost",
        "moves": "moves",
        "hosts": "hosts",
        "changes": "hosts changed",
    }
    return (
        f"not proven to be the best: {gap.reached:.0f} {of.get(gap.objective, gap.objective)}, and {max(gap.bound, 0):.0f} may "
        "be possible (gpufleet_solver_seconds gives the solver more time)"
    )


def host_moves(placement: Placement) -> list[HostMove]:
    """What hosts serve now, and as they are placed; those that serve nothing either way are none of them."""
    placed = {host.name: host for host in placement.hosts}
    requests = {supply.demand.name: supply.demand.requests for supply in placement.supplies}
    single = frozenset().union(*(kind.holds.single for kind in placement.kinds))
    moves = []
    for name, host in placement.fleet.hosts.items():
        held = host.held
        # A host serves what it holds, also what it may not hold any longer.
        before = {
            model: 1 if model in single else min(max(held.parallel, 1), requests[model])
            for model in sorted(held.models)
        }
        after = placed.get(name)
        if before or after:
            slots = dict(after.slots) if after else {}
            moves.append(HostMove(name, before, slots, is_done=bool(after and not after.changes)))
    return moves


def dips(placement: Placement) -> list[str]:
    """Where moving to the placement would serve less than is demanded, because there is no room to do otherwise."""
    requests = {supply.demand.name: supply.demand.requests for supply in placement.supplies}
    found = order_of(host_moves(placement), requests, sizes=(1,)).dips
    if not found:
        return []
    more = f", and {len(found) - 1} times more" if len(found) > 1 else ""
    return [f"there is no room to move without serving less: {found[0]}{more}"]


def tables(placement: Placement, remedies: Sequence[str]) -> list[str]:
    """The placement for the terminal: what each model gets, what each host holds, and what is to be said."""
    rows = [("MODEL", "REQUESTS", "CONTEXT", "SLOTS", "HOSTS", "WITHOUT ONE", "MISSING")]
    for supply in placement.supplies:
        missing = [f"{supply.short_slots} slots"] if supply.short_slots else []
        missing += [f"{supply.short_hosts} hosts"] if supply.short_hosts else []
        rows.append(
            (
                supply.demand.name,
                str(supply.demand.requests),
                str(supply.demand.context_length),
                str(supply.slots),
                str(supply.hosts),
                str(supply.slots_without_one),
                ", ".join(missing),
            )
        )
    lines = table(rows, "lrrrrrl")
    lines += ["", *table(_host_rows(placement.hosts), "lllrrrl")]
    said = notes(placement)
    if said:
        lines += ["", *sentences(said)]
    if not placement.is_met:
        lines += [
            "",
            "What would close the gap:",
            *sentences(remedies or ["nothing that was looked at"]),
        ]
    return lines


def _host_rows(hosts: Sequence[PlacedHost]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("HOST", "MODELS", "SLOTS", "PARALLEL", "CONTEXT", "GiB", "TO DO")]
    alike: dict[tuple[str, ...], list[str]] = {}
    for host in hosts:
        todo = [f"pull {name}" for name in host.to_pull]
        todo += [f"load {name}" for name in host.to_load if name not in host.to_pull]
        row: tuple[str, ...] = (
            ", ".join(host.slots),
            ", ".join(map(str, host.slots.values())),
            str(host.parallel),
            str(host.proof.context_length),
            gib_number(host.proof.planned_bytes),
            ", ".join(todo) or ("restart" if host.changes else ""),
        )
        alike.setdefault(row if len(hosts) > MOST_ROWS else (host.name, *row), []).append(host.name)
    for row, names in alike.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        rows.append((f"{names[0]}{more}", *row[-6:]))
    return rows


def as_inventory(placement: Placement) -> str:
    """The placement as a file of an inventory, in which nothing is a template."""
    serves = {move.name: move for move in host_moves(placement)}
    contexts = {supply.demand.name: supply.demand.context_length for supply in placement.supplies}
    summary = {
        "format": FORMAT,
        "requests": {supply.demand.name: supply.demand.requests for supply in placement.supplies},
        "hosts": {
            name: {"before": dict(move.before), "after": dict(move.after)} for name, move in serves.items()
        },
    }
    lines = [
        "# SPDX-License-Identifier" + ": GPL-3.0-or-later",
        "# Made by place.yml, which writes it anew. Give it beside your inventory: -i inventory.yml -i this file.",
        "---",
        "all:",
        "  vars:",
        f"    gpufleet_placement: !unsafe {_text(json.dumps(summary, sort_keys=True))}",
        "  hosts:",
    ]
    for host in placement.hosts:
        lines += [f"    {_text(host.name)}:", "      ollama_plan_wanted:"]
        for name in host.slots:
            lines += [
                f"        - name: !unsafe {_text(name)}",
                f"          context_length: {contexts[name]}",
                f"          requests: {host.parallel}",
            ]
        lines += [
            f"      ollama_plan_min_parallel: {host.parallel}",
            "      ollama_override_preload: true",
            "      ollama_verify_load: true",
            '      ollama_verify_keep_alive: "-1"',
        ]
    return "\n".join(lines) + ("" if placement.hosts else " {}") + "\n"


def _text(text: str) -> str:
    """A text as YAML takes it in quotes."""
    return json.dumps(text, ensure_ascii=True)


def read_summary(value: Any) -> tuple[dict[str, int], dict[str, dict[str, dict[str, int]]]]:
    """The requests by model and the hosts of a placement, out of the variable `gpufleet_placement`.

    Raises: ValueError in one sentence where it is not what `as_inventory` writes.
    """
    try:
        data = json.loads(value) if isinstance(value, str) else value
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise TypeError
        requests = {str(name): int(count) for name, count in data["requests"].items()}
        hosts = {
            str(name): {
                when: {str(one): int(count) for one, count in host[when].items()}
                for when in ("before", "after")
            }
            for name, host in data["hosts"].items()
        }
    except (TypeError, ValueError, KeyError, AttributeError):
        raise ValueError(
            "gpufleet_placement is not what place.yml writes: leave its file (gpufleet_placement_file) as it was made, or make "
            "it anew"
        ) from None
    return requests, hosts
