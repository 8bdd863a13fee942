# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which variables the roles of this collection know, and which values of them fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterable, Mapping

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load

ROLES = Path(__file__).parents[2] / "roles"
# What the roles themselves leave behind for those that come after them.
FACTS = {
    "ollama_benchmark": {"ollama_benchmark_report", "ollama_benchmark_result"},
    "ollama_plan": {"ollama_plan_result"},
    "ollama_report": {"ollama_report_failure", "ollama_report_gpu", "ollama_report_unreachable"},
    "ollama_override": {"ollama_override_changed", "ollama_override_outcome", "ollama_override_rolled_back"},
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


# Read where Ansible loads an action that needs them, once, before it forks a process for each host.
SPECS = {role: _argument_specs(role) for role in FACTS}


def unknown_variables(names: Iterable[str]) -> list[str]:
    """One sentence for each name that begins as those of a role do and is neither an option nor a fact of it."""
    names = sorted(names)
    return [
        f"{name}: {role} knows no such variable, so it would be ignored; "
        "correct the name (the role's README lists them) or remove it"
        for role, facts in FACTS.items()
        for name in names
        if name.startswith(f"{role}_")
        and name not in facts
        and not any(name in spec for spec in SPECS[role].values())
    ]


def unfit_values(role: str, variables: Mapping[str, Any], template: Callable[[Any], Any]) -> list[str]:
    """One sentence for each value that the role's entry point `main` cannot take, as Ansible itself validates it.

    template: resolves the expressions in the values of a mapping.
    """
    spec = SPECS[role]["main"]
    given = template({name: variables[name] for name in spec if name in variables})
    errors: list[str] = ArgumentSpecValidator(spec).validate(given).error_messages
    return [f"{role}: {error}" for error in errors]
