# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `fleet_report`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_report
short_description: Write what a run knows of its hosts as a page and as data on the control node
version_added: 1.0.0
description:
  - Puts together what the roles of this collection found on each host, the plan, the drift and the reason where
    there is neither, decides the state of each host, and writes C(report.html), C(report.json) and, for spreadsheets,
    C(report.csv).
  - Adds to C(history.jsonl) beside them a line for each host that is in another state than the last time, which gives the
    page since when, and a trend. At 20000 lines they are put aside as C(history.1.jsonl), and the newest half goes on.
  - Reads of each host the variables C(ollama_plan_result.plan_json) or C(ollama_plan), C(ollama_verify_result),
    C(ansible_facts.gpufleet_gpu), C(ollama_report_failure), C(ollama_report_gpu), C(ollama_report_unreachable) and
    C(ollama_report_phase). A host that has none of them counts as failed, as does one whose C(ollama_verify_result) is that of a
    failed task. Odd data of one host cost that host its row and no other.
  - Where the files cannot be written it fails, and returns the rest nevertheless.
  - A report describes what was found and is no part of the fleet's state. It is written in check mode too and counts as
    no change.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.control_node
attributes:
  check_mode:
    support: full
    details:
      - It changes no host.
  diff_mode:
    support: none
options:
  hosts:
    description: The names of the hosts that the report is about.
    type: list
    elements: str
    required: true
  dir:
    description:
      - The folder, made where it is missing. A relative path counts from the working directory.
      - Where the page C(benchmark.html) lies in it, C(report.html) links to that.
    type: path
    required: true
  template:
    description:
      - The Jinja2 template of the page on the control node, with the variables C(report), C(title) and C(link). Every
        value is escaped for HTML, which templates of Ansible do not do.
    type: path
    required: true
  title:
    description: The title of the page.
    type: str
    default: Ollama GPU fleet
  lost:
    description:
      - The hosts that the run has lost, which count as unreachable where they have no reason of their own.
    type: list
    elements: str
    default: []
  changing:
    description:
      - The hosts whose change begins now. Those that are not as planned are reported as if the run ended here, because
        nothing is executed any more, not even a report, when Ansible has lost all of them.
    type: list
    elements: str
    default: []
  metrics_file:
    description:
      - Where the report is written as metrics for Prometheus too, in a folder that is there. The name ends in C(.prom), because
        node_exporter reads no other. Nothing is written where it is empty.
    type: path
    default: ""
"""

EXAMPLES = r"""
- name: Write the page and the data
  gpufleet.ollama.fleet_report:
    hosts: "{{ groups.ollama }}"
    dir: ./gpufleet-report
    template: templates/report.html.j2
  register: fleet
  run_once: true

- name: Show the fleet, the worst first
  ansible.builtin.debug:
    var: fleet.table
  run_once: true
"""

RETURN = r"""
dir:
  description: The folder, as an absolute path.
  returned: always
  type: str
  sample: /home/operator/gpufleet-report
summary:
  description: The counts. The hosts themselves are in C(report.json).
  returned: always
  type: dict
  contains:
    hosts:
      description: How many hosts there are.
      type: int
    states:
      description: How many of them in which state, the worst state first.
      type: dict
      sample: {"unreachable": 0, "failed": 1, "unknown": 0, "drifted": 2, "unsafe": 0, "in sync": 97, "planned": 0}
    causes:
      description: How many of them drifted for which cause, the most frequent first.
      type: dict
      sample: {"stale process": 2}
    not_as_planned:
      description: How many of them are unreachable, failed, unknown or drifted.
      type: int
    mended_by_site:
      description: How many of them C(site.yml) makes as planned by itself.
      type: int
    gpus:
      description: How many GPUs there are.
      type: int
    gpu_memory_total_bytes:
      description: The memory of all GPUs, in bytes.
      type: int
    gpu_memory_free_bytes:
      description: What of it remains free with the planned models loaded, in bytes.
      type: int
    kinds:
      description: What the memory is used for, anywhere in the fleet.
      type: list
      elements: str
table:
  description: One line for each host, the worst first, and one with the counts. What is too long for a line goes on below.
  returned: always
  type: list
  elements: str
closing:
  description:
    - After a rollout, which hosts failed, what of which host it changed from what to what, whether the service was restarted, how
      long it took, and the state; hosts of which nothing was changed share a line.
  returned: always
  type: list
  elements: str
plan_warnings:
  description: What the plans warn of, each once with the hosts that it is about; empty where there is nothing.
  returned: always
  type: list
  elements: str
refusals:
  description:
    - Why C(site.yml) changes no host, one sentence each. Of a host nobody knows whether it is as planned, or it has lost a GPU,
      or two names of the inventory stand for one service (which is a warning, too).
  returned: always
  type: list
  elements: str
to_pull:
  description: The hosts on which models have to be pulled before their plan can be applied, each as a pattern for it alone.
  returned: always
  type: list
  elements: str
"""
