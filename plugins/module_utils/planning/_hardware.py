# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of the GPUs that the plan of a host was applied for: there, gone, or others to remember."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def gone(before: Iterable[Mapping[str, Any]], devices: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name and UUID of each GPU that was planned with and is no longer among the devices of `gpufleet_gpu`."""
    there = {str(device.get("uuid")) for device in devices}
    return [f"{gpu.get('name')} ({gpu.get('uuid')})" for gpu in before if str(gpu.get("uuid")) not in there]


def gone_gpus(read: Mapping[str, Any]) -> list[str]:
    """The GPUs that the plan of the host was applied for and that the host, as it was read, no longer has."""
    facts = (read.get("ansible_facts") or {}).get("gpufleet_gpu") or {}
    return gone(read.get("planned_gpus") or [], facts.get("devices") or [])


def hardware(plan: Mapping[str, Any], read: Mapping[str, Any], *, gone_is_accepted: bool) -> dict[str, Any]:
    """What the roles are told of it; nothing is to be remembered where the GPUs were described and not read."""
    planned_with = [{"uuid": gpu["uuid"], "name": gpu["name"]} for gpu in plan["gpus"]]
    problem = str(read.get("planned_gpus_problem") or "")
    as_remembered = "planned_gpus" not in read or bool(problem) or read["planned_gpus"] == planned_with
    return {
        "gone": gone_gpus(read),
        "gone_is_accepted": gone_is_accepted,
        "to_remember": None if as_remembered else planned_with,
        "problem": problem,
    }
