# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what to measure of the plans of a host, one for each parallel value."""

from __future__ import annotations

DOCUMENTATION = r"""
name: benchmark_steps
short_description: What to measure of the plans of a host, and what not, and why
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Takes plans of M(gpufleet.ollama.ollama_plan), one for each parallel value, and leaves out those that are not safe.
positional: _input, models, installed
options:
  _input:
    description: The plans.
    type: list
    elements: dict
    required: true
  models:
    description: >-
      The models to measure, by any name that Ollama takes for them; by default all that are planned and get as many slots
      as are set.
    type: list
    elements: str
    default: []
  installed:
    description: >-
      The host's models as M(gpufleet.ollama.ollama_model_info) returns them, by which another tag of a planned one is known.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Say what would be measured
  ansible.builtin.debug:
    msg: "{{ plans | gpufleet.ollama.benchmark_steps }}"
"""

RETURN = r"""
_value:
  description: >-
    C(steps), each with C(parallel), C(environment), C(version) and C(models), C(skipped), each with C(parallel) and
    C(reason), and C(problem), why O(models) cannot be measured; empty where they can.
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def benchmark_steps(
    plans: Sequence[Mapping[str, Any]],
    models: Sequence[str] = (),
    installed: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The steps, what is left out, and why there are none."""
    # Ansible loads every filter of a collection in each process that uses one: what this one needs waits for its call.
    from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._steps import steps

    try:
        chosen, skipped = steps(plans, models, installed)
    except ValueError as error:
        # For the role to show: Ansible would wrap the sentence in the expression that called the filter.
        return {"steps": [], "skipped": [], "problem": str(error)}
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError(f"benchmark_steps takes plans of ollama_plan; one has no {error}") from error
    return {
        "steps": [step.to_dict() for step in chosen],
        "skipped": [one.to_dict() for one in skipped],
        "problem": "",
    }


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"benchmark_steps": benchmark_steps}
