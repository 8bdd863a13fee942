# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses variables that carry the prefix of a role of this collection and that the role does not know or cannot take."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.action import ActionBase

ROLES = Path(__file__).parents[2] / "roles"
# What the roles themselves leave behind for those that come after them.
FACTS = {
    "ollama_benchmark": {"ollama_benchmark_report", "ollama_benchmark_result"},
    "ollama_plan": {"ollama_plan_result"},
    "ollama_report": {"ollama_report_failure", "ollama_report_gpu", "ollama_report_unreachable"},
    "ollama_service": {"ollama_service_changed", "ollama_service_outcome", "ollama_service_rolled_back"},
    "ollama_verify": {"ollama_verify_result"},
}


def _argument_specs(role: str) -> dict[str, dict[str, Any]]:
    """The options of a role by entry point, without their descriptions."""
    specs = yaml_load((ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    return {
        entry_point: {
            option: {name: value for name, value in attributes.items() if name != "description"}
            for option, attributes in spec["options"].items()
        }
        for entry_point, spec in specs["argument_specs"].items()
    }


# Read where Ansible loads the action, once, before it forks a process for each host.
SPECS = {role: _argument_specs(role) for role in FACTS}


class ActionModule(ActionBase):
    """The work of the module `known_variables`: on the control node, without a connection to the host."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _unused, options = self.validate_argument_spec(
            argument_spec={"role": {"type": "str", "choices": sorted(SPECS)}}
        )
        variables = task_vars or {}
        sentences = [
            f"{name}: {role} knows no such variable, so it would be ignored; "
            "correct the name (the role's README lists them) or remove it"
            for role, facts in FACTS.items()
            for name in unknown(role, facts, variables)
        ]
        if options["role"]:
            sentences += self._misfits(options["role"], variables)
        if sentences:
            return {**result, "failed": True, "msg": "; ".join(sentences)}
        return {**result, "changed": False}

    def _misfits(self, role: str, variables: dict[str, Any]) -> list[str]:
        spec = SPECS[role]["main"]
        given = self._templar.template({name: variables[name] for name in spec if name in variables})
        errors: list[str] = ArgumentSpecValidator(spec).validate(given).error_messages
        return [f"{role}: {error}" for error in errors]


def unknown(role: str, facts: set[str], names: Iterable[str]) -> list[str]:
    """The names that begin as the role's own do and are neither options of it nor facts that it leaves."""
    options = {name for spec in SPECS[role].values() for name in spec}
    return sorted(name for name in names if name.startswith(f"{role}_") and name not in options | facts)
