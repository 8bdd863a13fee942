# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings of this collection come from a host, as its facts, in place of the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIXES = (
    "gpufleet_",
    "ollama_benchmark_",
    "ollama_override_",
    "ollama_plan_",
    "ollama_pull_",
    "ollama_report_",
    "ollama_router_",
    "ollama_verify_",
    "__gpufleet_",
    "__ollama_",
)
# What the roles leave behind by the names of the roles themselves.
NAMES = {prefix.rstrip("_") for prefix in PREFIXES if prefix.startswith("ollama_")}
# What this collection itself makes a fact of.
OURS = {"gpufleet_gpu"}


def settings_by_fact(variables: Mapping[str, Any]) -> list[str]:
    """One sentence for each name of ours among the facts of the host that these variables are of.

    Facts come from the host, and Ansible puts them above the variables of the inventory ("Understanding variable
    precedence" in its documentation): a host would choose what is written on the control node, and where.
    """
    facts = variables.get("ansible_facts") or {}
    return [
        f"{name} is set by a fact of the host, which may not choose it; "
        "set it in the inventory, the play or with -e, and clear cached facts of that name"
        for name in sorted(map(str, facts))
        if (name.startswith(PREFIXES) or name in NAMES) and name not in OURS
    ]
