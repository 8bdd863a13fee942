# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options by which modules name a service."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation shared by the modules that work on a service."""

    DOCUMENTATION = r"""
options:
  unit:
    description: The service, with its suffix; an instance of a template is named like V(ollama@gpu0.service).
    type: str
    default: ollama.service
  scope:
    description:
      - V(system) for a service of the system.
      - V(user) for a service of the user who runs the module.
    type: str
    choices: [system, user]
    default: system
"""
