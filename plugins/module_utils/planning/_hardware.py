# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of what the plan of a host was applied for: GPUs there or gone, another version of Ollama, what to remember."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import parse


def gone(before: Iterable[Mapping[str, Any]], devices: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name and UUID of each GPU that was planned with and is no longer among the devices of `gpufleet_gpu`."""
    there = {str(device.get("uuid")) for device in devices}
    return [f"{gpu.get('name')} ({gpu.get('uuid')})" for gpu in before if str(gpu.get("uuid")) not in there]


def gone_gpus(read: Mapping[str, Any]) -> list[str]:
    """The GPUs that the plan of the host was applied for and that the host, as it was read, no longer has."""
    facts = (read.get("ansible_facts") or {}).get("gpufleet_gpu")
    devices = facts.get("devices") if isinstance(facts, Mapping) else None
    # It is also asked of facts that no plan was made of, for what they are.
    return gone(_mappings(read.get("planned_gpus")), _mappings(devices))


def _mappings(told: Any) -> list[Mapping[str, Any]]:
    return [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []


def changes_since(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    gpus_before: Iterable[Mapping[str, Any]],
    gpus_now: Iterable[Mapping[str, Any]],
) -> list[str]:
    """What is not as it was when the plan was applied, one sentence each: Ollama's version, GPUs that came since."""
    sentences = []
    then, version = str(before.get("version") or ""), now["version"]
    if then and then != version:
        word = "upgraded" if _is_newer(version, then) else "downgraded"
        old, new = before.get("engine_build"), now["engine_build"]
        engine = f" (llama.cpp b{old} to b{new})" if old and new and old != new else ""
        sentences.append(
            f"Ollama was {word} from {then} to {version}{engine} since the plan was applied; it is planned anew by the rules of "
            f"{version}"
        )
    known = {str(gpu.get("uuid")) for gpu in gpus_before}
    if known:
        came = [f"{gpu['name']} ({gpu['uuid']})" for gpu in gpus_now if gpu["uuid"] not in known]
        sentences += [
            f"{gpu} has come since the plan was applied; it is planned anew with it" for gpu in came
        ]
    return sentences


def _is_newer(version: str, than: str) -> bool:
    try:
        return parse(version).release >= parse(than).release
    except ValueError:
        return True


def hardware(plan: Mapping[str, Any], read: Mapping[str, Any], *, gone_is_accepted: bool) -> dict[str, Any]:
    """What the roles are told of it; nothing is to be remembered where the GPUs were described and not read."""
    before, gpus = read.get("planned_for") or {}, read.get("planned_gpus")
    models = read.get("models") or {}
    # Of a version that is not known nobody can say that it is another one.
    assumed = (before.get("version") if models else None) or plan["version"]
    version = str(models.get("version") or assumed)
    # A server that has loaded nothing has not said which build it runs.
    build, known = (read.get("server") or {}).get("engine_build"), before.get("engine_build")
    is_same_version = before.get("version") == version
    if build is None and is_same_version:
        build = known
    planned_with = [{"uuid": gpu["uuid"], "name": gpu["name"]} for gpu in plan["gpus"]]
    now = {"version": version, "engine_build": build, "observed": plan["observed"]}
    problem = str(read.get("planned_gpus_problem") or "")
    # That it has said so since is no change of the host: it is remembered with the next one.
    told = {**now, "engine_build": None} if is_same_version and known is None else now
    as_remembered = "planned_gpus" not in read or bool(problem) or (gpus, before) == (planned_with, told)
    return {
        "changes": [] if problem else changes_since(before, now, _mappings(gpus), planned_with),
        "gone": gone_gpus(read),
        "gone_is_accepted": gone_is_accepted,
        "to_remember": None if as_remembered else planned_with,
        "planned_for": now,
        "problem": problem,
    }
