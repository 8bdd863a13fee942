# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses variables that are a slip of the pen away from one of this collection, or that a host has set."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import unknown_variables
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._settings_by_fact import settings_by_fact


class ActionModule(ActionBase):
    """The work of the module `known_variables`: on the control node, without a connection to the host."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        sentences = settings_by_fact(task_vars or {}) + unknown_variables(task_vars or {})
        if sentences:
            return {**result, "failed": True, "msg": "; ".join(sentences)}
        return {**result, "changed": False}
