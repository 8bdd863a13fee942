# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment of a service as planning needs it: what runs, what we set, what others set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import environment_from_dict


@dataclass(frozen=True)
class Service:
    """Names and values: of the running process, of our drop-in, and of all other files.

    `places`: where each of the latter is set, as file and line.
    """

    running: Mapping[str, str] = field(default_factory=dict)
    managed: Mapping[str, str] = field(default_factory=dict)
    foreign: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)


def service_from_info(info: Any) -> Service:
    """The service that `systemd_environment_info` described; an empty mapping is one that is not known.

    What runs is the process's environment, or systemd's where no process runs.

    Raises: ValueError that names the key that is not as the module returns it.
    """
    if not isinstance(info, Mapping):
        raise ValueError(
            f"service must be what systemd_environment_info returned, a mapping, found {info!r:.80}"
        )
    running = info.get("process_environment") or info.get("environment") or {}
    variables = info.get("variables", {})
    if not isinstance(variables, Mapping) or not all(
        isinstance(one, Mapping) and {"value", "file"} <= set(one) for one in variables.values()
    ):
        raise ValueError(
            "service must be what systemd_environment_info returned; its variables lack value and file"
        )
    ours = info.get("dropin_path")
    managed = {name: one["value"] for name, one in variables.items() if one["file"] == ours}
    foreign = {name: one["value"] for name, one in variables.items() if one["file"] != ours}
    return Service(
        running=environment_from_dict(running, "service.process_environment"),
        managed=environment_from_dict(managed, "service.variables"),
        foreign=environment_from_dict(foreign, "service.variables"),
        places={name: _place(variables[name]) for name in foreign},
    )


def _place(variable: Mapping[str, Any]) -> str:
    line = variable.get("line")
    return f"{variable['file']}:{line}" if line else str(variable["file"])
