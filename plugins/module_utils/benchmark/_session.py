# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures models one after the other on a running server, and watches it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._driver import (
    Control,
    Workload,
    run_round,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._figures import Round, figures
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import same_model

# So long may somebody else's request (a health check, say) take before the host counts as serving others.
IDLE_WAIT_S = 5.0
_IDLE_PAUSE_S = 0.25
# The warm-up's place among the requests, which no measured one has.
_WARM_UP = 0


class ServesOthers(Exception):
    """Somebody else's requests would be disturbed, and would disturb; the sentence says what was seen."""


@dataclass(frozen=True)
class RunnerMemory:
    """What a model's runner holds of GPU memory, in bytes, as three sources tell it; None: not told.

    reported_bytes: /api/ps, logged: the runner's own log lines by kind, measured_bytes: the driver.
    """

    reported_bytes: int | None = None
    logged: Mapping[str, int] | None = None
    measured_bytes: int | None = None
    parallel: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "reported_bytes": self.reported_bytes,
            "logged": None if self.logged is None else dict(self.logged),
            "measured_bytes": self.measured_bytes,
            "num_parallel": self.parallel,
        }


@dataclass
class _Watched:
    """What /api/ps told of a model before, during and after its requests."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    was_missing: bool = False

    def look(self, api: Api, model: str) -> None:
        try:
            entries = api.loaded()
        except ApiError:
            return  # the requests themselves tell that the server is gone
        entry = next((entry for entry in entries if same_model(entry["name"], model)), None)
        if entry is None:
            self.was_missing = True
            return
        self.sizes.append((entry["size"] or 0, entry["size_vram"] or 0))

    @property
    def on_gpu(self) -> bool | None:
        if not self.sizes:
            return None
        return all(vram >= size > 0 for size, vram in self.sizes)

    def problems(self) -> list[str]:
        found = []
        if self.on_gpu is False:
            size, vram = min(self.sizes, key=lambda sizes: sizes[1] / max(sizes[0], 1))
            found.append(f"it lies partly on the CPU: {(size - vram) >> 20} of {size >> 20} MiB")
        if self.was_missing:
            found.append("it was unloaded while it was measured")
        return found


@dataclass(frozen=True)
class Session:
    """One measurement of a server as it is set now."""

    api: Api
    workload: Workload
    control: Control
    see_others: Callable[[], str | None]
    see_memory: Callable[[str], RunnerMemory]
    parallel: int
    concurrency: Sequence[int]
    placement: str = "gpu"
    warm_up_requests: int = 1
    load_timeout_s: float = 600.0
    may_disturb: bool = False

    def measure(self, models: Sequence[str]) -> list[dict[str, Any]]:
        """The figures of each model, in this order; a model that fails says so in its problems.

        Raises: ServesOthers, Stopped.
        """
        return [self._measure(name) for name in models]

    def _measure(self, name: str) -> dict[str, Any]:
        watched, problems, levels = _Watched(), [], []
        memory = RunnerMemory()
        error = self._load(name)
        if error:
            problems.append(error)
        else:
            watched.look(self.api, name)
            memory = self.see_memory(name)
            for concurrency in self.concurrency:
                level = self._level(name, concurrency, watched)
                levels.append(level)
                if level["failed"]:
                    problems.append(f"{concurrency} at once: {level['errors'][0]}")
                    break
            watched.look(self.api, name)
            memory = _most(memory, self.see_memory(name))
            problems += self._slots(memory)
        if self.placement == "gpu":
            problems = watched.problems() + problems
        return {
            "name": name,
            "on_gpu": watched.on_gpu,
            "levels": levels,
            "memory": memory.to_dict(),
            "problems": problems,
        }

    def _load(self, name: str) -> str:
        """Load and warm up; why this failed, or empty."""
        self._undisturbed()
        try:
            replace(self.api, timeout_s=self.control.at_most(self.load_timeout_s)).load(name)
        except ApiError as error:
            self.control.check()  # it may have had only the time that was left of the whole
            return str(error)
        requests = [self.workload.request(name, _WARM_UP, turn) for turn in range(self.warm_up_requests)]
        warm_up = self._round([requests], lambda: None)
        return next((f"warm-up: {one.error}" for one in warm_up.sent if one.error), "")

    def _level(self, name: str, concurrency: int, watched: _Watched) -> dict[str, Any]:
        rounds = []
        for number in range(self.workload.rounds):
            self._undisturbed()
            lists = [
                [
                    self.workload.request(name, concurrency, number, client, turn)
                    for turn in range(self.workload.requests_per_client)
                ]
                for client in range(concurrency)
            ]
            rounds.append(self._round(lists, lambda: watched.look(self.api, name)))
            if len(rounds[-1].answered) < len(rounds[-1].sent):
                break
        return figures(concurrency, rounds)

    def _round(self, lists: Sequence[Sequence[Mapping[str, Any]]], tick: Callable[[], None]) -> Round:
        return run_round(self.api, lists, self.workload.request_timeout_s, self.control, tick)

    def _undisturbed(self) -> None:
        deadline = time.monotonic() + IDLE_WAIT_S
        while not self.may_disturb:
            self.control.check()
            seen = self.see_others()
            if seen is None:
                return
            if time.monotonic() > deadline:
                raise ServesOthers(seen)
            time.sleep(_IDLE_PAUSE_S)

    def _slots(self, memory: RunnerMemory) -> list[str]:
        if memory.parallel is None or memory.parallel == self.parallel:
            return []
        return [f"its runner has {memory.parallel} slots, expected {self.parallel}"]


def _most(before: RunnerMemory, after: RunnerMemory) -> RunnerMemory:
    """The larger of two readings: some buffers are allocated with the first requests."""
    measured = [one.measured_bytes for one in (before, after) if one.measured_bytes is not None]
    return RunnerMemory(
        reported_bytes=after.reported_bytes if after.reported_bytes is not None else before.reported_bytes,
        logged=after.logged or before.logged,
        measured_bytes=max(measured, default=None),
        parallel=after.parallel or before.parallel,
    )
