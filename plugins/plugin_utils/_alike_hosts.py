# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan for all hosts of a run from whose facts the same follows: made once, whichever process comes first.

A plan is a function of its inputs, and those of alike hosts differ in what it does not depend on: identities of GPUs, who
uses them now, how much system memory is free just then. So a host is planned without these, and what was planned is
kept under the digest of what is left, in a folder that goes with the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._admission import UNIFIED_MEMORY

# What a plan does not take of a GPU.
_NOT_OF_A_GPU = frozenset(("processes", "memory_used_bytes", "memory_available_bytes"))
# Nor of a host; of its system memory it takes what the plan is kept with.
_NOT_OF_A_HOST = frozenset(
    (
        *("gathered_at", "source", "sources", "notes", "visibility"),
        *("system_memory_total_bytes", "system_memory_available_bytes"),
    )
)
# What a plan takes of the running process's environment begins so.
_OF_A_PROCESS = ("OLLAMA_", "LLAMA_ARG_", "GGML_")
# What says of a GPU that its memory is, or is counted as, the system's.
_OF_THE_SYSTEM = ("integrated", "unified_memory")
# Ollama and the drivers also take the beginning of an identity, which then must stay what it is.
_IDENTITY = re.compile(r"\b(?:GPU|MIG)-", re.IGNORECASE)
_SHORTEST_IDENTITY = 16
# Nothing that has a meaning in what is planned, such as the name of a field.
_PLAIN_IDENTITY = re.compile(r"(?:(?:GPU|MIG)-){0,2}[0-9A-Fa-f:/.-]{1,128}\Z")
_STAND_IN = "<identity of GPU "


def planned_once(
    folder: Path, inputs: Mapping[str, Any], plan: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """What `plan` makes of the inputs: a result with `plan` or `msg`, once for all alike hosts.

    `inputs`: plain data; `gpu`: the facts; `service`: its environments, `running` among them. `folder`: of this run.
    """
    facts = inputs["gpu"]
    if not _is_shared(facts, inputs):
        return plan(dict(inputs))
    names = _stand_ins(facts, inputs)
    if not all(map(_PLAIN_IDENTITY.match, names)) or _STAND_IN in json.dumps(inputs):
        # What is exchanged in a text must be no more than a name there.
        return plan(dict(inputs))
    total_bytes, available_bytes = _system_memory(facts)
    text = _renamed(json.dumps({**inputs, **_alike(inputs)}, sort_keys=True), names)
    key = hashlib.sha256(_collection() + text.encode()).hexdigest()
    path = folder / f"{key}.json"
    known = _read(path)
    if known is None or not _holds(known, total_bytes, available_bytes):
        alike = json.loads(text)
        alike["gpu"]["system_memory_total_bytes"] = total_bytes
        alike["gpu"]["system_memory_available_bytes"] = available_bytes
        known = {"total_bytes": total_bytes, "available_bytes": available_bytes, "result": plan(alike)}
        _write(path, known)
    back = {stand_in: name for name, stand_in in names.items()}
    result: dict[str, Any] = json.loads(_renamed(json.dumps(known["result"]), back))
    return result


def _is_shared(facts: Any, inputs: Mapping[str, Any]) -> bool:
    """Whether a plan does not depend on free system memory but for a warning, nor on what a benchmark measured."""
    if not isinstance(facts, Mapping) or inputs.get("measured"):
        return False
    devices = facts.get("devices")
    return (
        isinstance(devices, list)
        and bool(devices)
        and all(isinstance(one, Mapping) and not any(map(one.get, _OF_THE_SYSTEM)) for one in devices)
        and UNIFIED_MEMORY not in json.dumps([inputs["policy"], inputs["service"]])
        and all(isinstance(size, int) and size > 0 for size in _system_memory(facts))
    )


def _system_memory(facts: Mapping[str, Any]) -> tuple[Any, Any]:
    """All of it and what is available; all of it where the latter is not told."""
    total_bytes, available_bytes = (facts.get(f"system_memory_{what}_bytes") for what in ("total", "available"))
    return total_bytes, total_bytes if available_bytes is None else available_bytes


@lru_cache(maxsize=1)
def _collection() -> bytes:
    """What tells this collection from any other version of it: the digests of its files, or its name in a checkout."""
    for name in ("MANIFEST.json", "galaxy.yml"):
        path = Path(__file__).resolve().parents[2] / name
        if path.is_file():
            return path.read_bytes()
    return b""


def _holds(known: Mapping[str, Any], total_bytes: Any, available_bytes: Any) -> bool:
    """Whether what was planned for a host with so much system memory, and so much of it free, holds for another.

    One that has no less cannot be told of too little either.
    """
    sizes = (total_bytes, available_bytes)
    before = (known["total_bytes"], known["available_bytes"])
    if before == sizes:
        return True
    plan = known["result"].get("plan") or {}
    enough = bool(plan.get("gpus")) and not any("system memory" in one for one in plan["warnings"])
    return enough and all(
        isinstance(one, int) and isinstance(now, int) and now >= one for one, now in zip(before, sizes)
    )


def _alike(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The facts and the service without what a plan does not depend on."""
    facts, service = inputs["gpu"], inputs["service"]
    alike = {name: value for name, value in facts.items() if name not in _NOT_OF_A_HOST}
    alike["devices"] = [_alike_device(device) for device in facts["devices"]]
    running = {
        name: value for name, value in service["running"].items() if name.startswith(_OF_A_PROCESS)
    }
    if service["running"] and not running:
        # A plan also tells what runs today, if anything does.
        running = {"PATH": ""}
    return {"gpu": alike, "service": {**service, "running": running}}


def _alike_device(device: Mapping[str, Any]) -> dict[str, Any]:
    alike = {name: value for name, value in device.items() if name not in _NOT_OF_A_GPU}
    free, ours = device.get("memory_free_bytes"), device.get("memory_ours_bytes")
    if isinstance(free, int) and isinstance(ours, int):
        # What Ollama gives back when it is restarted is as good as free.
        alike["memory_free_bytes"], alike["memory_ours_bytes"] = free + ours, 0
    return alike


def _stand_ins(facts: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, str]:
    """What stands for the identity of each GPU; nothing where a setting or the server names one, whole or by its beginning."""
    settings = json.dumps([inputs["policy"], inputs["service"], inputs["server"]])
    identities = {str(device.get("uuid") or "") for device in facts["devices"]}
    if _IDENTITY.search(settings) or min(map(len, identities)) < _SHORTEST_IDENTITY:
        return {}
    uuids = [str(device["uuid"]) for device in facts["devices"]]
    return {uuid: f"{_STAND_IN}{position}>" for position, uuid in enumerate(uuids)}


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with these names replaced, the longest first, for one may begin with another."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    return text


def _read(path: Path) -> dict[str, Any] | None:
    """What is kept; None where nothing is, or nothing that could be read."""
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(known, dict) or not isinstance(known.get("result"), dict):
        return None
    return known if {"total_bytes", "available_bytes"} <= set(known) else None


def _write(path: Path, known: Mapping[str, Any]) -> None:
    """Keeps it; of two writers the later one's stays, whole. What cannot be kept is made anew by the next."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(known, file)
        os.replace(name, path)
    except OSError:
        return
