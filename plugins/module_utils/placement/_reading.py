# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a placement takes of a host: what its plan would be made from, with the models that are demanded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._gathered import (
    gathered,
    names_of,
    parts,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import POLICY
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_option

# What of the service decides a plan.
OF_THE_SERVICE = ("process_environment", "environment", "variables", "dropin_path")


def placement_inputs(options: Mapping[str, Any], read: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a host, as plain data: of models those of the option `wanted`, and no secret.

    `options`: those of `ollama_plan`. `read`: what `ollama_host_info` returned, empty where nothing was read.
    Raises: ValueError when something could not be read.
    """
    if read.get("failures"):
        raise ValueError("; ".join(map(str, read["failures"])))
    host = parts(read)
    asked = gathered(options, host)
    wanted = set(map(name_key, names_of(asked["wanted"])))

    def named(items: Any) -> list[Any]:
        return [one for one in items if name_key(str(one.get("name", ""))) in wanted]

    service = {name: asked["service"][name] for name in OF_THE_SERVICE if name in asked["service"]}
    policy = {name: asked[name] for name in POLICY}
    return {
        "gpu": asked["gpu"],
        "models": named(asked["models"]),
        "installed": [one["name"] for one in (host.get("models") or {}).get("models") or ()],
        "unplannable": named(asked["unplannable"]),
        "loaded": asked["loaded"],
        "version": asked["version"],
        "service": service,
        "policy": {**policy, "operator_environment": masked_option(asked["operator_environment"])},
        "is_read": bool(host["gpu"]),
    }
