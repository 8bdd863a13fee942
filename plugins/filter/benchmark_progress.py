# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: how far a benchmark is, in one line."""

from __future__ import annotations

DOCUMENTATION = r"""
name: benchmark_progress
short_description: How far a benchmark is, in one line
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Takes what was measured so far and says which parallel value is next, how many are done of all, how long the rest may take,
    and the tokens per second so far.
positional: _input, steps, began, now
options:
  _input:
    description: What M(gpufleet.ollama.ollama_benchmark) returned at each parallel value so far.
    type: list
    elements: dict
    required: true
  steps:
    description: The steps of P(gpufleet.ollama.benchmark_steps#filter).
    type: list
    elements: dict
    required: true
  began:
    description: When the first step began, in seconds of any clock.
    type: float
    required: true
  now:
    description: The same clock's present.
    type: float
    required: true
"""

EXAMPLES = r"""
- name: Say how far it is
  ansible.builtin.debug:
    msg: "{{ measurements | gpufleet.ollama.benchmark_progress(steps, began, now().timestamp()) }}"
"""

RETURN = r"""
_value:
  description: The line.
  type: str
  sample: "4 at once, llama3.2:3b; 2 of 4 done, about 3 min to go; tokens/s so far 1: 40.1, 2: 78.0"
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def benchmark_progress(
    measured: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]], began: float, now: float
) -> str:
    """The line."""
    # Ansible loads every filter of a collection in each process that uses one: what this one needs waits for its call.
    from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._progress import progress

    try:
        return progress(steps, measured, float(now) - float(began))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"benchmark_progress takes measurements and steps of a benchmark: {error}") from error


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"benchmark_progress": benchmark_progress}
