# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes the module `ollama_wait` on the host, takes of its answer what the module documents, and says what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import documented
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._host_module import HostModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._waiting import (
    INTERVAL_SECONDS,
    LongModule,
    host_of,
    in_slices,
    say,
)


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

        def execute(slice_seconds: int) -> dict[str, Any]:
            asked = {**options, "timeout_seconds": slice_seconds}
            return self.answer_of("ollama_wait", asked, self.returns, task_vars or {})

        idling = Idling(execute, seconds)
        host = host_of(task_vars)
        return {**result, **in_slices(idling.slice, idling.words, lambda words: say(host, words))}


@dataclass
class Idling:
    """Waits for the requests in flight, for at most so many seconds in all."""

    execute: Callable[[int], dict[str, Any]]
    seconds: int
    _spent: int = 0
    _waited: float = 0.0

    def slice(self) -> dict[str, Any]:
        """The answer of the next slice; its `waited_seconds`, where it has that, is of all so far."""
        length = max(min(INTERVAL_SECONDS, self.seconds - self._spent), 0)
        answer = self.execute(length)
        self._spent += length
        self._waited += answer.get("waited_seconds") or 0.0
        return {**answer, "waited_seconds": round(self._waited, 1)} if "waited_seconds" in answer else answer

    def words(self, answer: Mapping[str, Any]) -> str | None:
        """What is still waited for; None where nothing is, or the time is over."""
        if answer.get("idle") or self._spent >= self.seconds:
            return None
        words = f"waiting for the requests in flight: {answer.get('reason')}"
        return f"{words}, {self._spent} s of at most {self.seconds} s"
