# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Computes the plan of a host on the control node; the host is contacted only where something is to be read there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.gpufleet.ollama.plugins.action.ollama_host_info import documented_with_parts
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._planned import gone
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._arguments import (
    ARGUMENT_SPEC,
    POLICY,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import PLANNED_VARIABLES
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import (
    loaded_from_list,
    unplannable_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._load_order import not_loaded
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    policy_from_dict,
    wanted_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import (
    service_from_info,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_option
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._facts import settings_by_fact
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._host_module import HostModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import (
    unfit_values,
    unknown_variables,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._task_options import forget_options

ROLE = "ollama_plan"
HOST_INFO = "ollama_host_info"
# OLLAMA_FLASH_ATTENTION is set beside some types of the KV cache.
SET_BY_A_PLAN = (*PLANNED_VARIABLES, "OLLAMA_FLASH_ATTENTION")
# What it returns besides the facts of the GPUs.
READ = ("models", "service", "measured", "measured_problem")
# What of the service decides a plan.
OF_THE_SERVICE = ("process_environment", "environment", "variables", "dropin_path")


HOST_INFO_RETURNS = documented_with_parts()


class ActionModule(HostModule):
    """The work of the module `ollama_plan`."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super(HostModule, self).run(tmp, task_vars)
        # Before the options, which are made of the role's variables and have other names.
        refusals = self._refusals(task_vars or {})
        if refusals:
            return {**result, "failed": True, "msg": "; ".join(refusals)}
        _unused, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        read = self._read(options, task_vars)
        if read.get("failed") or read.get("unreachable"):
            return {**read, **result}
        host = parts(read)
        if options["only_inputs"] and not read.get("failures"):
            text = json.dumps(
                placement_inputs({**options, **found(options, host)}, host), separators=(",", ":")
            )
            forget_options(self._task)
            return {**result, "changed": False, "inputs_json": text}
        if read.get("failures"):
            outcome: dict[str, Any] = {"failed": True, "msg": "; ".join(read["failures"])}
        else:
            outcome = planned({**options, **found(options, host)}, task_vars or {})
        service = read.get("service") or {}
        outcome["service_id"] = str(service.get("service_id") or "")
        if "plan" in outcome:
            outcome["hardware"] = hardware(outcome["plan"], read, options)
            outcome["obstacles"] = obstacles(service, outcome["plan"]["environment"])
            outcome["stopped"] = str(service.get("stopped") or "")
        elif gone_gpus(read):
            outcome["msg"] += f"; gone since the plan was applied: {', '.join(gone_gpus(read))}"
        if options["return_host"]:
            outcome["host"] = host
        elif outcome.get("failed"):
            outcome["host"] = {"gpu": host["gpu"]}
        if options["as_json"] and "plan" in outcome:
            outcome["plan_json"] = json.dumps(outcome.pop("plan"), separators=(",", ":"))
        warnings = read.get("warnings", []) + outcome.pop("warnings", [])
        forget_options(self._task)
        return {**result, **outcome, **({"warnings": warnings} if warnings else {})}

    def _refusals(self, task_vars: Mapping[str, Any]) -> list[str]:
        if not boolean(self._task.args.get("check_variables", False)):
            return []
        unknown = settings_by_fact(task_vars) + unknown_variables(task_vars)
        return unknown + unfit_values(ROLE, task_vars, self._templar.template)

    def _read(self, options: Mapping[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        if not options["gather"]:
            return {}
        names = ("gather", "unit", "scope", "dropin_name")
        asked = {name: options[name] for name in names}
        asked["environment"] = masked_option(options["operator_environment"])
        asked["first_models"] = names_of(options["wanted"])
        asked["variables"] = list(SET_BY_A_PLAN)
        return self.answer_of(HOST_INFO, asked, HOST_INFO_RETURNS, task_vars or {})


def parts(read: Mapping[str, Any]) -> dict[str, Any]:
    """What was read on the host, by part; `gpu` is empty where it was not."""
    gpu = (read.get("ansible_facts") or {}).get("gpufleet_gpu") or {}
    return {"gpu": gpu, **{name: read[name] for name in READ if name in read}}


def obstacles(service: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    """Why what was read of the service keeps a plan from being applied there, one sentence each."""
    decided = [one["message"] for one in service.get("conflicts") or [] if one["variable"] in environment]
    sentences = [*(service.get("refusals") or []), *(service.get("problems") or []), *decided]
    return list(dict.fromkeys(map(str, sentences)))


def hardware(
    plan: Mapping[str, Any], read: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What became of the GPUs that the plan of the host was applied for; nothing where they were described."""
    planned_with = [{"uuid": gpu["uuid"], "name": gpu["name"]} for gpu in plan["gpus"]]
    before = read.get("planned_gpus")
    problem = str(read.get("planned_gpus_problem") or "")
    as_remembered = "planned_gpus" not in read or bool(problem) or before == planned_with
    return {
        "gone": gone_gpus(read),
        "gone_is_accepted": options["on_gpu_fault"] == "exclude",
        "to_remember": None if as_remembered else planned_with,
        "problem": problem,
    }


def gone_gpus(read: Mapping[str, Any]) -> list[str]:
    """The GPUs that the plan of the host was applied for and that the host no longer has."""
    facts = (read.get("ansible_facts") or {}).get("gpufleet_gpu") or {}
    return gone(read.get("planned_gpus") or [], facts.get("devices") or [])


def names_of(wanted: Any) -> list[str]:
    """The names in a list of wanted models, as far as it has any; what is wrong with it is said when it is planned."""
    names = [one.get("name") if isinstance(one, Mapping) else one for one in wanted]
    return [name for name in names if isinstance(name, str)]


def found(options: Mapping[str, Any], host: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were read on the host; what is given goes before it, and beside it where it is a list."""
    installed = host.get("models") or {}
    problem = host.get("measured_problem")
    measured = {"problem": problem} if problem else host.get("measured")
    return {
        "gpu": options["gpu"] or host["gpu"],
        "models": (installed.get("models") or []) + options["models"],
        "unplannable": (installed.get("unplannable") or []) + options["unplannable"],
        "loaded": (installed.get("loaded") or []) + options["loaded"],
        "unseen": installed.get("unseen") or [],
        "version": options["version"] or installed.get("version"),
        "service": options["service"] or host.get("service") or {},
        "measured": options["measured"] or measured or {},
    }


def placement_inputs(options: Mapping[str, Any], host: Mapping[str, Any]) -> dict[str, Any]:
    """What a plan would be made from, as a placement over many hosts takes it: of models only those that are wanted."""
    wanted = set(map(name_key, names_of(options["wanted"])))

    def named(items: Any) -> list[Any]:
        return [one for one in items if name_key(str(one.get("name", ""))) in wanted]

    service = {name: options["service"].get(name) for name in OF_THE_SERVICE if name in options["service"]}
    policy = {name: options[name] for name in POLICY}
    return {
        "gpu": options["gpu"],
        "models": named(options["models"]),
        "installed": [one["name"] for one in (host.get("models") or {}).get("models") or ()],
        "unplannable": named(options["unplannable"]),
        "loaded": options["loaded"],
        "version": options["version"],
        "service": service,
        "policy": {**policy, "operator_environment": masked_option(options["operator_environment"])},
        "is_read": bool(host["gpu"]),
    }


def planned(options: Mapping[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
    """The result of the module."""
    if not options["gpu"]:
        return {
            "failed": True,
            "msg": "gpu is required unless gather has gpu: describe the GPUs or have them read",
        }
    try:
        loaded = loaded_from_list(options["loaded"])
        plan = plan_host(
            gpu=options["gpu"],
            models=options["models"],
            wanted=wanted_from_list(options["wanted"]),
            policy=policy_from_dict({name: options[name] for name in POLICY}),
            version=options["version"],
            loaded=loaded,
            service=service_from_info(options["service"]),
            unplannable=unplannable_from_list(options["unplannable"]),
            measured=options["measured"],
            use_measured_memory=options["use_measured_memory"],
        )
    except ValueError as error:
        return {"failed": True, "msg": str(error)}
    # Ansible shows warnings without the host that they are about.
    name = task_vars.get("inventory_hostname", "host")
    unseen = [str(sentence) for sentence in options.get("unseen", ())]
    unseen += [str(note) for note in options["service"].get("notes") or ()]
    described = plan.to_dict()
    described["warnings"] = [*unseen, *described["warnings"]]
    return {
        "changed": False,
        "plan": described,
        "not_loaded": not_loaded(described, loaded, options["models"]),
        "warnings": [f"{name}: {warning}" for warning in described["warnings"]],
    }
