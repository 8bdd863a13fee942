# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module works on the control node, on what is known of hosts: settings that hosts have set are refused first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._settings_by_fact import settings_by_fact


class FleetModule(ActionBase):
    """An action without a connection: `answer` makes the result of options and variables, or says in a ValueError why not."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    argument_spec: ClassVar[Mapping[str, Any]] = {}

    def answer(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """What the module returns besides `changed`.

        Raises: ValueError in one sentence where it cannot be done.
        """
        raise NotImplementedError

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        refusals = settings_by_fact(variables)
        if refusals:
            return {**result, "failed": True, "msg": "; ".join(refusals)}
        _unused, options = self.validate_argument_spec(argument_spec=dict(self.argument_spec))
        try:
            return {**result, "changed": False, **self.answer(options, variables)}
        except ValueError as error:
            return {**result, "failed": True, "msg": str(error)}
