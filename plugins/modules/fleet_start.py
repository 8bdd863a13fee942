# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `fleet_start`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_start
short_description: Refuse a run over hosts or in batches that are not meant so
version_added: 1.0.0
description:
  - Fails where no host matches, because Ansible skips a play without hosts and ends as if all was well.
  - Fails where the inventory sets C(gpufleet_hosts), C(gpufleet_serial) or C(gpufleet_benchmark_serial). Plays are resolved
    before any host is known, and so would ignore it. On the command line and under C(vars) of C(import_playbook) they are seen.
  - Fails where the batches are none that Ansible takes, or where another variable of the playbooks has a value that does not fit.
  - Fails where a variable of the command line is nearly one of this collection's and is none, as
    M(gpufleet.ollama.known_variables) says of those of hosts.
  - The playbooks of this collection begin with it.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.reads_only
  - gpufleet.ollama._attributes.control_node
options:
  hosts:
    description: The names of the hosts that match, within the limit of the run.
    type: list
    elements: str
    required: true
  pattern:
    description: The pattern that was to match, for the message.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Refuse a run that would look at no host
  gpufleet.ollama.fleet_start:
    hosts: "{{ query('ansible.builtin.inventory_hostnames', 'ollama') }}"
    pattern: ollama
  run_once: true
"""

RETURN = r"""
"""
