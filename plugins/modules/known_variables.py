# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of `known_variables`; its work is done on the control node by the action of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: known_variables
short_description: Refuse variables that are a slip of the pen away from one of this collection
version_added: 1.0.0
description:
  - Fails where a variable of the host is nearly, and not quite, an option of a role of this collection, a fact that it
    leaves, or a variable of the playbooks, and names the one that was probably meant. Ansible itself ignores such a
    variable, so that a misspelt one has no effect.
  - Near are one or two letters too many, too few, wrong or exchanged, one word too few, and words in another order.
    Every other name is somebody else's and is let be, also where it begins as those of a role do.
  - The variables are looked at on the control node; the host is not contacted.
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.reads_only
  - gpufleet.ollama._attributes.control_node
seealso:
  - module: gpufleet.ollama.ollama_plan
    description: Does the same with O(gpufleet.ollama.ollama_plan#module:role_variables=true).
"""

EXAMPLES = r"""
- name: Refuse misspelt variables
  gpufleet.ollama.known_variables:
"""

RETURN = r"""
"""
