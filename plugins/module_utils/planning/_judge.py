# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which models are safe together under given settings: none spills, none evicts another, the headroom stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._bounds import Bounds
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import Host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._observed_engine import ObservedEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._simulation import (
    MOST_SIMULATED_LOADS,
    HasRoom,
    Simulation,
    Verdict,
    loads_of_all_orders,
    simulates,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server import LoadOutcome, Server

# The largest GPU that is thought of when asking which one would do.
MOST_GPU_BYTES = 1024 * GIB


def judge_for(inputs: Inputs) -> Judge:
    """A judge of settings for the models and the host of these inputs."""
    return Judge(
        Simulation(
            inputs.host,
            [*(demand.model for demand in inputs.demands), *inputs.others],
            version=str(inputs.rules.version),
            environment=inputs.environment,
            headroom_bytes=inputs.policy.headroom_bytes,
            runner_overhead_bytes=inputs.runner_overhead_bytes,
            engine=ObservedEngine(inputs.observed) if inputs.observed else None,
        )
    )


class Judge:
    """Judges settings for the models of a host: by bounds where they say enough, else by simulation."""

    def __init__(self, simulation: Simulation, bounds: Bounds | None = None) -> None:
        self.simulation = simulation
        self._bounds = bounds or Bounds(simulation)

    @property
    def host(self) -> Host:
        """The host that is judged for."""
        return self.simulation.host

    def on(self, host: Host) -> Judge:
        """A judge for the same models on another host."""
        simulation = self.simulation.on(host)
        return Judge(simulation, self._bounds.on(simulation))

    def server(self, candidate: Candidate) -> Server:
        """A server with these settings that has loaded nothing, and that no number of models makes evict."""
        return self.simulation.server(candidate)

    def runners(self, models: Iterable[SchedulerModel], candidate: Candidate) -> tuple[SchedulerModel, ...]:
        """One model for each blob, the largest file first; of tags that share a blob the one that takes most."""
        return self.simulation.runners(models, candidate)

    def is_hopeless(self, models: Sequence[SchedulerModel], candidate: Candidate, loaded: int) -> bool:
        """Whether the largest of these models alone, or the `loaded` smallest together, exceed all GPU memory."""
        return self._bounds.is_hopeless(models, candidate, loaded)

    def alone(self, model: SchedulerModel, candidate: Candidate) -> Verdict:
        """Whether the model is safe with nothing beside it."""
        return self.simulation.alone(model, candidate).verdict

    def alone_outcome(self, model: SchedulerModel, candidate: Candidate) -> LoadOutcome:
        """What becomes of the model when nothing else is loaded."""
        return self.simulation.alone(model, candidate).outcome

    def any_order(self, models: Sequence[SchedulerModel], candidate: Candidate) -> Verdict:
        """Whether these models are safe together in whatever order they are loaded; it may not say why they are not.

        Where the bound says no, every order of a few models is simulated.
        """
        models = self.runners(models, candidate)
        if len(models) < 2:
            return self.alone(models[0], candidate) if models else Verdict(True)
        bound = self._bounds.verdict(models, len(models), candidate)
        if bound.is_safe or loads_of_all_orders(len(models)) > MOST_SIMULATED_LOADS:
            return bound
        return self.simulation.in_all_orders(
            self.server(candidate), models, (), has_room=self._has_room(candidate)
        )

    def _has_room(self, candidate: Candidate) -> HasRoom:
        """By which it is found sooner that models are not safe, but not why."""
        return lambda server, models: self._bounds.has_room(server, models, candidate)

    def some_order(
        self, models: Sequence[SchedulerModel], candidate: Candidate, *, says_why: bool = False
    ) -> Verdict:
        """Whether there is an order in which these models are safe together, and which.

        says_why: the verdict has a reason where they are not, which takes longer to find.
        """
        models = self.runners(models, candidate)
        verdict, orders = Verdict(True), list(self._orders(models, candidate))
        for number, order in enumerate(orders, 1):
            # The reason is that of the last order.
            has_room = None if says_why and number == len(orders) else self._has_room(candidate)
            verdict = self.simulation.in_order(self.server(candidate), order, (), has_room=has_room)
            if verdict.is_safe:
                return verdict
        return verdict

    def is_safe_in(self, order: Sequence[str], candidate: Candidate) -> bool:
        """Whether the models of these names are safe together when they are loaded in this order."""
        models = {model.name: model for model in self.simulation.models}
        has_room = self._has_room(candidate)
        server, models_in_order = self.server(candidate), [models[name] for name in order]
        return self.simulation.in_order(server, models_in_order, (), has_room=has_room).is_safe

    def most_loaded(
        self, models: Sequence[SchedulerModel], candidate: Candidate, most: int, least: int = 1
    ) -> int:
        """The largest number from `least` to `most` of which any combination of these models is safe in any order.

        0 where there is none, because not every model is safe alone or not any `least` are safe together.
        """
        models = self.runners(models, candidate)
        most, loaded = min(most, len(models)), min(least, len(models))
        if self._bounds.rules_out(models, loaded, candidate):
            return 0
        if not all(self.alone(model, candidate).is_safe for model in models):
            return 0
        if loaded > 1 and not self.any_combination(models, loaded, candidate).is_safe:
            return 0
        while (
            loaded < most
            and not self._bounds.rules_out(models, loaded + 1, candidate)
            and self.any_combination(models, loaded + 1, candidate).is_safe
        ):
            loaded += 1
        return loaded

    def any_combination(
        self,
        models: Sequence[SchedulerModel],
        count: int,
        candidate: Candidate,
        *,
        says_why: bool = False,
    ) -> Verdict:
        """Whether any `count` of these models are safe together in any order; says_why: see some_order()."""
        models = self.runners(models, candidate)
        bound = self._bounds.verdict(models, count, candidate)
        if bound.is_safe or not simulates(len(models), count):
            return bound
        has_room = None if says_why else self._has_room(candidate)
        for chosen in combinations(models, count):
            verdict = self.simulation.in_all_orders(self.server(candidate), chosen, (), has_room=has_room)
            if not verdict.is_safe:
                return verdict
        return Verdict(True)

    def load_order(
        self, models: Sequence[SchedulerModel], candidate: Candidate
    ) -> tuple[SchedulerModel, ...]:
        """The models as it is best to load them: what Ollama predicts to be largest comes first."""
        runners = self.runners(models, candidate)
        return tuple(
            sorted(
                runners, key=lambda model: (-self.simulation.predicted_bytes(model, candidate), model.name)
            )
        )

    def bytes_of_one_gpu(self, models: Sequence[SchedulerModel], candidate: Candidate) -> int | None:
        """Memory of a single GPU on which these models would be safe together, in steps of a GiB.

        None where no GPU would do, because something other than memory stands in the way.
        """
        enough = None
        low, high = 1, MOST_GPU_BYTES // GIB
        while low <= high:
            middle = (low + high) // 2
            gpu = GpuDevice(
                0, "", "", "nvidia", "", memory_total_bytes=middle * GIB, memory_free_bytes=middle * GIB
            )
            judge = self.on(replace(self.host, gpus=(gpu,)))
            is_hopeless = judge.is_hopeless(models, candidate, len(models))
            if not is_hopeless and judge.any_order(models, candidate).is_safe:
                enough, high = middle * GIB, middle - 1
            else:
                low = middle + 1
        return enough

    def system_memory_bytes(self, models: Sequence[SchedulerModel], candidate: Candidate) -> int | None:
        """System memory that these models take together where no GPU is used; None where one does not start."""
        outcomes = [self.alone_outcome(model, candidate) for model in self.runners(models, candidate)]
        if any(outcome.failure for outcome in outcomes):
            return None
        return sum(outcome.memory.host.total_bytes for outcome in outcomes)

    def _orders(
        self, models: Sequence[SchedulerModel], candidate: Candidate
    ) -> Iterator[tuple[SchedulerModel, ...]]:
        """The orders worth a try: largest prediction first, and of a few models all others."""
        best = self.load_order(models, candidate)
        yield best
        if loads_of_all_orders(len(models)) <= MOST_SIMULATED_LOADS:
            yield from permutations(best)
