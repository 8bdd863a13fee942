# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the benchmarks of hosts as their page shows them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: benchmark_report
short_description: The benchmarks of hosts with what is needed to draw them
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Takes results of P(gpufleet.ollama.benchmark_result#filter) by host and adds what a template needs to draw the curves.
positional: _input, generated_at
options:
  _input:
    description: Results by name of host.
    type: dict
    required: true
  generated_at:
    description: When, in ISO 8601.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Put the page's data together
  ansible.builtin.set_fact:
    page: "{{ results | gpufleet.ollama.benchmark_report('2026-01-01T00:00:00Z') }}"
"""

RETURN = r"""
_value:
  description: What the template of role P(gpufleet.ollama.ollama_benchmark#role) shows.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any


def benchmark_report(results: Mapping[str, Mapping[str, Any]], generated_at: str) -> dict[str, Any]:
    """The report."""
    # Ansible loads every filter of a collection in each process that uses one: what this one needs waits for its call.
    from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._page import (
        benchmark_report as report_of,
    )

    return report_of(results, generated_at)


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"benchmark_report": benchmark_report}
