# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan is asked with: what the task gives and what was read on the host, as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import POLICY
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_option

# What `ollama_host_info` returns besides the facts of the GPUs.
READ = ("models", "service", "measured", "measured_problem", "server")

# Descriptions of the models that have yet to be pulled, beside what was read.
TO_COME = "to_come"

# What of the service decides a plan.
OF_THE_SERVICE = ("process_environment", "environment", "variables", "dropin_path")


def parts(read: Mapping[str, Any]) -> dict[str, Any]:
    """What was read on the host, by part; `gpu` is empty where it was not."""
    gpu = (read.get("ansible_facts") or {}).get("gpufleet_gpu") or {}
    return {"gpu": gpu, **{name: read[name] for name in (*READ, TO_COME) if name in read}}


def gathered(options: Mapping[str, Any], host: Mapping[str, Any]) -> dict[str, Any]:
    """The options with what was read on the host: what is given goes before it, and beside it where it is a list."""
    installed = host.get("models") or {}
    problem = host.get("measured_problem")
    measured = {"problem": problem} if problem else host.get("measured")
    return {
        **options,
        "gpu": options["gpu"] or host["gpu"],
        "models": (installed.get("models") or []) + (host.get(TO_COME) or []) + options["models"],
        "unplannable": (installed.get("unplannable") or []) + options["unplannable"],
        "loaded": (installed.get("loaded") or []) + options["loaded"],
        "unseen": installed.get("unseen") or [],
        "version": options["version"] or installed.get("version"),
        "service": options["service"] or host.get("service") or {},
        "measured": options["measured"] or measured or {},
        "server": options["server"] or host.get("server") or {},
    }


def names_of(wanted: Iterable[Any]) -> list[str]:
    """The names in a list of wanted models, as far as it has any; what is wrong with it is said when it is planned."""
    names = [one.get("name") if isinstance(one, Mapping) else one for one in wanted]
    return [name for name in names if isinstance(name, str)]


def placement_inputs(
    options: Mapping[str, Any], host: Mapping[str, Any], observed: Iterable[Any] = ()
) -> dict[str, Any]:
    """What a plan would be made from, as a placement over many hosts takes it: of models only those that are wanted.

    `observed`: what the host remembers of loads that took more than foretold.
    """
    found = gathered(options, host)
    wanted = set(map(name_key, names_of(options["wanted"])))

    def named(items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [one for one in items if name_key(str(one.get("name", ""))) in wanted]

    policy = {name: options[name] for name in POLICY}
    return {
        "gpu": found["gpu"],
        "models": named(found["models"]),
        "installed": [one["name"] for one in (host.get("models") or {}).get("models") or ()],
        "unplannable": named(found["unplannable"]),
        "loaded": found["loaded"],
        "version": found["version"],
        "service": {name: found["service"][name] for name in OF_THE_SERVICE if name in found["service"]},
        "policy": {**policy, "operator_environment": masked_option(options["operator_environment"])},
        "measured": found["measured"],
        "server": found["server"],
        "observed": list(observed),
        "service_id": str(found["service"].get("service_id") or ""),
        "is_read": bool(host["gpu"]),
    }
