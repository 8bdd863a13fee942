# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes the module `ollama_wait` on the host, takes of its answer what the module documents, and says what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import documented
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._host_module import HostModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._waiting import LongModule


class ActionModule(LongModule):
    """The way of the module `ollama_wait`."""

    returns = documented("ollama_wait")

    def waits_for(self, options: Mapping[str, Any]) -> str:
        return f"waiting until {options.get('unit', 'ollama.service')} is healthy"

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        options = self._task.args
        if options.get("condition") != "idle":
            return super().run(tmp, task_vars)
        try:
            seconds = int(options.get("timeout_seconds", 60))
        except (TypeError, ValueError):  # the module says so
            return super().run(tmp, task_vars)
        result: dict[str, Any] = super(HostModule, self).run(tmp, task_vars)
        told = self.in_slices(
            lambda slice_seconds: self.answer_of(
                "ollama_wait", {**options, "timeout_seconds": slice_seconds}, self.returns, task_vars or {}
            ),
            seconds,
            lambda answer: "" if answer.get("idle") else f"waiting for the requests in flight: {answer.get('reason')}",
            task_vars,
        )
        return {**result, **told}
