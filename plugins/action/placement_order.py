# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the order in which a rollout changes the hosts of a placement, so that the demand is served all the while."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.action.fleet_start import unfit_serial
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._order import HostMove, order_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._present import read_summary
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._known import verified_in
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._next_command import pattern_of
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._fleet_module import FleetModule

ARGUMENT_SPEC = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "fleet": {"type": "list", "elements": "str", "required": True},
    "serial": {"type": "raw", "default": [1, "25%", "100%"]},
    "file": {"type": "str", "default": ""},
}


class ActionModule(FleetModule):
    """The work of the module `placement_order`."""

    argument_spec = ARGUMENT_SPEC

    def answer(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        if "gpufleet_placement" not in variables:
            raise ValueError(not_in_inventory(options["file"]))
        return ordered(options, variables["gpufleet_placement"], variables["hostvars"])


def not_in_inventory(file: str) -> str:
    """Why a placement cannot be applied that no variable tells of."""
    return (
        f"gpufleet_placement_file is {file}, which is not among the inventories of this run, so that its hosts would be planned "
        f"without it: add -i {shlex.quote(file)} behind your own inventory"
    )


def ordered(
    options: Mapping[str, Any], summary: Any, hostvars: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The hosts in their order, the sizes of the batches, and where less is served than is demanded.

    Raises: ValueError in one sentence where the placement is none, or one of another fleet.
    """
    requests, placed = read_summary(summary)
    others = sorted(set(placed) - set(options["fleet"]))
    if others:
        raise ValueError(
            f"the placement (gpufleet_placement_file) is of another fleet: {', '.join(others[:5])} "
            f"{'is' if len(others) == 1 else 'are'} none of the {len(options['fleet'])} hosts of this one; run place.yml anew"
        )
    moves = [_move(name, placed, hostvars.get(name) or {}) for name in options["hosts"]]
    # Hosts that a limit leaves out go on as they are.
    moves += [
        HostMove(name, {}, placed[name]["before"], is_done=True)
        for name in placed
        if name not in options["hosts"]
    ]
    order = order_of(moves, requests, sizes=sizes_of(options["serial"], len(options["hosts"])))
    within = [[name for name in batch if name in options["hosts"]] for batch in order.batches]
    batches = [batch for batch in within if batch]
    return {
        # A play takes them for patterns.
        "hosts": [pattern_of(name) for batch in batches for name in batch],
        "serial": [len(batch) for batch in batches] or [1],
        "dips": list(order.dips),
    }


def _move(name: str, placed: Mapping[str, Any], variables: Mapping[str, Any]) -> HostMove:
    host = placed.get(name) or {"before": {}, "after": {}}
    is_planned = bool((verified_in(variables) or {}).get("in_sync"))
    loaded = not _plan_result(variables).get("not_loaded")
    return HostMove(name, host["before"], host["after"], is_done=is_planned and loaded)


def _plan_result(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    result = variables.get("ollama_plan_result")
    return result if isinstance(result, Mapping) else {}


def sizes_of(serial: Any, hosts: int) -> list[int]:
    """The most hosts of each batch, as Ansible takes numbers and percentages.

    Raises: ValueError where it takes none of it.
    """
    for sentence in unfit_serial("gpufleet_serial", serial):
        raise ValueError(sentence)
    sizes = [str(one) for one in (serial if isinstance(serial, list) else [serial])]
    return [max(1, hosts * int(one[:-1]) // 100) if one.endswith("%") else int(one) for one in sizes]
