# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a test asks of the stand-in: version, sizes, speed and faults, from one JSON file.

The file is ``/etc/standin-ollama.json`` or what STANDIN_OLLAMA_CONFIG names; without a file everything is
as in a healthy server. It is read once, at start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

DEFAULT_PATH = "/etc/standin-ollama.json"
DEFAULT_VERSION = "0.33.0-rc2"
ACTIONS = {
    "exit_on_start": {"status"},
    "exit_after": {"seconds", "status"},
    "slow_start": {"seconds"},
    "fail": {"paths", "status", "error", "after"},
    "hang": {"paths", "seconds", "after"},
    "drop": {"paths", "after", "tokens"},
    "cut_short": {"paths", "after", "tokens"},
    "exit_in_request": {"paths", "after", "tokens", "status"},
    "busy_above": {"in_flight"},
    "spill": {"parallel"},
    "load_fails": {"error"},
    "drops_gpus": {"driver"},
}
LAWS = ("linear", "amdahl", "saturating", "thrashing")


@dataclass(frozen=True)
class Throughput:
    """How fast the stand-in generates; rates in tokens/s, ``time_scale`` shortens the waiting only."""

    law: str = "amdahl"
    tokens_per_second: float = 40.0
    prompt_tokens_per_second: float = 800.0
    serial_share: float = 0.3
    crosstalk: float = 0.05
    knee: int = 3
    noise: float = 0.0
    seed: int = 1
    time_scale: float = 0.01
    output_tokens: int = 64
    repeat_share: float = 0.0


@dataclass(frozen=True)
class Fault:
    """One misbehaviour and the environment under which it shows; an empty ``when`` means always."""

    action: str
    when: Mapping[str, str]
    options: Mapping[str, Any]

    def applies(self, environment: Mapping[str, str]) -> bool:
        return all(environment.get(name) == value for name, value in self.when.items())


@dataclass(frozen=True)
class MeasuredSize:
    """Bytes of one model at a total context, slot count and batch, which replace the formula."""

    model: str
    context_total: int
    parallel: int
    batch: int
    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    kv_cache_type: str = "f16"


@dataclass(frozen=True)
class Config:
    """The whole file."""

    version: str = DEFAULT_VERSION
    load_seconds: float = 0.2
    gpu_context_bytes: int = 457 << 20
    throughput: Throughput = Throughput()
    faults: tuple[Fault, ...] = ()
    sizes: tuple[MeasuredSize, ...] = ()

    def active_faults(self, environment: Mapping[str, str]) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if fault.applies(environment))


def load(path: str | None = None) -> Config:
    """Read the file, or give the healthy default where there is none. Raises: ValueError."""
    path = path or os.environ.get("STANDIN_OLLAMA_CONFIG", DEFAULT_PATH)
    try:
        with open(path, encoding="utf-8") as file:
            return from_dict(json.load(file))
    except FileNotFoundError:
        return Config()


def from_dict(data: Mapping[str, Any]) -> Config:
    """Check a configuration by name, so that a misspelt fault cannot pass for a healthy server."""
    known = _known(Config, data, "configuration")
    known["throughput"] = Throughput(**_known(Throughput, data.get("throughput", {}), "throughput"))
    if known["throughput"].law not in LAWS:
        raise ValueError(f"throughput.law {known['throughput'].law!r} is none of {', '.join(LAWS)}")
    known["faults"] = tuple(_fault(item) for item in data.get("faults", ()))
    known["sizes"] = tuple(
        MeasuredSize(**_known(MeasuredSize, item, "sizes")) for item in data.get("sizes", ())
    )
    return Config(**known)


def _known(kind: Any, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    unknown = set(data) - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"{where}: unknown key {sorted(unknown)[0]!r}")
    return dict(data)


def _fault(data: Mapping[str, Any]) -> Fault:
    options = {name: value for name, value in data.items() if name not in ("action", "when")}
    action = data.get("action")
    if action not in ACTIONS:
        raise ValueError(f"faults: unknown action {action!r}")
    unknown = set(options) - ACTIONS[action]
    if unknown:
        raise ValueError(f"faults: {action} takes no {sorted(unknown)[0]!r}")
    return Fault(action, dict(data.get("when", {})), options)
