# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `fleet_place`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_place
short_description: Place models on the hosts of a fleet so that a demand is met
version_added: 1.0.0
description:
  - Decides which host holds which models with how many slots, so that every demand is met by plans that the planner calls
    safe. It reads what M(gpufleet.ollama.ollama_plan) has left of each host of the play with
    O(gpufleet.ollama.ollama_plan#module:only_inputs=true). Hosts that are described whole by their variables of the role
    P(gpufleet.ollama.ollama_plan#role) need no task of their own, which of many hosts saves most of the time.
  - Demands of a higher priority are met first. Of the placements that meet as much, and survive the loss of a host where
    O(survive=1), the one with the fewest models to pull and to load is taken, then that on the fewest hosts, that which
    changes the fewest of them, and that which leaves most memory free.
  - It needs the Python package C(highspy) on the control node, for the Python that runs Ansible.
  - Files that it writes describe a placement and change no host. They are written in check mode too and count as no change.
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
  demand:
    description:
      - What the fleet is to serve, a list with an entry for each model. C(name) and C(requests), those at once over the fleet,
        are required.
      - C(context_length) is in tokens per request, by default 4096, or what the model was trained for where that is less.
      - C(replicas) is the least number of hosts, by default 1. C(spread) names a variable of the hosts, such as their rack,
        whose value is to differ between these replicas.
      - C(hosts) is a pattern of the hosts that may hold the model, by default all. C(priority) says which demand is met first
        where not all can be, by default 0.
    type: raw
    required: true
  hosts:
    description: The names of the hosts to place on.
    type: list
    elements: str
    required: true
  check_only:
    description: Whether only to look whether the demand makes sense and the solver is there, before any host is read.
    type: bool
    default: false
  survive:
    description: How many hosts may be lost at once with the demand still met, V(0) or V(1).
    type: raw
    default: 0
  solver_seconds:
    description: The time that the solver has. What it cannot prove to be the best in that time is said, with the gap.
    type: raw
    default: 30
  may_pull:
    description: Whether hosts may be given models that they do not have.
    type: bool
    default: true
  dir:
    description: The folder in which C(placement.json) is written.
    type: path
  file:
    description:
      - The file in which the variables of each host are written, as an inventory to be given beside that of the fleet. Nothing
        in it is a template.
    type: path
"""

EXAMPLES = r"""
- name: Read the hosts for a placement
  ansible.builtin.import_role:
    name: gpufleet.ollama.ollama_plan
    tasks_from: inputs

- name: Place two models on them
  gpufleet.ollama.fleet_place:
    hosts: "{{ ansible_play_hosts }}"
    demand:
      - name: llama3.1:8b
        requests: 40
        context_length: 16384
        replicas: 2
        spread: rack
      - name: gemma3:4b
        requests: 20
    survive: 1
    file: ./placement.yml
  register: placed
  run_once: true
"""

RETURN = r"""
placement:
  description: What each model gets and what each host holds. The page C(placing.md) of the documentation explains every field.
  returned: success, unless O(check_only=true)
  type: dict
is_met:
  description: Whether every demand is met.
  returned: success, unless O(check_only=true)
  type: bool
table:
  description: The placement for the terminal, line by line.
  returned: success, unless O(check_only=true)
  type: list
  elements: str
file:
  description: The file that was written.
  returned: when O(file) is given
  type: str
to_read:
  description: >-
    The hosts, as patterns, that are not described whole, so that the module M(gpufleet.ollama.ollama_plan) has to read them.
  returned: when O(check_only=true)
  type: list
  elements: str
"""
