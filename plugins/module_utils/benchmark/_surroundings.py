# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service's own host tells of it while it is measured."""

from __future__ import annotations

import os

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._buffers import buffers_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._session import RunnerMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._gather import Request, gather
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._owner import Owner
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._residence import files_of, runner_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._service import activity
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import Process, unit_processes
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    USER,
    Run,
    journal_of_invocation,
    unit_state,
)

# A runner with debugging on logs some thousand lines when it loads a model.
_JOURNAL_LINES = 20_000


@dataclass(frozen=True)
class Surroundings:
    """A service as systemd, /proc, the journal and the GPU's driver see it."""

    run: Run
    scope: str
    unit: str
    api: Api

    def others(self) -> str | None:
        """Who is connected to the API; only asked while we are not."""
        load, _url = activity(self.run, self.scope, self.unit)
        return load.connected if load.connections else None

    def memory(self, model: str) -> RunnerMemory:
        """What the model's runner holds now."""
        state = unit_state(self.run, self.scope, self.unit)
        runner = self._runner(model, state.main_pid)
        if runner is None:
            return RunnerMemory(self._reported(model))
        messages = journal_of_invocation(state.invocation_id, from_end=True, lines=_JOURNAL_LINES)
        logged = buffers_of(messages, runner.command)
        told = runner_of(runner.pid, runner.command)
        return RunnerMemory(
            reported_bytes=self._reported(model),
            logged=None if logged is None else logged.to_dict(),
            measured_bytes=self._measured(runner.pid),
            parallel=told.parallel if told else None,
        )

    def _runner(self, model: str, main_pid: int) -> Process | None:
        try:
            files = files_of(self.api.show(model))
        except ApiError:
            return None
        for process in unit_processes(main_pid) if main_pid else ():
            told = runner_of(process.pid, process.command)
            if told and files and told.blob == files.model:
                return process
        return None

    def _reported(self, model: str) -> int | None:
        try:
            entries = self.api.loaded()
        except ApiError:
            return None
        return next((entry["size_vram"] for entry in entries if entry["name"] == model), None)

    def _measured(self, pid: int) -> int | None:
        owner = Owner(self.unit, os.geteuid() if self.scope == USER else None)
        held = [
            process.used_bytes
            for device in gather(Request(owner)).devices
            for process in device.processes
            if process.pid == pid
        ]
        sizes = [size for size in held if size is not None]
        return sum(sizes) if held and len(sizes) == len(held) else None
