# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: data of a host as YAML that Ansible may read as variables and never takes for a template."""

from __future__ import annotations

DOCUMENTATION = r"""
name: untrusted_yaml
short_description: Data of a host as a value in a file of variables, in which nothing is a template
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Ansible takes the texts in files of variables for templates, and evaluates them on the control node. A text that a
    host has chosen would run there whatever it says.
  - Writes data as one text in JSON with the tag C(!unsafe), which Ansible takes as it stands. An option of the type C(dict)
    takes such a text as the dictionary that it is.
options:
  _input:
    description: A dictionary or list of texts, numbers, booleans and null, and of such dictionaries and lists.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Keep what a host has answered as a variable of the inventory
  ansible.builtin.copy:
    content: |
      ---
      found: {{ answer | gpufleet.ollama.untrusted_yaml }}
    dest: "{{ inventory_dir }}/host_vars/{{ inventory_hostname }}/found.yml"
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The value, from behind the variable's name and colon, for a variable that is not indented.
  type: str
  sample: |
    !unsafe |-
      {
       "name": "NVIDIA GeForce RTX 3090"
      }
"""

import json
import textwrap
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError


def untrusted_yaml(data: Any) -> str:
    """The value. Raises: AnsibleFilterError where something in it is no data."""
    try:
        # One scalar: of a tagged mapping ansible-core 2.18 leaves what is nested a template
        # (parsing/yaml/constructor.py, construct_yaml_unsafe), and 2.19 makes a number of a tagged "570".
        text = json.dumps(data, indent=1, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise AnsibleFilterError(f"untrusted_yaml takes data only: {error}") from error
    return "!unsafe |-\n" + textwrap.indent(text, "  ")


class FilterModule:
    """Makes the filter known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"untrusted_yaml": untrusted_yaml}
