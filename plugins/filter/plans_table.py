# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the plans of several hosts as lines of text."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plans_table
short_description: The plans of several hosts as lines of text
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Takes the plans of hosts as M(gpufleet.ollama.ollama_plan) returns them and gives a table with a line for each host, and
    after it each warning once. Hosts of which the same is decided for the same reasons share a line.
positional: _input
options:
  _input:
    description: The plans, by the names of the hosts.
    type: dict
    required: true
  details:
    description: Whether to begin with the plans in full, one for hosts that share a line.
    type: bool
    default: false
seealso:
  - plugin: gpufleet.ollama.plan_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the plans of all hosts of the play that have one
  ansible.builtin.debug:
    msg: "{{ plans | gpufleet.ollama.plans_table }}"
  run_once: true
  vars:
    planned: "{{ ansible_play_hosts | select('in', hostvars) }}"
    plans: "{{ dict(planned | zip(planned | map('extract', hostvars, 'ollama_plan'))) }}"
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


def plans_table(plans: Mapping[str, Mapping[str, Any]], details: bool = False) -> list[str]:
    """The plans of several hosts, as lines."""
    # Ansible loads every filter of a collection in each process that uses one: what this one needs waits for its call.
    from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._present import fleet_lines

    try:
        return fleet_lines(plans, details=details)
    except (AttributeError, KeyError, TypeError) as error:
        raise AnsibleFilterError(f"plans_table takes plans of ollama_plan by host; found {error}") from error


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"plans_table": plans_table}
