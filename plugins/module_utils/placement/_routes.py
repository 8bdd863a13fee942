# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts a router sends the requests for a model to, and how many at once: the slots of their plans."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import (
    name_key,
    short_name,
    unlike,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._plain_names import plain_names

# What routers take in their files without quotes; a model of another name is left out, because a host may choose it.
# LiteLLM puts an environment variable where a name begins with os.environ/ (its docs, proxy/configs).
_MODEL = re.compile(r"(?!(?i:os\.environ/))[A-Za-z0-9][A-Za-z0-9._/:-]{0,254}")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")
DEFAULT_PORT = 11434


@dataclass(frozen=True)
class RoutedHost:
    """A host behind a router. `slots`: of each model that it holds; `contexts`: in tokens per request."""

    name: str
    address: str
    slots: Mapping[str, int]
    contexts: Mapping[str, int]


def backend(name: str, address: str, plan: Mapping[str, Any]) -> RoutedHost:
    """A host with what its plan says that it holds.

    Raises: ValueError in one sentence where the plan is none, is not safe, or holds nothing for certain.
    """
    try:
        models = {
            str(model["name"]): (int(model["num_parallel"]), int(model["context_length"]))
            for model in plan["models"]
            if model["planned"]
        }
        is_safe, most = bool(plan["safe"]), int(plan["max_loaded_models"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{name} has no plan: run the role ollama_plan, plan.yml or site.yml before the router's"
        ) from None
    if not is_safe:
        raise ValueError(f"{name} is left out, because its plan is not safe")
    if len(models) > most:
        raise ValueError(
            f"{name} is left out, because it has {len(models)} models and keeps {most} of them loaded: name those that it is to "
            "hold in ollama_plan_wanted"
        )
    return RoutedHost(
        name=name,
        address=address,
        slots={model: slots for model, (slots, _context) in models.items()},
        contexts={model: context for model, (_slots, context) in models.items()},
    )


def full_address(address: str, port: int) -> str:
    """A host name or address with its port.

    Raises: ValueError where it is none.
    """
    text = address.strip()
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    if not re.search(r":[0-9]+$", text) or text.endswith("]"):
        text = f"{text}:{port}"
    if not _ADDRESS.fullmatch(text) or int(text.rpartition(":")[2]) not in range(1, 65536):
        raise ValueError(
            f"{address!r:.80} is no address of a host: set ollama_router_address to a name or an address"
        )
    return text


def upstreams(backends: Sequence[RoutedHost]) -> tuple[list[dict[str, Any]], list[str]]:
    """Each model with exactly the hosts that hold it, and what is left out, one sentence each.

    `id` is the model's name in paths and a host's in the router's file, `upstream` the model's there. Plain data for templates.
    """
    models: dict[str, str] = {}
    servers: dict[str, list[dict[str, Any]]] = {}
    contexts: dict[str, list[int]] = {}
    notes = []
    for one in sorted(backends, key=lambda backend: backend.name):
        for model in unlike(sorted(one.slots)):
            name = short_name(model)
            if not (_MODEL.fullmatch(model) and _MODEL.fullmatch(name)):
                notes.append(
                    f"{one.name}: model {model!r:.80} is left out, because its name is none that a router takes"
                )
                continue
            key = name_key(model)
            models.setdefault(key, name)
            servers.setdefault(key, []).append(
                {"host": one.name, "address": one.address, "slots": one.slots[model]}
            )
            contexts.setdefault(key, []).append(one.contexts.get(model, 0))
    plain_hosts = plain_names([one.name for one in backends], {})
    in_paths = plain_names(list(models.values()), {"/": "--"})
    in_files = plain_names(list(models.values()), {"/": "--", ":": "_"})
    found: list[dict[str, Any]] = []
    for key, name in sorted(models.items()):
        bare = [name[: -len(":latest")]] if key.endswith(":latest") else []
        found.append(
            {
                "model": name,
                "names": [name, *bare],
                "id": in_paths[name],
                "upstream": f"ollama_{in_files[name]}",
                "slots": sum(server["slots"] for server in servers[key]),
                "context_length": min(contexts[key]),
                "servers": [{**server, "id": plain_hosts[server["host"]]} for server in servers[key]],
            }
        )
    return found, notes


def mark(routed: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """What tells one configuration of a router from another, so that a running router can say which one it has."""
    text = json.dumps([routed, settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
