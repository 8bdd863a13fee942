# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the models of a plan in the order in which to load them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: planned_models
short_description: The models of a plan in the order in which to load them
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Takes a plan as M(gpufleet.ollama.ollama_plan) returns it and gives what M(gpufleet.ollama.ollama_load) takes.
  - Of a plan for wanted models, these; they are to stay loaded together. Of a plan for which none was wanted, nothing, or
    with O(served) every model that is planned; these are to be loaded one at a time.
positional: _input
options:
  _input:
    description: The plan.
    type: dict
    required: true
  served:
    description: Whether to give the models that are only to be served, where none is wanted.
    type: bool
    default: false
seealso:
  - module: gpufleet.ollama.ollama_load
"""

EXAMPLES = r"""
- name: Load the planned models and tell where they lie
  gpufleet.ollama.ollama_load:
    models: "{{ ollama_plan | gpufleet.ollama.planned_models }}"
"""

RETURN = r"""
_value:
  description: For each model its name, context length per slot, number of slots and placement.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def planned_models(plan: Mapping[str, Any], served: bool = False) -> list[dict[str, Any]]:
    """The models of a plan, in the order in which to load them."""
    # Ansible loads every filter of a collection in each process that uses one: what this one needs waits for its call.
    from ansible_collections.gpufleet.ollama.plugins.module_utils.planning import _load_order

    try:
        return _load_order.planned_models(plan, served=served)
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError(f"planned_models takes a plan of ollama_plan; it has no {error}") from error


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"planned_models": planned_models}
