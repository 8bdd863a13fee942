# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer of `ollama_plan`: the plan with what keeps it from being applied, or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._gathered import gathered, parts
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._hardware import gone_gpus, hardware
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import (
    Experience,
    loaded_from_list,
    unplannable_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._load_order import not_loaded
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import POLICY
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    policy_from_dict,
    wanted_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._pulls import Pulls
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import said_from_info
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import observed_from_list
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import (
    Service,
    service_from_info,
)

# What a plan is asked with that is not read into anything before.
PLAIN_INPUTS = ("gpu", "models", "wanted", "version", "measured", "server")

NOTHING_TO_PULL = Pulls()


def answer(
    options: Mapping[str, Any],
    read: Mapping[str, Any],
    host_name: str,
    planner: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    pulls: Pulls = NOTHING_TO_PULL,
) -> dict[str, Any]:
    """What the module returns.

    `options`: those of `ollama_plan`. `read`: what `ollama_host_info` returned, empty where nothing was read.
    `host_name`: Ansible shows warnings without the host that they are about. `planner`: what stands for `plan_of`, which
    knows nothing of other hosts. `pulls`: what has yet to be pulled there.
    """
    host = parts(read)
    service = read.get("service") or {}
    try:
        observed = (read.get("planned_for") or {}).get("observed") or []
        failures = [*(read.get("failures") or []), *pulls.failures]
        told = _planned(
            gathered(options, host), observed, failures, host_name, planner or plan_of, pulls.warnings
        )
    except ValueError as error:
        gone = gone_gpus(read)
        told = {
            "failed": True,
            "msg": "; ".join([str(error), *([f"gone since the plan was applied: {', '.join(gone)}"] if gone else [])]),
            "host": {"gpu": host["gpu"]},
        }
    else:
        accepted = options["on_gpu_fault"] == "exclude"
        told["hardware"] = hardware(told["plan"], read, gone_is_accepted=accepted)
        told["obstacles"] = obstacles(service, told["plan"]["environment"])
        if not options["apply"]:
            # Whoever applies the plan is refused it with the same words.
            in_the_way = [f"the plan cannot be applied: {sentence}" for sentence in told["obstacles"]]
            told["plan"]["warnings"] = [*in_the_way, *told["plan"]["warnings"]]
            told["warnings"] = [*(f"{host_name}: {warning}" for warning in in_the_way), *told["warnings"]]
        told["obstacles"] += [pulls.no_room] if pulls.no_room else []
        told["stopped"] = str(service.get("stopped") or "")
    if pulls.models:
        told["pulls"] = pulls.to_dict()
    told["service_id"] = str(service.get("service_id") or "")
    return {**told, "host": host} if options["return_host"] else told


def _planned(
    options: Mapping[str, Any],
    observed: list[Any],
    failures: list[str],
    host_name: str,
    planner: Callable[[dict[str, Any]], dict[str, Any]],
    to_come: Sequence[str],
) -> dict[str, Any]:
    """The plan, and what of it is not loaded.

    Raises: ValueError when nothing can be planned.
    """
    if failures:
        raise ValueError("; ".join(failures))
    if not options["gpu"]:
        raise ValueError("gpu is required unless gather has gpu: describe the GPUs or have them read")
    loaded = loaded_from_list(options["loaded"])
    outcome = planner(
        {
            **{name: options[name] for name in PLAIN_INPUTS},
            "policy": {name: options[name] for name in POLICY},
            "loaded": loaded,
            "service": asdict(service_from_info(options["service"])),
            "unplannable": unplannable_from_list(options["unplannable"]),
            "observed": observed,
        }
    )
    if "plan" not in outcome:
        raise ValueError(outcome["msg"])
    plan = outcome["plan"]
    # Of a damaged model the plan itself says that it is left out.
    left_out = {f"{one.get('reason')}; left out of the plan" for one in options["unplannable"]}
    unseen = [str(sentence) for sentence in options["unseen"] if str(sentence) not in left_out]
    notes = map(str, options["service"].get("notes") or ())
    plan["warnings"] = [*unseen, *notes, *to_come, *plan["warnings"]]
    return {
        "changed": False,
        "plan": plan,
        "not_loaded": not_loaded(plan, loaded, options["models"]),
        "warnings": [f"{host_name}: {warning}" for warning in plan["warnings"]],
    }


def plan_of(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The `plan` of inputs that are plain data, or as `msg` why there is none."""
    try:
        plan = plan_host(
            gpu=inputs["gpu"],
            models=inputs["models"],
            wanted=wanted_from_list(inputs["wanted"]),
            policy=policy_from_dict(inputs["policy"]),
            version=inputs["version"],
            service=Service(**inputs["service"]),
            unplannable=inputs["unplannable"],
            experience=Experience(
                loaded=inputs["loaded"],
                said=said_from_info(inputs["server"]),
                observed=observed_from_list(inputs["observed"]),
                measured=inputs["measured"],
            ),
        )
    except ValueError as error:
        return {"msg": str(error)}
    return {"plan": plan.to_dict()}


def obstacles(service: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    """Why what was read of the service keeps a plan from being applied there, one sentence each.

    Of the variables that others decide only those that the plan sets.
    """
    decided = [one.get("message") for one in service.get("conflicts") or [] if one.get("variable") in environment]
    sentences = [*(service.get("refusals") or []), *(service.get("problems") or []), *decided]
    return list(dict.fromkeys(map(str, sentences)))
