# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what Ansible takes for one host alone, behind --limit or as the hosts of a play."""

from __future__ import annotations

DOCUMENTATION = r"""
name: host_pattern
short_description: What Ansible takes for one host alone
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - An inventory may have hosts whose names mean others where Ansible takes a pattern, such as V(gpu*) or V(a,b). Of these it
    gives a pattern of their letters, of all others the name.
  - It is not quoted for a shell.
options:
  _input:
    description: The name of a host.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Say how to go on with this host
  ansible.builtin.debug:
    msg: "ansible-playbook gpufleet.ollama.site --limit {{ inventory_hostname | gpufleet.ollama.host_pattern | quote }}"
"""

RETURN = r"""
_value:
  description: The pattern.
  type: str
  sample: gpu01
"""

from collections.abc import Callable
from typing import Any


def host_pattern(name: Any) -> str:
    """The pattern."""
    # Ansible loads every filter of a collection in each process that uses one: what this one needs waits for its call.
    from ansible_collections.gpufleet.ollama.plugins.module_utils.report._next_command import pattern_of

    return pattern_of(str(name))


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"host_pattern": host_pattern}
