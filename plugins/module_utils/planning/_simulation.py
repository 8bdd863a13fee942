# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of models that a server of this host loads: each alone, and one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import comb, factorial
from typing import Callable, Tuple

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import CUDA_CONTEXT_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import (
    PLANNED_VARIABLES,
    Candidate,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import (
    Host,
    available_bytes,
    total_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    Options,
    SchedulerGpu,
    SchedulerModel,
    predicted_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._placement import takes_projector
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server import (
    LoadOutcome,
    Server,
    start_server,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import (
    CPU_EVICTION_BUG,
    VersionRules,
)

# Every order of loading is tried where that takes at most so many loads; beyond them a bound decides.
MOST_SIMULATED_LOADS = 64

# Whether models that are loaded besides those of a server may be safe.
HasRoom = Callable[[Server, Tuple[SchedulerModel, ...]], bool]

# While requests come, models are loaded at the same time however soon they are unloaded after them.
_KEPT_LOADED = {"OLLAMA_KEEP_ALIVE": "-1"}


@dataclass(frozen=True)
class Verdict:
    """Whether models are safe together; `order` is the one that was looked at, `reason` why they are not."""

    is_safe: bool
    order: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Peak:
    """The most that a model takes on one GPU, whatever is loaded beside it. Sizes in bytes.

    pool_bytes: what it takes on top while it computes.
    """

    model: SchedulerModel
    options: Options
    used_bytes: int
    to_stay_free_bytes: int
    pool_bytes: int


@dataclass(frozen=True)
class Alone:
    """What became of a model that was loaded while nothing else was."""

    outcome: LoadOutcome
    verdict: Verdict
    peak: Peak | None = None


class Simulation:
    """Loads the models of a host on servers with given settings, and remembers what has become of each alone."""

    def __init__(
        self,
        host: Host,
        models: Sequence[SchedulerModel],
        *,
        version: str,
        environment: Mapping[str, str],
        headroom_bytes: int,
        runner_overhead_bytes: int | None = None,
        engine: MemoryEngine | None = None,
    ) -> None:
        self.host = host
        self.models = tuple(models)
        self.version = version
        self.headroom_bytes = headroom_bytes
        # What each runner takes of each GPU besides its buffers, where that was measured.
        self.runner_overhead_bytes = (
            CUDA_CONTEXT_BYTES if runner_overhead_bytes is None else runner_overhead_bytes
        )
        self.gpus = tuple(scheduler_gpu(gpu, host.library_of(gpu)) for gpu in host.gpus)
        self._environment = dict(environment)
        # What a candidate decides it decides alone, also where it leaves Ollama's default.
        self._others = {name: value for name, value in environment.items() if name not in PLANNED_VARIABLES}
        self.engine = engine or MemoryEngine()
        self._servers: dict[Candidate, Server] = {}
        self._alone: dict[tuple[str, Candidate], Alone] = {}
        # Servers are told apart by identity, which holds while the outcomes that lead to them are remembered.
        self._loads: dict[tuple[int, str], tuple[tuple[Server, LoadOutcome], ...]] = {}

    def on(self, host: Host) -> Simulation:
        """The same on another host."""
        return Simulation(
            host,
            self.models,
            version=self.version,
            environment=self._environment,
            headroom_bytes=self.headroom_bytes,
            runner_overhead_bytes=self.runner_overhead_bytes,
            engine=self.engine,
        )

    def server(self, candidate: Candidate) -> Server:
        """A server with these settings that has loaded nothing, and that no number of models makes evict.

        It says of a load whether it is safe, and where it is what lies where.
        """
        server = self._servers.get(candidate)
        if server is None:
            server = self._servers[candidate] = start_server(
                self.version,
                {**self._others, **candidate.environment(len(self.models) + 1), **_KEPT_LOADED},
                self.gpus,
                self.host.system_memory_available_bytes,
                cuda_context_bytes=self.runner_overhead_bytes,
                engine=self.engine,
                tells=False,
            )
        return server

    def telling_server(self, candidate: Candidate) -> Server:
        """The same, which says of every load what lies where."""
        return replace(self.server(candidate), tells=True)

    def runners(self, models: Iterable[SchedulerModel], candidate: Candidate) -> tuple[SchedulerModel, ...]:
        """One model for each blob, the largest file first; of tags that share a blob the one that takes most.

        Of tags that share a blob one is loaded at a time. The largest file first finds soonest what does not fit.
        """

        def weight(model: SchedulerModel) -> int:
            return self.predicted_bytes(model, candidate) + model.side_bytes

        by_blob: dict[str, SchedulerModel] = {}
        for model in models:
            known = by_blob.get(model.key)
            if known is None or weight(model) > weight(known):
                by_blob[model.key] = model
        return tuple(sorted(by_blob.values(), key=lambda model: (-model.file_bytes, model.name)))

    def alone(self, model: SchedulerModel, candidate: Candidate) -> Alone:
        """What becomes of the model while nothing else is loaded."""
        key = (model.name, candidate)
        known = self._alone.get(key)
        if known is None:
            known = self._alone[key] = self._load_alone(model, candidate)
        return known

    def _load_alone(self, model: SchedulerModel, candidate: Candidate) -> Alone:
        server, outcome = self._possible_loads(self.server(candidate), model)[0]
        failure = self._failure(server, model, outcome)
        verdict = Verdict(not failure, order=(model.name,), reason=failure)
        is_bound_to_gpu = model.main_gpu is not None and len(self.gpus) > 1
        if failure or not self.gpus or outcome.split or is_bound_to_gpu:
            return Alone(outcome, verdict)
        options = Options(
            context_length=outcome.context_length,
            is_automatic_context=False,
            parallel=outcome.parallel,
            num_batch=model.num_batch,
            num_gpu=-1,
            main_gpu=None,
        )
        # On an idle host Ollama takes the largest batch, so this is the most that the model will take.
        to_stay_free = server.margin_bytes + self.headroom_bytes
        pools = sum(gpu.pool_bytes for gpu in outcome.memory.gpus)
        return Alone(outcome, verdict, Peak(model, options, sum(outcome.gpu_bytes), to_stay_free, pools))

    def _possible_loads(
        self, server: Server, model: SchedulerModel
    ) -> tuple[tuple[Server, LoadOutcome], ...]:
        """Every outcome of a load on a server of this simulation, which orders with the same beginning share."""
        key = (id(server), model.name)
        known = self._loads.get(key)
        if known is None:
            known = self._loads[key] = server.possible_loads(model)
        return known

    def in_order(
        self,
        server: Server,
        remaining: Sequence[SchedulerModel],
        loaded: tuple[str, ...],
        *,
        has_room: HasRoom | None = None,
    ) -> Verdict:
        """Every outcome that loading these models one after the other can have.

        has_room: told what a server has loaded and what is to come, whether that may be safe; where it may not, nothing
        more is loaded, and the verdict has no reason.
        """
        if not remaining:
            return Verdict(True, order=loaded)
        if has_room is not None and not has_room(server, tuple(remaining)):
            return Verdict(False, order=loaded)
        return self._loaded_next(server, remaining[0], loaded, remaining[1:], self.in_order, has_room)

    def in_all_orders(
        self,
        server: Server,
        remaining: Sequence[SchedulerModel],
        loaded: tuple[str, ...],
        *,
        has_room: HasRoom | None = None,
    ) -> Verdict:
        """Every outcome that loading these models in every order can have; has_room: see in_order()."""
        if has_room is not None and not has_room(server, tuple(remaining)):
            return Verdict(False, order=loaded)
        for model in remaining:
            others = [other for other in remaining if other is not model]
            verdict = self._loaded_next(server, model, loaded, others, self.in_all_orders, has_room)
            if not verdict.is_safe:
                return verdict
        return Verdict(True, order=loaded)

    def _loaded_next(
        self,
        server: Server,
        model: SchedulerModel,
        loaded: tuple[str, ...],
        others: Sequence[SchedulerModel],
        then: Callable[..., Verdict],
        has_room: HasRoom | None,
    ) -> Verdict:
        order = (*loaded, model.name)
        verdict = Verdict(True, order)
        for after, outcome in self._possible_loads(server, model):
            failure = self._failure(after, model, outcome)
            if failure:
                after_others = f", when it is loaded after {', '.join(loaded)}" if loaded else ""
                return Verdict(False, order, failure + after_others)
            verdict = then(after, others, order, has_room=has_room)
            if not verdict.is_safe:
                return verdict
        return verdict

    def _failure(self, server: Server, model: SchedulerModel, outcome: LoadOutcome) -> str:
        """What is not safe about the server after this load; empty where all is well."""
        if outcome.failure:
            return f"{model.name} does not start: {_clause(outcome.failure)}"
        if outcome.evicted:
            by_bug = not self.gpus and server.rules.has_bug(CPU_EVICTION_BUG)
            because = f": {evicts_without_gpu(server.rules)}" if by_bug else ""
            return f"{model.name} evicts {', '.join(outcome.evicted)}{because}"
        if not self.gpus:
            return self._system_memory_failure(server)
        if outcome.spilled or not outcome.placement:
            why = _clause(outcome.explanation[-1]) if outcome.explanation else "it uses no GPU"
            return f"{model.name} does not lie wholly in GPU memory: {why}"
        if outcome.refitted:
            return f"the usual split of {model.name} over the GPUs does not fit, and the engine's other one may not last"
        takes = [takes_projector(gpu, gpu.total_bytes, server.rules.placement) for gpu in self.gpus]
        if model.projector_bytes and not outcome.projector_on_gpu and any(takes):
            return f"the projector of {model.name} lies on the CPU"
        return self._headroom_failure(server)

    def _headroom_failure(self, server: Server) -> str:
        all_pools: dict[int, int] = {}
        for runner in server.runners:
            for position in runner.placement:
                pool_bytes = runner.memory.gpus[position].pool_bytes
                all_pools[position] = all_pools.get(position, 0) + pool_bytes
        keep = server.margin_bytes + self.headroom_bytes
        for position, free in enumerate(server.free_bytes()):
            pools = all_pools.get(position)
            if pools is None:
                continue
            if free < keep:
                return (
                    f"{server.runners[-1].name} leaves {gib(free)} of GPU {self.gpus[position].index} "
                    f"free, and {gib(keep)} are to stay free"
                )
            if free < pools + self.headroom_bytes:
                return (
                    f"{server.runners[-1].name} leaves {gib(free)} of GPU {self.gpus[position].index} free, and the"
                    f" engine's pools take up to {gib(pools)} there as the contexts fill"
                )
        return ""

    def _system_memory_failure(self, server: Server) -> str:
        needed = sum(runner.memory.host.total_bytes for runner in server.runners)
        available = self.host.system_memory_available_bytes
        if needed <= available:
            return ""
        return beyond_system_memory(server.loaded, needed, available)

    def predicted_bytes(self, model: SchedulerModel, candidate: Candidate) -> int:
        """What Ollama predicts for a model, without the surcharge of a batch."""
        server = self.server(candidate)
        return predicted_bytes(model, server.context_length(model), server.slots(model))


def beyond_system_memory(names: Sequence[str], needed_bytes: int, available_bytes: int) -> str:
    """That models need more system memory than there is, in a clause."""
    need = "needs" if len(names) == 1 else "need"
    return f"{', '.join(names)} {need} {gib(needed_bytes)} of system memory, and {gib(available_bytes)} are available"


def evicts_without_gpu(rules: VersionRules) -> str:
    """That a version keeps one model where there is no GPU, in a clause."""
    return (
        f"without a GPU Ollama {rules.version} evicts whatever is loaded for each further model ({CPU_EVICTION_BUG.issue}): "
        "upgrade it to 0.13.1 or newer"
    )


def _clause(sentence: str) -> str:
    """A sentence as it stands behind a colon; one that begins with a name keeps its capital."""
    begins_with_a_name = sentence.partition(" ")[0] not in ("It", "The")
    return (sentence if begins_with_a_name else sentence[0].lower() + sentence[1:]).rstrip(".")


def scheduler_gpu(gpu: GpuDevice, library: str) -> SchedulerGpu:
    """A GPU as the simulation takes it: with all the memory free that a plan may count on."""
    return SchedulerGpu(
        index=gpu.index,
        total_bytes=total_bytes(gpu),
        free_bytes=available_bytes(gpu),
        library=library,
        integrated=gpu.integrated,
        compute_capability=gpu.compute_capability,
    )


def loads_of_all_orders(count: int) -> int:
    """Loads in the tree of all orders of so many models: each beginning is simulated once."""
    return sum(factorial(count) // factorial(count - depth) for depth in range(1, count + 1))


def simulates(model_count: int, count: int) -> bool:
    """Whether every order of any `count` of so many models is few enough to be tried."""
    return comb(model_count, count) * loads_of_all_orders(count) <= MOST_SIMULATED_LOADS
