# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `router_upstreams`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: router_upstreams
short_description: Find which hosts hold which models, for a router in front of them
version_added: 1.0.0
description:
  - Puts together each model with exactly the hosts that hold it and the slots that each has for it, from the plans that the
    run has made (C(ollama_plan_result.plan_json) or C(ollama_plan)).
  - A host is left out where its plan is not safe or keeps fewer models loaded than it has, where it is out of service, and where
    it was compared with its plan and is not like it. Of each that is left out the reason is returned.
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
    description:
      - The names of the hosts. Their variable C(ollama_router_address), else C(ansible_host), else their name is the address.
      - A host with the fact C(ollama_router_is_out) that is true is out of service; with the same fact false it is back in
        service, as planned.
    type: list
    elements: str
    required: true
  out:
    description: The hosts that are out of service.
    type: list
    elements: str
    default: []
  drifted:
    description:
      - What becomes of hosts that were compared with their plan and are not like it. With V(leave) they get no requests. With
        V(keep) they get those for what they held before a placement, or for what is planned. A rollout keeps those that it has
        not come to yet.
    type: str
    choices: [leave, keep]
    default: leave
  port:
    description: The port of Ollama, where an address has none.
    type: int
    default: 11434
  settings:
    description: What else the router's file depends on, for RV(mark).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Find which hosts hold which models
  gpufleet.ollama.router_upstreams:
    hosts: "{{ groups.ollama }}"
  register: routed
"""

RETURN = r"""
upstreams:
  description: The models with their hosts.
  returned: success
  type: list
  elements: dict
  contains:
    model:
      description: The name of the model.
      type: str
    names:
      description: The names under which requests name it; one with the tag latest is also named without it.
      type: list
      elements: str
    id:
      description: The name in paths, without slashes; it depends on no other model.
      type: str
    upstream:
      description: The name in the router's file.
      type: str
    slots:
      description: The slots of all its hosts.
      type: int
    context_length:
      description: The context length that every request may have, in tokens; 0 where it is not known.
      type: int
    servers:
      description: Its hosts with C(host), C(id) (the name in the router's file), C(address) and C(slots).
      type: list
      elements: dict
notes:
  description: Why hosts or models are left out, one sentence each.
  returned: success
  type: list
  elements: str
mark:
  description: What tells this configuration from every other.
  returned: success
  type: str
"""
