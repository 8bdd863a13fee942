# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fleet is to serve: for each model the requests at once, the context, and where it may lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import (
    MAX_NAME_CHARACTERS,
    name_key,
    short_name,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import MOST_CONTEXT_LENGTH

# Values that no fleet reaches; they catch a slip of the keyboard.
MOST_REQUESTS = 1000000
MOST_REPLICAS = 100000
MOST_PRIORITY = 1000000
# A solver proves the optimum for some forty; beyond this many the demand is no longer one that a person has written.
MOST_DEMANDS = 256


@dataclass(frozen=True)
class FleetDemand:
    """What one model must serve over the fleet; `context_length` in tokens per request, 0 where none was asked for.

    `replicas`: at least so many hosts hold it. `spread`: a variable of the hosts; these hosts have different values of
    it. `hosts`: the pattern of the hosts that may hold it, empty for all. `priority`: those of the highest are met first.
    """

    name: str
    requests: int
    context_length: int = 0
    replicas: int = 1
    spread: str = ""
    hosts: str = ""
    priority: int = 0


_KEYS = tuple(field.name for field in fields(FleetDemand))


def demands_from_list(items: Any) -> tuple[FleetDemand, ...]:
    """The demand that `gpufleet_demand` states, the most urgent first.

    Raises: ValueError in one sentence that names the entry, what is wrong with it, and what to do.
    """
    if not isinstance(items, Sequence) or isinstance(items, (str, bytes)):
        raise ValueError(
            f"gpufleet_demand must be a list of models with name and requests, found {items!r:.80}"
        )
    if not items:
        raise ValueError(
            "gpufleet_demand is empty: name the models and the requests that the fleet is to serve"
        )
    if len(items) > MOST_DEMANDS:
        raise ValueError(f"gpufleet_demand has {len(items)} models, at most {MOST_DEMANDS} are placed")
    demands = [_demand(item) for item in items]
    seen: dict[str, FleetDemand] = {}
    for demand in demands:
        other = seen.setdefault(name_key(demand.name), demand)
        if other is not demand:
            raise ValueError(_twice(other, demand))
    return tuple(sorted(demands, key=lambda demand: (-demand.priority, demand.name)))


def _twice(first: FleetDemand, second: FleetDemand) -> str:
    differing = [key for key in _KEYS[1:] if getattr(first, key) != getattr(second, key)]
    if not differing:
        return f"gpufleet_demand has '{first.name}' twice: name it once, with all the requests that it must serve"
    key = differing[0]
    return (
        f"gpufleet_demand has '{first.name}' twice, and they contradict: {key} is {getattr(first, key)!r} and "
        f"{getattr(second, key)!r}; keep one of them"
    )


def _demand(item: Any) -> FleetDemand:
    if not isinstance(item, Mapping):
        raise ValueError(
            f"an entry of gpufleet_demand must be a mapping with name and requests, found {item!r:.80}"
        )
    name = item.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(f"an entry of gpufleet_demand needs the name of a model, found {dict(item)!r:.80}")
    where = f"gpufleet_demand, model '{name}': "
    for key in item:
        if key not in _KEYS:
            raise ValueError(f"{where}'{key}' is unknown, known are {', '.join(_KEYS)}")
    if item.get("requests") is None:
        raise ValueError(f"{where}requests is missing: how many requests at once must the fleet serve?")
    return FleetDemand(
        name=short_name(name.strip()),
        requests=_number(
            where, item, "requests", 1, MOST_REQUESTS, " (leave the model out if it serves none)"
        ),
        context_length=_number(where, item, "context_length", 1, MOST_CONTEXT_LENGTH),
        replicas=_number(where, item, "replicas", 1, MOST_REPLICAS),
        priority=_number(where, item, "priority", -MOST_PRIORITY, MOST_PRIORITY),
        spread=_text(where, item, "spread"),
        hosts=_text(where, item, "hosts"),
    )


def _number(where: str, item: Mapping[str, Any], key: str, least: int, most: int, hint: str = "") -> int:
    value = item.get(key)
    if value is None:
        default: int = getattr(FleetDemand, key)
        return default
    # Values of the command line and of templates come as text.
    number = int(value) if isinstance(value, str) and value.strip().lstrip("-").isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise ValueError(
            f"{where}{key} must be a whole number from {least} to {most}, found {value!r:.80}{hint}"
        )
    return number


def _text(where: str, item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}{key} must be a text, found {value!r:.80}")
    return value.strip()
