# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of a plan in the order in which to load them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key


def planned_models(plan: Mapping[str, Any], *, served: bool = False) -> list[dict[str, Any]]:
    """What `ollama_load` takes of a plan in the form of `ollama_plan`.

    `served`: where no model is wanted, every model that is planned.

    Raises: KeyError or TypeError where it is no plan.
    """
    order = plan["load_order"]
    if served and not order:
        order = [model["name"] for model in plan["models"] if model["planned"]]
    models = {model["name"]: model for model in plan["models"]}
    return [
        {
            "name": name,
            "context_length": models[name]["context_length"],
            "num_parallel": models[name]["num_parallel"],
            "placement": plan["placement"],
        }
        for name in order
    ]


def not_loaded(
    plan: Mapping[str, Any], loaded: Iterable[str], installed: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The models that are to stay loaded and are not, in the plan's order.

    `loaded`: the names that the server tells. `installed`: the host's models; tags of one file share a runner, which
    keeps the name of the first.
    """
    blobs = {name_key(str(model["name"])): model.get("blob") for model in installed}
    names = {name_key(name) for name in loaded}
    files = {blobs.get(name) for name in names} - {None}
    return [
        name
        for name in plan["load_order"]
        if name_key(name) not in names and blobs.get(name_key(name)) not in files
    ]
