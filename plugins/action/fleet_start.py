# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses a run that would look at no host, or that would ignore what the inventory says of its hosts and batches."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import (
    unfit_playbook_values,
    unknown_variables,
)

ARGUMENT_SPEC = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "pattern": {"type": "raw", "required": True},
}
HOSTS = "gpufleet_hosts"
SERIALS = ("gpufleet_serial", "gpufleet_benchmark_serial")
_SIZE = re.compile(r"[1-9][0-9]*%?")


class ActionModule(ActionBase):
    """The work of the module `fleet_start`: on the control node, without a connection to a host."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _unused, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        variables = task_vars or {}
        hosts, pattern = options["hosts"], options["pattern"]
        extra = load_extra_vars(self._loader)
        told_to_plays = set(extra) | told_by_the_play(variables)
        refusals = ignored_settings(variables["hostvars"], hosts, told_to_plays)
        refusals += [sentence for name in SERIALS for sentence in unfit_serial(name, variables.get(name))]
        refusals += unknown_variables(extra) + unfit_playbook_values(variables, self._templar.template)
        if not hosts:
            refusals.append(no_host(pattern, variables.get("ansible_limit")))
        if refusals:
            return {**result, "failed": True, "msg": "; ".join(refusals)}
        return {**result, "changed": False}


def told_by_the_play(variables: Mapping[str, Any]) -> set[str]:
    """Which of the settings have another value in the play than in the inventory: those that the play itself sets."""
    of_the_host = variables["hostvars"].get(variables.get("inventory_hostname")) or {}
    return {
        name
        for name in (HOSTS, *SERIALS)
        if name in variables and (name not in of_the_host or variables[name] != of_the_host[name])
    }


def ignored_settings(
    hostvars: Mapping[str, Mapping[str, Any]], hosts: Iterable[str], told_to_plays: Collection[str]
) -> list[str]:
    """One sentence for each setting of the plays that is a variable of hosts, which no play sees.

    Source: Ansible resolves the keywords `hosts` and `serial` before it knows a host.
    """
    sentences = []
    for name in (HOSTS, *SERIALS):
        # Which hosts are meant cannot be told where they are to be named by their own variable.
        places = list(hostvars) if name == HOSTS else hosts
        if name not in told_to_plays and any(name in (hostvars.get(host) or {}) for host in places):
            sentences.append(
                f"{name} is set in the inventory, where a play cannot see it, so that it would be ignored: remove it there, "
                f"and give it with -e, or under vars of an import_playbook in a playbook of yours"
            )
    return sentences


def unfit_serial(name: str, value: Any) -> list[str]:
    """One sentence where a setting of batches is not what Ansible takes."""
    sizes = value if isinstance(value, list) else [value]
    if value is None or (sizes and all(_is_size(size) for size in sizes)):
        return []
    return [
        f"{name} is {value!r}, and Ansible takes a number of hosts, a percentage such as '25%', or a list of these: "
        f'on the command line write -e \'{{"{name}": [1, "25%", "100%"]}}\''
    ]


def _is_size(size: Any) -> bool:
    if isinstance(size, bool):
        return False
    return size > 0 if isinstance(size, int) else bool(isinstance(size, str) and _SIZE.fullmatch(size))


def no_host(pattern: Any, limit: Any) -> str:
    """Why nothing would be done."""
    within = f" within --limit {limit}" if limit else ""
    return (
        f"no host of the inventory matches {pattern!r}{within}, so that nothing was looked at: "
        f"put your hosts into that group, or name another group or pattern with -e {HOSTS}=..."
    )
