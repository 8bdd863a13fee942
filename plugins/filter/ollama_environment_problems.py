# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what Ollama would ignore or misread in an environment."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ollama_environment_problems
short_description: Tell what Ollama would ignore or misread in an environment
version_added: 1.0.0
author:
  - The gpufleet.ollama developers (@gpufleet)
description:
  - Checks settings as Ollama itself parses them. Ollama falls back silently - a number that does not parse means the
    default, a boolean that does not parse means true, a name it does not know is ignored.
  - Also tells what systemd cannot carry.
positional: _input
options:
  _input:
    description: Names and values.
    type: dict
    required: true
  version:
    description: The version of Ollama; without it, settings of every known version are let through.
    type: str
    default: ''
  also_known:
    description: Names of E(OLLAMA_*) settings that this collection does not know yet and that are let through.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Refuse settings that Ollama would ignore
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('; ') }}"
  vars:
    problems: "{{ {'OLLAMA_GPU_OVERHEAD': '8G'} | gpufleet.ollama.ollama_environment_problems(version='0.33.0') }}"
"""

RETURN = r"""
_value:
  description: One sentence for each problem, empty when there is none.
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import problems
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    name_refusal,
    refusal,
    value_text,
)


def ollama_environment_problems(
    environment: Mapping[str, Any], version: str = "", also_known: Iterable[str] = ()
) -> list[str]:
    """One sentence for each thing that would not arrive as meant."""
    if not isinstance(environment, Mapping):
        raise AnsibleFilterError(
            f"ollama_environment_problems takes names and values, not {type(environment).__name__}"
        )
    texts: dict[str, str] = {}
    found = []
    for key, value in environment.items():
        name = str(key)
        unnamed = name_refusal(name)
        if unnamed:
            found.append(unnamed)
            continue
        try:
            texts[name] = value_text(name, value)
        except ValueError as error:
            found.append(str(error))
            continue
        reason = refusal(name, texts[name])
        if reason:
            found.append(reason)
    try:
        return found + problems(texts, str(version or ""), also_known)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"ollama_environment_problems": ollama_environment_problems}
