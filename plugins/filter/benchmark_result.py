# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the result of a benchmark out of what was measured at each parallel value."""

from __future__ import annotations

DOCUMENTATION = r"""
name: benchmark_result
short_description: The knee, the curves and the memory table of a benchmark
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Takes what M(gpufleet.ollama.ollama_benchmark) returned at each parallel value and finds the knee, the smallest value
    that is about as good as the best. Compares the memory that was measured with what was planned.
positional: _input
options:
  _input:
    description: What M(gpufleet.ollama.ollama_benchmark) returned at each parallel value.
    type: list
    elements: dict
    required: true
  plans:
    description: The plans, one for each parallel value.
    type: list
    elements: dict
    required: true
  facts:
    description: The host's C(ansible_facts['gpufleet_gpu']).
    type: dict
    required: true
  installed:
    description: The models that M(gpufleet.ollama.ollama_model_info) returned.
    type: list
    elements: dict
    required: true
  measured_at:
    description: When, in ISO 8601.
    type: str
    required: true
  workload:
    description: How it was measured, to be kept with the result.
    type: dict
    default: {}
  skipped:
    description: The parallel values that were not measured, with the reasons.
    type: list
    elements: dict
    default: []
  share:
    description: How much of the best throughput may be given up for a smaller value, from 0 to 1.
    type: float
    default: 0.05
  latency_bound_seconds:
    description: What 95 % of the requests must stay under.
    type: float
  memory_bound:
    description: How far measured memory may lie from the prediction without a warning, as a share of it.
    type: float
    default: 0.05
  any_such_host:
    description: Whether the result is to hold for every host with GPUs of the same names.
    type: bool
    default: false
  steps:
    description:
      - The steps of P(gpufleet.ollama.benchmark_steps#filter). Where fewer were measured, the result says so among its warnings.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Find the knee
  ansible.builtin.set_fact:
    result: >-
      {{ measurements | gpufleet.ollama.benchmark_result(plans=plans, facts=ansible_facts['gpufleet_gpu'],
         installed=installed.models, measured_at='2026-01-01T00:00:00Z') }}
"""

RETURN = r"""
_value:
  description: The result in the form that M(gpufleet.ollama.ollama_benchmark_result) keeps.
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def benchmark_result(
    measurements: Sequence[Mapping[str, Any]],
    *,
    plans: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
    installed: Sequence[Mapping[str, Any]],
    measured_at: str,
    workload: Mapping[str, Any] | None = None,
    skipped: Sequence[Mapping[str, Any]] = (),
    share: float = 0.05,
    latency_bound_seconds: float | None = None,
    memory_bound: float = 0.05,
    any_such_host: bool = False,
    steps: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The result of a benchmark."""
    # Ansible loads every filter of a collection in each process that uses one: what this one needs waits for its call.
    from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._progress import partial
    from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._result import (
        Rules,
        result_on_host,
    )

    try:
        result = result_on_host(
            measurements,
            plans=plans,
            facts=facts,
            installed=installed,
            measured_at=measured_at,
            skipped=skipped,
            workload=workload or {},
            rules=Rules(float(share), _number(latency_bound_seconds), float(memory_bound)),
            any_such_host=any_such_host,
        )
        return partial(result, steps, len(measurements))
    except (ArithmeticError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"no result can be made of this benchmark: {error}") from error


def _number(value: Any) -> float | None:
    return None if value in (None, "") else float(value)


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"benchmark_result": benchmark_result}
