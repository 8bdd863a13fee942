# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `placement_order`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: placement_order
short_description: Find the order in which hosts are changed so that a demand is served all the while
version_added: 1.0.0
description:
  - Takes the variable C(gpufleet_placement) of a file that M(gpufleet.ollama.fleet_place) has written, and which hosts are as
    planned already (C(ollama_verify_result), C(ollama_plan_result)), and puts the others in an order in which new places come
    before old ones let go.
  - Where there is no such order it says which model lacks what meanwhile.
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
    description: The hosts of the run.
    type: list
    elements: str
    required: true
  fleet:
    description: The hosts of the fleet, also those that a limit leaves out. A placement of other hosts is refused.
    type: list
    elements: str
    required: true
  serial:
    description: The most hosts of each batch, as Ansible takes them.
    type: raw
    default: [1, 25%, 100%]
  file:
    description: The file of the placement, for the message where it is not among the inventories.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Find the order in which the placement is applied
  gpufleet.ollama.placement_order:
    hosts: "{{ ansible_play_hosts }}"
    fleet: "{{ groups.ollama }}"
  register: order
  run_once: true
"""

RETURN = r"""
hosts:
  description: The hosts in their order, each as a pattern of an inventory that names it alone.
  returned: success
  type: list
  elements: str
serial:
  description: How many of them each batch has.
  returned: success
  type: list
  elements: int
dips:
  description: Where less is served than is demanded, one sentence each; empty where nowhere.
  returned: success
  type: list
  elements: str
"""
