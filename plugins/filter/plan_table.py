# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the plan of a host as lines of text."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_table
short_description: The plan of a host as lines of text
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Takes a plan as M(gpufleet.ollama.ollama_plan) returns it and gives what an operator reads of it, with sizes in GiB.
positional: _input, host
options:
  _input:
    description: The plan.
    type: dict
    required: true
  host:
    description: The name of the host.
    type: str
    required: true
seealso:
  - plugin: gpufleet.ollama.plans_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the plan
  ansible.builtin.debug:
    msg: "{{ ollama_plan | gpufleet.ollama.plan_table(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def plan_table(plan: Mapping[str, Any], host: str) -> list[str]:
    """The plan of a host, as lines."""
    # Ansible loads every filter of a collection in each process that uses one: what this one needs waits for its call.
    from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._present import plan_lines

    try:
        return plan_lines(plan, host)
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError(f"plan_table takes a plan of ollama_plan; it has no {error}") from error


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"plan_table": plan_table}
