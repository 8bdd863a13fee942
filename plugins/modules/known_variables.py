# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `known_variables`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: known_variables
short_description: Refuse variables that look like a role's of this collection and that it does not know or cannot take
version_added: 0.1.0
description:
  - Fails where a variable of the host begins with the name of a role of this collection and an underscore, and is
    neither an option of the role nor a fact that it leaves. Ansible itself ignores such a variable, so that a misspelt
    one has no effect.
  - Fails too where a value does not fit the argument specs of the role that is named by O(role).
  - The variables are looked at on the control node; the host is not contacted.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.reads_only
  - gpufleet.ollama._attributes.control_node
options:
  role:
    description:
      - A role of this collection. The values of the options of its entry point C(main) are held against its argument
        specs, as Ansible itself does before it runs a role.
      - For a play that imports the role with C(rolespec_validate=false), which a run over a large fleet does. Ansible's
        own task keeps all argument specs with their descriptions in memory for each host.
    type: str
    choices: [ollama_benchmark, ollama_plan, ollama_report, ollama_service, ollama_verify]
"""

EXAMPLES = r"""
- name: Refuse variables that no role knows
  gpufleet.ollama.known_variables:

- name: Refuse values, too, that the role ollama_plan cannot take
  gpufleet.ollama.known_variables:
    role: ollama_plan
"""

RETURN = r"""
"""
