# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses variables that carry the prefix of a role of this collection and that the role does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable

from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.action import ActionBase

ROLES = Path(__file__).parents[2] / "roles"
# What the roles themselves leave behind for those that come after them.
FACTS = {
    "ollama_benchmark": {"ollama_benchmark_report", "ollama_benchmark_result"},
    "ollama_plan": {"ollama_plan_host"},
    "ollama_report": {"ollama_report_failure", "ollama_report_unreachable"},
    "ollama_service": {"ollama_service_changed", "ollama_service_outcome", "ollama_service_rolled_back"},
    "ollama_verify": {"ollama_verify_result"},
}


class ActionModule(ActionBase):
    """The work of the module `known_variables`: on the control node, without a connection to the host."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        sentences = [
            f"{name}: {role} knows no such variable, so it would be ignored; "
            "correct the name (the role's README lists them) or remove it"
            for role, facts in FACTS.items()
            for name in unknown(role, facts, task_vars or {})
        ]
        if sentences:
            return {**result, "failed": True, "msg": "; ".join(sentences)}
        return {**result, "changed": False}


def unknown(role: str, facts: set[str], names: Iterable[str]) -> list[str]:
    """The names that begin as the role's own do and are neither options of it nor facts that it leaves."""
    specs = yaml_load((ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    options = {name for entry in specs["argument_specs"].values() for name in entry["options"]}
    return sorted(name for name in names if name.startswith(f"{role}_") and name not in options | facts)
