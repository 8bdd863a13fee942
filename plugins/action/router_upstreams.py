# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds on the control node which hosts hold which models, as a router in front of them is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._present import read_summary
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._routes import (
    DEFAULT_PORT,
    RoutedHost,
    backend,
    full_address,
    mark,
    upstreams,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._known import plan_in, verified_in
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._fleet_module import FleetModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._settings_by_fact import settings_by_fact

ARGUMENT_SPEC = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "out": {"type": "list", "elements": "str", "default": []},
    "drifted": {"type": "str", "choices": ["leave", "keep"], "default": "leave"},
    "port": {"type": "int", "default": DEFAULT_PORT},
    "settings": {"type": "dict", "default": {}},
}


class ActionModule(FleetModule):
    """The work of the module `router_upstreams`."""

    argument_spec = ARGUMENT_SPEC

    def answer(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        return routes(options, variables["hostvars"])


def routes(options: Mapping[str, Any], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The result of the module.

    Raises: ValueError in one sentence where an address is none, or no host holds anything.
    """
    backends, notes = [], []
    for name in options["hosts"]:
        variables = hostvars[name]
        if name in options["out"] or variables.get("ollama_router_is_out") is True:
            notes.append(f"{name} is out of service")
            continue
        try:
            backends.append(_backend(name, variables, options))
        except _LeftOutError as reason:
            notes.append(str(reason))
    found, more = upstreams(backends)
    if not found:
        raise ValueError(
            f"no host holds a model for certain, so that a router would have nothing: {'; '.join([*notes, *more][:3])}"
        )
    return {"upstreams": found, "notes": [*notes, *more], "mark": mark(found, options["settings"])}


class _LeftOutError(Exception):
    """Why a host is left out."""


def _backend(name: str, variables: Mapping[str, Any], options: Mapping[str, Any]) -> RoutedHost:
    chosen_by_the_host = settings_by_fact(variables)
    if chosen_by_the_host:
        raise _LeftOutError(f"{name} is left out: {chosen_by_the_host[0]}")
    address = full_address(
        str(variables.get("ollama_router_address") or variables.get("ansible_host") or name), options["port"]
    )
    if _is_unchanged(variables) and options["drifted"] == "leave":
        raise _LeftOutError(f"{name} is left out, because it is not as planned")
    if options["drifted"] == "keep":
        placed = _placed(name, variables)
        if placed is not None and _is_unchanged(variables):
            return RoutedHost(name, address, placed["before"], {})
        # A run that a limit keeps from some hosts has no plan of them, and must not take them out of service.
        if placed is not None and not _plan(variables):
            return RoutedHost(name, address, placed["after"], {})
        if not _plan(variables):
            raise ValueError(
                f"{name} was not planned in this run, so that the router would lose it: run without --limit, or with the file "
                "of a placement among the inventories"
            )
    try:
        return backend(name, address, _plan(variables))
    except ValueError as error:
        raise _LeftOutError(str(error)) from error


def _is_unchanged(variables: Mapping[str, Any]) -> bool:
    """Whether the host was found not to be as planned, and this run has not made it so."""
    verified = verified_in(variables) or {}
    came_back = variables.get("ollama_router_is_out") is False and not variables.get(
        "ollama_override_rolled_back"
    )
    return "in_sync" in verified and not verified["in_sync"] and not came_back


def _placed(name: str, variables: Mapping[str, Any]) -> Mapping[str, Mapping[str, int]] | None:
    """What a host serves before and after a placement; None where that is not known."""
    if "gpufleet_placement" not in variables:
        return None
    _requests, hosts = read_summary(variables["gpufleet_placement"])
    return hosts.get(name)


def _plan(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    plan = plan_in(variables)
    return plan if isinstance(plan, Mapping) else {}
