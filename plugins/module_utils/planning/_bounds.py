# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What arithmetic alone says of settings, before anything is simulated: hopeless by least memory, or safe by a bound."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._least import LeastMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._simulation import (
    Peak,
    Simulation,
    Verdict,
    beyond_system_memory,
    evicts_without_gpu,
    simulates,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._placement import View, decide
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server import Server
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import CPU_EVICTION_BUG, Era


class Bounds:
    """Bounds for the models of a simulation; they remember the least memory of each model.

    least_memories: by name, what is known of them from other hosts.
    """

    def __init__(self, simulation: Simulation, least_memories: dict[str, LeastMemory] | None = None) -> None:
        self._simulation = simulation
        self._least_memories = {} if least_memories is None else least_memories
        self._least: dict[Candidate, dict[str, int]] = {}

    def on(self, simulation: Simulation) -> Bounds:
        """The same for these models on another host."""
        return Bounds(simulation, self._least_memories)

    def is_hopeless(self, models: Sequence[SchedulerModel], candidate: Candidate, loaded: int) -> bool:
        """Whether the largest of these models alone, or the `loaded` smallest together, exceed all GPU memory.

        Looks at their least memory only. What is hopeless stays so with more requests and with more context.
        """
        if not self._knows_least(candidate):
            return False
        room = self._room_bytes(candidate)
        least = sorted(self._least_of_each(self._simulation.runners(models, candidate), candidate))
        return bool(least) and (least[-1] > room or sum(least[:loaded]) > room)

    def rules_out(self, runners: Sequence[SchedulerModel], count: int, candidate: Candidate) -> bool:
        """Whether not any `count` of these models are safe together, as far as their least memory tells."""
        if not self._knows_least(candidate):
            return False
        least = sorted(self._least_of_each(runners, candidate), reverse=True)
        if sum(least[:count]) > self._room_bytes(candidate):
            return True
        if count < 2 or simulates(len(runners), count):
            return False
        if len(self._simulation.gpus) > 1:
            return (
                candidate.spread
                or count > len(self._simulation.gpus)
                or self._exceeds_a_gpu(runners, count, candidate)
            )
        return self._exceeds_beside_others(runners, count, candidate)

    def _exceeds_a_gpu(self, runners: Sequence[SchedulerModel], count: int, candidate: Candidate) -> bool:
        """Whether the bound for several GPUs fails by least memory: see verdict()."""
        free = sorted((gpu.free_bytes for gpu in self._simulation.gpus), reverse=True)[count - 1]
        return any(
            self._exceeds(model, self._least_bytes(model, candidate), free, candidate) for model in runners
        )

    def _exceeds_beside_others(
        self, runners: Sequence[SchedulerModel], count: int, candidate: Candidate
    ) -> bool:
        """Whether the bound for one GPU fails by least memory: see _bound_on_one_gpu()."""
        least = {model.name: self._least_bytes(model, candidate) for model in runners}
        largest = sorted(least.values(), reverse=True)
        for model in runners:
            own = least[model.name]
            others = sum(largest[: count - 1]) if own < largest[count - 2] else sum(largest[:count]) - own
            if self._exceeds(model, own, self._simulation.gpus[0].free_bytes - others, candidate):
                return True
        return False

    def _exceeds(
        self, model: SchedulerModel, least_bytes: int, free_bytes: int, candidate: Candidate
    ) -> bool:
        """Whether a model is too large for so much free memory, or Ollama predicts that it is."""
        server = self._simulation.server(candidate)
        if least_bytes + server.margin_bytes + self._simulation.headroom_bytes > free_bytes:
            return True
        limit_bytes = server.rules.placement.load_limit_bytes(free_bytes - server.cuda_context_bytes)
        return self._simulation.predicted_bytes(model, candidate) > limit_bytes

    def _knows_least(self, candidate: Candidate) -> bool:
        return (
            bool(self._simulation.gpus) and self._simulation.server(candidate).rules.era is Era.LLAMA_SERVER
        )

    def _room_bytes(self, candidate: Candidate) -> int:
        """All that models may take of the GPUs together, at the most."""
        return self._left_bytes(self._simulation.server(candidate))

    def _left_bytes(self, server: Server) -> int:
        """All that further models may take of a server's GPUs: of each what it has beyond what is to stay free."""
        keep = server.margin_bytes + self._simulation.headroom_bytes
        return sum(max(free - keep, 0) for free in server.free_bytes())

    def has_room(self, server: Server, models: Sequence[SchedulerModel], candidate: Candidate) -> bool:
        """Whether models may be safe that are loaded besides those of a server, as far as their least memory tells."""
        if not self._knows_least(candidate):
            return True
        return sum(self._least_of_each(models, candidate)) <= self._left_bytes(server)

    def _least_bytes(self, model: SchedulerModel, candidate: Candidate) -> int:
        return self._least_of_each((model,), candidate)[0]

    def _least_of_each(self, models: Sequence[SchedulerModel], candidate: Candidate) -> list[int]:
        """What each model takes at the least, CUDA contexts included."""
        known = self._least.setdefault(candidate, {})
        for model in models:
            if model.name not in known:
                known[model.name] = self._least_of(model, candidate)
        return [known[model.name] for model in models]

    def _least_of(self, model: SchedulerModel, candidate: Candidate) -> int:
        server = self._simulation.server(candidate)
        contexts_bytes = server.cuda_context_bytes * (len(self._simulation.gpus) if candidate.spread else 1)
        if model.shape is None:
            return contexts_bytes
        memory = self._least_memories.get(model.name)
        if memory is None:
            memory = self._least_memories[model.name] = LeastMemory(model.shape)
        context_length, slots = server.context_length(model), server.slots(model)
        return contexts_bytes + memory.bytes(context_length, slots, candidate.kv_cache_type)

    def verdict(self, models: Sequence[SchedulerModel], count: int, candidate: Candidate) -> Verdict:
        """Whether any `count` of these models are safe in any order, by a bound that may say no too often.

        One GPU: each model must fit beside the `count` - 1 others that take most. Several GPUs and not more
        models than GPUs: before each load one of the `count` GPUs with most memory is empty, and Ollama takes
        the GPU with the most free, which has no less; so each model must fit on the smallest of those. No GPU:
        the `count` models that take most must fit into system memory.
        """
        if not self._simulation.gpus:
            return self._in_system_memory(models, count, candidate)
        if candidate.spread and len(self._simulation.gpus) > 1:
            return Verdict(
                False, reason="models that are divided over several GPUs depend on each other's order"
            )
        if 1 < len(self._simulation.gpus) < count:
            return Verdict(
                False, reason=f"{count} models are more than the {len(self._simulation.gpus)} GPUs"
            )
        peaks = []
        for model in models:
            alone = self._simulation.alone(model, candidate)
            if not alone.verdict.is_safe:
                return alone.verdict
            if alone.peak is None:
                return Verdict(False, reason=f"{model.name} lies on several GPUs")
            peaks.append(alone.peak)
        server = self._simulation.server(candidate)
        if len(self._simulation.gpus) == 1:
            return self._bound_on_one_gpu(peaks, count, server)
        positions = range(len(self._simulation.gpus))
        smallest = sorted(positions, key=lambda one: -self._simulation.gpus[one].free_bytes)[count - 1]
        for peak in peaks:
            verdict = self._fits(peak, smallest, self._simulation.gpus[smallest].free_bytes, (), server)
            if not verdict.is_safe:
                return verdict
        return Verdict(True)

    def _in_system_memory(
        self, models: Sequence[SchedulerModel], count: int, candidate: Candidate
    ) -> Verdict:
        rules = self._simulation.server(candidate).rules
        if count > 1 and rules.has_bug(CPU_EVICTION_BUG):
            return Verdict(False, reason=evicts_without_gpu(rules))
        taken = []
        for model in models:
            alone = self._simulation.alone(model, candidate)
            if not alone.verdict.is_safe:
                return alone.verdict
            taken.append((alone.outcome.memory.host.total_bytes, model.name))
        largest = sorted(taken, reverse=True)[:count]
        needed = sum(size for size, _name in largest)
        available = self._simulation.host.system_memory_available_bytes
        if needed <= available:
            return Verdict(True)
        return Verdict(
            False, reason=beyond_system_memory([name for _size, name in largest], needed, available)
        )

    def _bound_on_one_gpu(self, peaks: Sequence[Peak], count: int, server: Server) -> Verdict:
        (gpu,) = self._simulation.gpus
        by_size = sorted(peaks, key=lambda peak: -peak.used_bytes)
        for peak in peaks:
            others = [other for other in by_size if other is not peak][: count - 1]
            free = gpu.free_bytes - sum(other.used_bytes for other in others)
            verdict = self._fits(peak, 0, free, others, server)
            if not verdict.is_safe:
                return verdict
        return Verdict(True)

    def _fits(
        self, peak: Peak, position: int, free_bytes: int, others: Sequence[Peak], server: Server
    ) -> Verdict:
        """Whether a model starts on a GPU with so much free memory, while other models are loaded."""
        name, gpu = peak.model.name, server.gpus[position]
        free_bytes = max(free_bytes, 0)
        beside = f" beside {', '.join(other.model.name for other in others)}" if others else ""
        pools = peak.pool_bytes + sum(other.pool_bytes for other in others)
        needed = peak.used_bytes + max(
            peak.to_stay_free_bytes, pools + self._simulation.headroom_bytes
        )
        if needed > free_bytes:
            return Verdict(
                False,
                reason=(
                    f"{name} needs {gib(needed)} with what is to stay free, "
                    f"and GPU {gpu.index} has {gib(free_bytes)}{beside}"
                ),
            )
        rules = server.rules.placement
        decision = decide(
            peak.model,
            peak.options,
            View(
                (gpu,),
                (free_bytes - server.cuda_context_bytes,),
                self._simulation.host.system_memory_available_bytes,
            ),
            rules,
            others_loaded=True,
            spread=False,
            flash_attention=server.flash_attention(range(len(server.gpus))),
        )
        if decision.must_evict:
            return Verdict(
                False,
                reason=(
                    f"Ollama predicts {gib(decision.predicted_bytes)} for {name}, more than {rules.load_percent} % of "
                    f"the {gib(decision.available_bytes)} that GPU {gpu.index} has free{beside}, and would evict"
                ),
            )
        return Verdict(True)
