# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Computes the plan of a host on the control node; the host is contacted only where something is to be read there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.gpufleet.ollama.plugins.action.ollama_host_info import (
    documented_with_parts,
    with_all,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._answer import answer, plan_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import PLANNED_VARIABLES
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._gathered import (
    names_of,
    parts,
    placement_inputs,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import ARGUMENT_SPEC
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import name_refusal
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_option
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._alike_hosts import planned_once
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._host_module import HostModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import (
    unfit_values,
    unknown_variables,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._settings_by_fact import settings_by_fact
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._task_options import forget_options

ROLE = "ollama_plan"
HOST_INFO = "ollama_host_info"
# OLLAMA_FLASH_ATTENTION is set beside some types of the KV cache.
SET_BY_A_PLAN = (*PLANNED_VARIABLES, "OLLAMA_FLASH_ATTENTION")
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
        name = str((task_vars or {}).get("inventory_hostname", "host"))
        if options["only_inputs"] and not read.get("failures"):
            forget_options(self._task)
            text = json.dumps(placement_inputs(options, parts(read)), separators=(",", ":"))
            return {**result, "changed": False, "inputs_json": text}
        kept = Path(C.DEFAULT_LOCAL_TMP) / "gpufleet-plans"
        outcome = answer(options, read, name, lambda inputs: planned_once(kept, inputs, plan_of))
        of_the_plan = outcome.pop("warnings", [])
        if options["as_json"] and "plan" in outcome:
            outcome["plan_json"] = json.dumps(outcome.pop("plan"), separators=(",", ":"))
            # Of many hosts most have the same, and what shows the plans says each once.
            of_the_plan = []
        warnings = read.get("warnings", []) + of_the_plan
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
        # What is no name is refused with the plan; it may hold a value, and this is sent to the host.
        named = {
            name: value
            for name, value in options["operator_environment"].items()
            if not name_refusal(str(name))
        }
        asked["environment"] = masked_option(named)
        asked["first_models"] = names_of(options["wanted"])
        asked["variables"] = list(SET_BY_A_PLAN)
        return self.answer_of(
            HOST_INFO, asked, with_all(HOST_INFO_RETURNS, options["gather"]), task_vars or {}
        )
