# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: variables as the Environment= lines of a unit file."""

from __future__ import annotations

DOCUMENTATION = r"""
name: systemd_environment
short_description: Write variables as Environment= lines of a systemd unit file
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Quotes and escapes names and values so that systemd gives the process exactly these values.
  - Refuses what systemd cannot carry, a newline, a NUL or another control character, or a name that is not made of
    letters, digits and underscores, with the name and the reason.
positional: _input
options:
  _input:
    description: Names and values. Numbers and booleans become text (V(true), V(false)).
    type: dict
    required: true
seealso:
  - module: gpufleet.ollama.systemd_dropin
"""

EXAMPLES = r"""
- name: Write a drop-in that sets two variables
  gpufleet.ollama.systemd_dropin:
    content: |
      [Service]
      {{ {'OLLAMA_NUM_PARALLEL': 3, 'OLLAMA_KEEP_ALIVE': '24h'} | gpufleet.ollama.systemd_environment }}
"""

RETURN = r"""
_value:
  description: One line for each variable, sorted by name; empty for no variables.
  type: str
  sample: |-
    Environment="OLLAMA_KEEP_ALIVE=24h"
    Environment="OLLAMA_NUM_PARALLEL=3"
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import environment_lines


def systemd_environment(environment: Mapping[str, Any]) -> str:
    """The Environment= lines for the variables."""
    if not isinstance(environment, Mapping):
        raise AnsibleFilterError(
            f"systemd_environment takes names and values, not {type(environment).__name__}"
        )
    try:
        return "\n".join(environment_lines(environment))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"systemd_environment": systemd_environment}
