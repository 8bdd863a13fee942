# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the files of a report on the control node, without a module execution for each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._report_folder import write_files
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._settings_by_fact import settings_by_fact
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._task_options import forget_options

ARGUMENT_SPEC = {
    "dir": {"type": "path", "required": True},
    "files": {"type": "dict", "required": True},
}


class ActionModule(ActionBase):
    """The work of the module `report_files`."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        refusals = settings_by_fact(task_vars or {})
        if refusals:
            return {**result, "failed": True, "msg": "; ".join(refusals)}
        _unused, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        folder = Path(options["dir"]).resolve()
        misplaced = [
            name for name in options["files"] if name != os.path.basename(name) or name in ("", ".", "..")
        ]
        if misplaced:
            msg = f"{misplaced[0]!r} is no name of a file in {folder}: give the folder as dir"
            return {**result, "failed": True, "msg": msg}
        try:
            write_files(folder, ((name, str(text)) for name, text in options["files"].items()))
        except ValueError as error:
            return {**result, "failed": True, "msg": str(error)}
        forget_options(self._task)
        return {**result, "changed": False, "dir": str(folder)}
