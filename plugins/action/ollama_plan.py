# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Computes the plan of a host on the control node, without a connection to the host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._arguments import (
    ARGUMENT_SPEC,
    POLICY,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import (
    loaded_from_list,
    unplannable_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    policy_from_dict,
    wanted_from_list,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service import service_from_info


class ActionModule(ActionBase):
    """The work of the module `ollama_plan`."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _unused, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        try:
            plan = plan_host(
                gpu=options["gpu"],
                models=options["models"],
                wanted=wanted_from_list(options["wanted"]),
                policy=policy_from_dict({name: options[name] for name in POLICY}),
                version=options["version"],
                loaded=loaded_from_list(options["loaded"]),
                service=service_from_info(options["service"]),
                unplannable=unplannable_from_list(options["unplannable"]),
                measured=options["measured"],
                use_measured_memory=options["use_measured_memory"],
            )
        except ValueError as error:
            return {**result, "failed": True, "msg": str(error)}
        if plan.warnings:
            # Ansible shows warnings without the host that they are about.
            host = (task_vars or {}).get("inventory_hostname", "host")
            result["warnings"] = [f"{host}: {warning}" for warning in plan.warnings]
        return {**result, "changed": False, "plan": plan.to_dict()}
