# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes the module `ollama_benchmark` on the host, takes of its answer what the module documents, and says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import documented
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._waiting import (
    LongModule,
    host_of,
    say,
)


class ActionModule(LongModule):
    """The way of the module `ollama_benchmark`."""

    returns = documented("ollama_benchmark")

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        progress = self._task.args.pop("progress", "")
        if progress and not self._task.check_mode:
            say(host_of(task_vars), str(progress))
        return super().run(tmp, task_vars)

    def waits_for(self, options: Mapping[str, Any]) -> str:
        return f"measuring {options.get('parallel')} at once"
