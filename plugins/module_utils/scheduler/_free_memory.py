# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that is free on a server's GPUs: really, and as Ollama believes it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import ModelMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import Options, SchedulerGpu

# More orders than these are told apart only by the most and the least free memory per GPU.
MOST_VIEWS = 64


@dataclass(frozen=True)
class Runner:
    """A loaded model; `placement`: positions in the server's list of GPUs.

    `memory`: what it takes of each GPU of that list, CUDA context included. `logged_bytes` and `free_at_load_bytes` are
    what Ollama read from its log, by the number that the runner itself gives the GPU.
    """

    name: str
    key: str
    options: Options
    side_files: tuple[str, ...]
    placement: tuple[int, ...]
    keep_alive_seconds: float
    expires_at: float
    memory: ModelMemory
    logged_bytes: tuple[int, ...]
    free_at_load_bytes: tuple[int, ...]


def really_free(gpus: Sequence[SchedulerGpu], runners: Sequence[Runner]) -> tuple[int, ...]:
    """Memory that is free on each GPU."""
    free = [gpu.free_bytes for gpu in gpus]
    for runner in runners:
        for position in runner.placement:
            free[position] -= runner.memory.gpus[position].total_bytes
    return tuple(free)


def believed_free_by_layout(gpus: Sequence[SchedulerGpu], runners: Sequence[Runner]) -> tuple[int, ...]:
    """Free memory per GPU as Ollama before 0.30 sees it: what is free, or less by its own estimates.

    Source: ollama server/sched.go, updateFreeSpace() (0.11.8).
    """
    most = [gpu.total_bytes for gpu in gpus]
    for runner in runners:
        for position, counted in zip(runner.placement, runner.logged_bytes):
            most[position] -= counted
    return tuple(max(min(one, free), 0) for one, free in zip(most, really_free(gpus, runners)))


class Beliefs:
    """How Ollama accounts for the memory of GPUs; see views()."""

    def __init__(
        self, gpus: Sequence[SchedulerGpu], runners: Sequence[Runner], *, renumbers: bool, context_bytes: int
    ) -> None:
        """`renumbers`: Ollama looks for a GPU's log lines by its number on the host, not the runner's."""
        self.gpus = gpus
        self.runners = runners
        self.context_bytes = context_bytes
        # Where a GPU's log lines are looked for, per runner: a runner numbers the GPUs that it sees from 0.
        numbers = _numbers_in_library(gpus)
        self._sought = [
            tuple(numbers[position] for position in runner.placement)
            if renumbers
            else tuple(range(len(runner.placement)))
            for runner in runners
        ]

    def views(self) -> list[tuple[int, ...]]:
        """Free memory per GPU as Ollama may see it; first what it sees if it asks the oldest model first.

        While a GPU has no model a fresh discovery reads all of them. Else every model is asked in turn, in
        the order of a Go map, until all GPUs are answered for; a model knows the free memory at the time it
        was loaded, less what it logged itself.

        Source: ollama discover/runner.go, GPUDevices(); server/sched.go, updateFreeSpace() (v0.33.0-rc2).
        """
        most = [gpu.total_bytes for gpu in self.gpus]
        for runner, sought in zip(self.runners, self._sought):
            for position, number in zip(runner.placement, sought):
                most[position] -= _logged_bytes(runner, number)
        most = [max(one, 0) for one in most]
        reported = self._reported_by_runners()
        if not reported:
            free = really_free(self.gpus, self.runners)
            return [tuple(min(limit, max(one - self.context_bytes, 0)) for limit, one in zip(most, free))]
        return list(
            dict.fromkeys(tuple(min(one, limit) for one, limit in zip(view, most)) for view in reported)
        )

    def _reported_by_runners(self) -> list[tuple[int, ...]]:
        """What the models report for all GPUs together; empty where a GPU has none."""
        covered = {position for runner in self.runners for position in runner.placement}
        if len(covered) < len(self.gpus):
            return []
        whole: list[tuple[int, ...]] = []
        single: list[list[int]] = [[] for _unused in self.gpus]
        for runner, sought in zip(self.runners, self._sought):
            reports = self._reports(runner, sought)
            if len(runner.placement) == len(self.gpus):
                whole += reports
            else:  # several GPUs of one library beside another library's: each is taken to answer for itself
                for report in reports:
                    for position, free in zip(runner.placement, report):
                        single[position].append(free)
        combined = _combinations([list(dict.fromkeys(reports)) for reports in single])
        oldest_is_whole = len(self.runners[0].placement) == len(self.gpus)
        return whole + combined if oldest_is_whole else combined + whole

    def _reports(self, runner: Runner, sought: tuple[int, ...]) -> list[tuple[int, ...]]:
        """What one model reports for its GPUs: with all log lines read, or with the first one only.

        Source: ollama llm/llama_server.go, GetDeviceInfos() and memoryParsingWriter (v0.33.0-rc2).
        """
        numbered = list(zip(runner.placement, sought))
        return [
            tuple(self._report(runner, position, number, lines) for position, number in numbered)
            for lines in dict.fromkeys((len(runner.free_at_load_bytes), 1))
        ]

    def _report(self, runner: Runner, position: int, number: int, lines_read: int) -> int:
        free = self.gpus[position].total_bytes
        if number < lines_read:
            free = min(free, runner.free_at_load_bytes[number])
        return max(free - _logged_bytes(runner, number), 0)


def _logged_bytes(runner: Runner, number: int) -> int:
    """What Ollama counts of a model on the GPU of that number; nothing where the runner has no such number."""
    return runner.logged_bytes[number] if number < len(runner.logged_bytes) else 0


def _numbers_in_library(gpus: Sequence[SchedulerGpu]) -> list[int]:
    """The number of each GPU among those of its library."""
    seen: dict[str, int] = {}
    numbers = []
    for gpu in gpus:
        number = seen.get(gpu.library, 0)
        numbers.append(number)
        seen[gpu.library] = number + 1
    return numbers


def _combinations(choices: list[list[int]]) -> list[tuple[int, ...]]:
    """One report per GPU in all combinations, or in the extreme ones where they are too many."""
    count = 1
    for reports in choices:
        count *= len(reports)
    if count <= MOST_VIEWS:
        return list(product(*choices))
    extremes = [(reports[0], min(reports), max(reports)) for reports in choices]
    return list(zip(*extremes))
