# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a placement makes of hosts that are described in variables: by one process for all, where a task needs one for each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._gathered import (
    parts,
    placement_inputs,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import ARGUMENT_SPEC
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._plan_options import (
    ROLE,
    plan_options,
    refusals_of,
    validated,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import ROLES, SPECS

DEFAULTS = yaml_load((ROLES / ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
VARIABLES = tuple(SPECS[ROLE]["main"])


class DescribedHosts:
    """The hosts of a run by what their variables say. What many share, such as the models of a group, is resolved once.

    `variables`: those of the task. `wanted`: the models that are demanded. Whatever is not plain is left to the task that reads
    each host, which says what is wrong; all hosts are where the play itself sets how they are planned.
    """

    def __init__(self, variables: Mapping[str, Any], wanted: Sequence[str]) -> None:
        self._hostvars = variables["hostvars"]
        self._is_of_the_play = bool(set_by_the_play(variables))
        # As playbooks/place.yml sets them for the hosts that it reads: what a host was to hold is no bound for what it can.
        self._set = {"ollama_plan_wanted": list(wanted), "ollama_plan_min_parallel": 1}
        self._same: dict[int, tuple[Any, Any]] = {}
        self._texts: dict[tuple[Any, ...], str | None] = {}

    def inputs_json(self, name: str) -> str | None:
        """What the module `ollama_plan` would leave of the host with `only_inputs`; None where it has to be read."""
        if self._is_of_the_play:
            return None
        try:
            values, key = self._values(name)
        except (AnsibleError, TypeError, ValueError):
            return None
        if key not in self._texts:
            self._texts[key] = _inputs_json({**DEFAULTS, **values, **self._set})
        if refusals_of(self._hostvars[name], {}):
            return None
        return self._texts[key]

    def _values(self, name: str) -> tuple[dict[str, Any], tuple[Any, ...]]:
        """The variables of the role that are given for a host, resolved, and what is equal where they are."""
        raw, resolved = raw_variables(self._hostvars, name), self._hostvars[name]
        values: dict[str, Any] = {}
        key: list[tuple[str, Any]] = []
        for variable in VARIABLES:
            if variable not in raw:
                continue
            value = raw[variable]
            same = self._same.get(id(value))
            if same is None:
                values[variable] = resolved[variable]
                if values[variable] == value:
                    # Nothing in it depends on the host. What is kept keeps its identity.
                    self._same[id(value)] = (value, values[variable])
                    key.append((variable, id(value)))
                else:
                    key.append((variable, json.dumps(values[variable], sort_keys=True)))
            else:
                values[variable] = same[1]
                key.append((variable, id(value)))
        return values, tuple(key)


def raw_variables(hostvars: Any, name: str) -> Mapping[str, Any]:
    """The variables of a host as they are written."""
    found: Mapping[str, Any] = hostvars.raw_get(name) if hasattr(hostvars, "raw_get") else hostvars[name]
    return found


def set_by_the_play(variables: Mapping[str, Any]) -> list[str]:
    """The role's variables that the play sets, which no variable of a host tells of."""
    host = variables.get("inventory_hostname")
    of_the_host = raw_variables(variables["hostvars"], host) if host else {}
    return [
        name
        for name in VARIABLES
        if name in variables and (name not in of_the_host or variables[name] != of_the_host[name])
    ]


def _inputs_json(values: dict[str, Any]) -> str | None:
    options = plan_options(values, ARGUMENT_SPEC)
    if options["gather"] or refusals_of({}, values):
        return None
    try:
        told = placement_inputs(validated(options), parts({}))
    except AnsibleError:
        return None
    return json.dumps(told, separators=(",", ":"))
