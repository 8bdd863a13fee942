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
from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.gpufleet.ollama.plugins.action.ollama_host_info import (
    documented_with_parts,
    with_all,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._answer import answer, plan_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import PLANNED_VARIABLES
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._gathered import (
    TO_COME,
    names_of,
    parts,
    placement_inputs,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import ARGUMENT_SPEC
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._pulls import (
    Pulls,
    pulls_of,
    to_look_up,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    environment_lines,
    name_refusal,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import variables_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import (
    masked_environment,
    masked_option,
    secrets_of,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._alike_hosts import planned_once
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import documented
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._host_module import HostModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._plan_options import (
    PRIVATE,
    ROLE,
    plan_options,
    refusals_of,
    validated,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import (
    SPECS,
    given_values,
    validator,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._task_options import forget_options

HOST_INFO = "ollama_host_info"
# OLLAMA_FLASH_ATTENTION is set beside some types of the KV cache.
SET_BY_A_PLAN = (*PLANNED_VARIABLES, "OLLAMA_FLASH_ATTENTION")
HOST_INFO_RETURNS = documented_with_parts()
COMPARING = "systemd_environment_info"
COMPARING_RETURNS = documented(COMPARING)
# What it returns without details.
COMPARED = tuple(name for name, told in COMPARING_RETURNS.items() if told["returned"] == "always")
MODEL = "ollama_model"
MODEL_RETURNS = documented(MODEL)
# Made before Ansible forks a process for each host.
validator(ROLE)


class ActionModule(HostModule):
    """The work of the module `ollama_plan`."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super(HostModule, self).run(tmp, task_vars)
        given = self._task.args
        if boolean(given.get("role_variables", False)):
            values = given_values((*SPECS[ROLE]["main"], *PRIVATE), task_vars or {}, self._templar.template)
            # Before the options, which have other names.
            refusals = refusals_of(task_vars or {}, values)
            if refusals:
                return {**result, "failed": True, "msg": "; ".join(refusals)}
            given = {**plan_options(values, ARGUMENT_SPEC), **given}
        options = validated(given)
        read = self._read(options, task_vars)
        if read.get("failed") or read.get("unreachable"):
            return {**read, **result}
        pulls, read = self._with_what_is_to_come(options, read, task_vars or {})
        if read.get("unreachable"):
            return {**read, **result}
        name = str((task_vars or {}).get("inventory_hostname", "host"))
        if options["only_inputs"] and not read.get("failures"):
            forget_options(self._task)
            observed = (read.get("planned_for") or {}).get("observed") or []
            text = json.dumps(placement_inputs(options, parts(read), observed), separators=(",", ":"))
            return {**result, "changed": False, "inputs_json": text}
        kept = Path(C.DEFAULT_LOCAL_TMP) / "gpufleet-plans"
        outcome = answer(options, read, name, lambda inputs: planned_once(kept, inputs, plan_of), pulls)
        of_the_plan = outcome.pop("warnings", [])
        if "plan" in outcome:
            outcome["refused"] = refused(options, outcome)
            if options["compare"] and not outcome["refused"]:
                outcome["compared"] = self._compared(options, read, outcome["plan"]["environment"], task_vars or {})
                outcome["is_done"] = is_done(outcome)
        if options["as_json"] and "plan" in outcome:
            outcome["plan_json"] = json.dumps(outcome.pop("plan"), separators=(",", ":"))
            # Of many hosts most have the same, and what shows the plans says each once.
            of_the_plan = []
        warnings = read.get("warnings", []) + of_the_plan
        forget_options(self._task)
        return {**result, **outcome, **({"warnings": warnings} if warnings else {})}

    def _with_what_is_to_come(
        self, options: Mapping[str, Any], read: dict[str, Any], task_vars: dict[str, Any]
    ) -> tuple[Pulls, dict[str, Any]]:
        """What has to be pulled, and what was read with it; the host is asked again only where a wanted model lacks."""
        asked = to_look_up(options, read)
        if not asked:
            return Pulls(), read
        told = self.answer_of(
            MODEL,
            {
                "models": asked,
                "unit": options["unit"],
                "scope": options["scope"],
                "keep": names_of(options["wanted"]),
                "keep_free_bytes": options["pull_keep_free_bytes"],
                "look": True,
                "describe": True,
            },
            MODEL_RETURNS,
            task_vars,
        )
        if told.get("unreachable"):
            return Pulls(), told
        return pulls_of(asked, told), {**read, TO_COME: told.get("descriptions") or []}

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
        if options["apply"]:
            asked["keep_headers"] = True
        if options["compare"]:
            asked["secrets"] = _secrets_in(named)
        return self.answer_of(
            HOST_INFO, asked, with_all(HOST_INFO_RETURNS, options["gather"]), task_vars or {}
        )

    def _compared(
        self,
        options: Mapping[str, Any],
        read: Mapping[str, Any],
        planned: Mapping[str, Any],
        task_vars: dict[str, Any],
    ) -> dict[str, Any]:
        """How the host differs from its plan: as it told when it was read, or else asked for once more."""
        content = dropin_of({**planned, **options["operator_environment"]})
        seen = read.get("compared") or {}
        wanted = masked_environment(variables_of(content))
        # In what a host tells, a character that is not shown has become such as \x1b, which a value may be itself.
        if seen.get("wanted") != wanted or any("\\" in value for value in wanted.values()):
            asked = {name: options[name] for name in ("unit", "scope", "dropin_name")}
            asked.update(dropin_content=content, expect_active=True, server_config=True, details=False)
            seen = self.answer_of(COMPARING, asked, COMPARING_RETURNS, task_vars)
        return {name: seen[name] for name in (*COMPARED, "failed", "unreachable", "msg") if name in seen}


def refused(options: Mapping[str, Any], outcome: Mapping[str, Any]) -> list[str]:
    """Why the plan is not to be applied, one sentence each."""
    sentences = list(options["refusals"])
    if options["apply"]:
        sentences += outcome["obstacles"]
        if outcome["stopped"] and not options["start_stopped"]:
            sentences.append(outcome["stopped"])
    return sentences


def _secrets_in(environment: Mapping[str, Any]) -> dict[str, str] | None:
    """The secrets among variables, as a drop-in sets them; None where it cannot, which is said with the plan."""
    try:
        return secrets_of(variables_of(dropin_of(environment)))
    except AnsibleActionFail:
        return None


def is_done(outcome: Mapping[str, Any]) -> bool:
    """Whether the host is as planned, was seen to work, and remembers what it was planned for."""
    compared = outcome["compared"]
    return (
        bool(compared.get("as_planned"))
        and not compared["unproven"]
        and outcome["hardware"]["to_remember"] is None
    )


def dropin_of(environment: Mapping[str, Any]) -> str:
    """The drop-in that sets an environment.

    Raises: AnsibleActionFail where it cannot be carried; the sentence names the variable.
    """
    try:
        lines = environment_lines(environment)
    except ValueError as error:
        raise AnsibleActionFail(str(error)) from error
    return "\n".join(["[Service]", *lines])
