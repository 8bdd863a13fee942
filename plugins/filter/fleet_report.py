# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what a run knows of its hosts as one report."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
short_description: Describe a fleet as one report, the worst hosts first
version_added: 0.1.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Puts together what the roles of this collection found on each host, the plan, the drift and the reason where
    there is neither, and decides the state of each host.
  - Reads of each host C(ollama_plan_result.plan) or C(ollama_plan), C(ollama_verify_result),
    C(ansible_facts.gpufleet_gpu), C(ollama_report_failure), C(ollama_report_gpu) and C(ollama_report_unreachable). A host
    that has none of them counts as failed, as does one whose C(ollama_verify_result) is that of a failed task.
positional: _input, hostvars, generated_at
options:
  _input:
    description: The names of the hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  generated_at:
    description: When the report is made, ISO 8601.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the fleet as a table
  ansible.builtin.debug:
    msg: "{{ (groups.ollama | gpufleet.ollama.fleet_report(hostvars, now(utc=true).isoformat())).table }}"
"""

RETURN = r"""
_value:
  description:
    - The report, as it is written to C(report.json), and its C(table) for a terminal. Sizes are bytes.
  type: dict
  contains:
    format:
      description: The version of this form.
      type: int
    generated_at:
      description: When the report was made.
      type: str
    summary:
      description: How many hosts there are, how many in which state, and how many are not as planned.
      type: dict
    hosts:
      description: The hosts, the worst first.
      type: list
      elements: dict
    table:
      description: One line for each host, and one with the counts.
      type: list
      elements: str
"""

from typing import Any, Callable, Mapping, Sequence

from ansible.errors import AnsibleFilterError

NOTHING_KNOWN = "this run has learnt nothing of the host: it failed or was lost, see the messages of the run"


def fleet_report_filter(
    names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], generated_at: str
) -> dict[str, Any]:
    """The report of these hosts."""
    # Ansible loads every filter of a collection in each process that uses one: what this one needs waits for its call.
    from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import (
        HostData,
        fleet_report,
        table,
    )

    try:
        report = fleet_report((HostData(**_known_of(name, hostvars[name])) for name in names), generated_at)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    return {**report, "table": table(report)}


def _known_of(name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    plan = known.get("ollama_plan_result", {}).get("plan") or known.get("ollama_plan")
    verified = known.get("ollama_verify_result")
    failure, unreachable = (
        str(known.get(f"ollama_report_{reason}") or "") for reason in ("failure", "unreachable")
    )
    if verified and (verified.get("unreachable") or verified.get("failed")):
        reason = str(verified.get("msg") or "the service could not be looked at").removeprefix(
            "Task failed: "
        )
        if verified.get("unreachable"):
            unreachable = unreachable or reason
        failure = failure or reason
        verified = None
    if not (plan or verified or failure or unreachable):
        failure = NOTHING_KNOWN
    return {
        "name": str(name),
        "plan": plan,
        "verified": verified,
        "gpu": known.get("ollama_report_gpu") or known.get("ansible_facts", {}).get("gpufleet_gpu"),
        "failure": failure,
        "unreachable": unreachable,
    }


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_report": fleet_report_filter}
