# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places a demand on the hosts that a play has read, on the control node, without a connection to any of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ansible.plugins.loader import lookup_loader
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._demand import (
    FleetDemand,
    demands_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._fleet import (
    Found,
    read_fleet,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._linear import Solve
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._place import (
    Limits,
    place,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._present import (
    as_data,
    as_inventory,
    tables,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._remedies import remedies
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._gathered import names_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._next_command import pattern_of
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import shown
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._described_hosts import DescribedHosts
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._fleet_module import FleetModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._highs import solver
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._report_folder import write_files

ARGUMENT_SPEC = {
    "demand": {"type": "raw", "required": True},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "check_only": {"type": "bool", "default": False},
    "survive": {"type": "raw", "default": 0},
    "solver_seconds": {"type": "raw", "default": 30},
    "may_pull": {"type": "bool", "default": True},
    "dir": {"type": "path"},
    "file": {"type": "path"},
}
DATA = "placement.json"
MOST_SOLVER_SECONDS = 86400.0


class ActionModule(FleetModule):
    """The work of the module `fleet_place`."""

    argument_spec = ARGUMENT_SPEC

    def answer(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        demands = demands_from_list(options["demand"])
        may_hold = {demand.name: self._matching(demand, options["hosts"], variables) for demand in demands}
        survive, seconds = lost_hosts(options["survive"]), solver_seconds(options["solver_seconds"])
        solve = solver()
        described = DescribedHosts(variables, [demand.name for demand in demands])
        if options["check_only"]:
            hosts = [name for name in options["hosts"] if described.inputs_json(name) is None]
            return {"to_read": [pattern_of(name) for name in hosts]}
        found, left_out = read_hosts(options["hosts"], demands, may_hold, variables["hostvars"], described)
        try:
            outcome = placed(
                demands,
                found,
                left_out,
                solve,
                Limits(time.monotonic, solver_seconds=seconds),
                survive=survive,
                may_pull=options["may_pull"],
            )
        except TimeoutError as error:
            raise ValueError(str(error)) from error
        inventory = outcome.pop("inventory")
        if options["dir"]:
            write_files(
                Path(options["dir"]).resolve(),
                [(DATA, json.dumps(outcome["placement"], indent=1) + "\n")],
            )
        if options["file"]:
            path = Path(options["file"]).resolve()
            write_files(path.parent, [(path.name, inventory)])
            outcome["file"] = str(path)
        return outcome

    def _matching(
        self, demand: FleetDemand, hosts: Sequence[str], variables: Mapping[str, Any]
    ) -> frozenset[str]:
        """The hosts that may hold a model.

        Raises: ValueError where its pattern matches none of them.
        """
        if not demand.hosts:
            return frozenset(hosts)
        lookup = lookup_loader.get(
            "ansible.builtin.inventory_hostnames", loader=self._loader, templar=self._templar
        )
        named = frozenset(lookup.run([demand.hosts], variables=variables)) & frozenset(hosts)
        if not named:
            raise ValueError(
                f"gpufleet_demand, model '{demand.name}': hosts is '{demand.hosts}', and matches none of the "
                f"{len(hosts)} hosts that are placed on: name a group, host or pattern of them"
            )
        return named


def lost_hosts(value: Any) -> bool:
    """Whether the demand is to be met when any one host is lost.

    Raises: ValueError where it is neither 0 nor 1.
    """
    if str(value) not in ("0", "1"):
        raise ValueError(
            f"gpufleet_survive must be 0 or 1, the hosts that may be lost at once, found {value!r:.80}"
        )
    return str(value) == "1"


def solver_seconds(value: Any) -> float:
    """The time that the solver has.

    Raises: ValueError where it is no number of seconds.
    """
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 1.0 <= seconds <= MOST_SOLVER_SECONDS:
        raise ValueError(
            f"gpufleet_solver_seconds must be from 1 to {MOST_SOLVER_SECONDS:.0f}, found {value!r:.80}"
        )
    return seconds


def read_hosts(
    hosts: Iterable[str],
    demands: Sequence[FleetDemand],
    may_hold: Mapping[str, frozenset[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    described: DescribedHosts,
) -> tuple[dict[str, Found], dict[str, str]]:
    """What the play has read of each host, or what describes it; and why others take no part."""
    spreads = sorted({demand.spread for demand in demands if demand.spread})
    found, left_out = {}, {}
    # Of hosts that are described alike the text is the same, which with many models is most of the memory.
    inputs = cache(json.loads)
    named: dict[str, str] = {}
    for name in hosts:
        variables = hostvars[name]
        text = described.inputs_json(name)
        read = {"inputs_json": text} if text else variables.get("ollama_plan_result") or {}
        if read.get("unreachable"):
            left_out[name] = shown(f"it cannot be reached: {read.get('msg', '')}"[:500])
            continue
        if not read.get("inputs_json"):
            reason = variables.get("ollama_report_failure") or read.get("msg") or "it was not read"
            left_out[name] = shown(str(reason)[:500])
            continue
        told = inputs(read["inputs_json"])
        service_id = told.get("service_id")
        if service_id and named.setdefault(service_id, name) != name:
            left_out[name] = shown(
                f"{named[service_id]} and it are names of one service of one machine: give each its own ollama_override_unit or "
                "address, or leave only one in the inventory"
            )
            continue
        wanted = variables.get("ollama_plan_wanted")
        found[name] = Found(
            inputs=told,
            may_hold=frozenset(model for model, names in may_hold.items() if name in names),
            planned=tuple(names_of(wanted if isinstance(wanted, list) else ())),
            values={spread: _value(variables.get(spread)) for spread in spreads},
        )
    return found, left_out


def _value(value: Any) -> str:
    """A value over which replicas are spread; an empty one is none."""
    return "" if value is None else str(value).strip()


def placed(
    demands: Sequence[FleetDemand],
    found: Mapping[str, Found],
    left_out: Mapping[str, str],
    solve: Solve,
    limits: Limits,
    *,
    survive: bool,
    may_pull: bool,
) -> dict[str, Any]:
    """The result of the module.

    Raises: ValueError, TimeoutError in one sentence where there is no placement.
    """
    fleet = read_fleet(demands, found, left_out, may_pull=may_pull)
    placement = place(fleet, solve, limits, survive=survive)
    offers = [] if placement.is_met else remedies(placement, solve, limits)
    return {
        "placement": as_data(placement, offers),
        "is_met": placement.is_met,
        "table": tables(placement, offers),
        "inventory": as_inventory(placement),
    }
