# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which models the planner calls safe together on a host, with how many slots each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import CUDA_CONTEXT_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._least import LeastMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._describe import described
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import goal_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import available_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import judge_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._plan import PlannedGpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._search import best_choice
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import has_single_slot
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import Era


@dataclass(frozen=True)
class Proof:
    """What a host has when it holds a set of models; sizes in bytes, context in tokens per request."""

    context_length: int
    kv_cache_type: str
    planned_bytes: int
    gpus: tuple[PlannedGpu, ...]

    @property
    def free_share(self) -> float:
        """Of the GPU that is fullest, the part that stays free."""
        return min((gpu.free_bytes / gpu.total_bytes for gpu in self.gpus if gpu.total_bytes), default=0.0)


class Prover:
    """Asks the planner about sets of the models that the inputs of a host demand.

    `single`: those to which Ollama gives one slot whatever it is told. `least_parallel` and `most_parallel` are the
    operator's bounds for the host.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._demands = {demand.model.name: demand for demand in inputs.demands}
        # A plan goes by what was seen and measured on the host only where it is safe by the rules as well.
        by_the_rules = [replace(inputs, observed=())] if inputs.observed else []
        by_the_rules += [replace(inputs, runner_overhead_bytes=None)] if inputs.runner_overhead_bytes is not None else []
        self._judges = [judge_for(one) for one in (inputs, *by_the_rules)]
        self._least_memories: dict[str, LeastMemory] = {}
        policy = inputs.policy
        self.names = frozenset(self._demands)
        self.single = frozenset(
            name for name, demand in self._demands.items() if has_single_slot(demand.model, inputs.rules)
        )
        self.least_parallel = policy.num_parallel or policy.min_parallel
        self.most_parallel = policy.num_parallel or policy.max_parallel
        self.most_models = policy.max_loaded_models or len(self.names)
        self._is_bounded = inputs.rules.era is Era.LLAMA_SERVER
        self.room_bytes = sum(map(available_bytes, inputs.host.gpus))

    def least_bytes(self, name: str, parallel: int) -> int:
        """What a model takes at the least of all GPUs together, with so many slots; 0 where no bound is known."""
        demand = self._demands[name]
        if not self._is_bounded or demand.model.shape is None or demand.wanted is None:
            return 0
        memory = self._least_memories.get(name)
        if memory is None:
            memory = self._least_memories[name] = LeastMemory(demand.model.shape)
        slots = 1 if name in self.single else parallel
        context = min(demand.wanted.context_length or 1, demand.model.context_length_trained or 1 << 62)
        overhead = self._inputs.runner_overhead_bytes
        return (CUDA_CONTEXT_BYTES if overhead is None else overhead) + min(
            memory.bytes(context, slots, kv_cache_type)
            for kv_cache_type in self._inputs.policy.kv_cache_types
        )

    def is_safe(self, names: Collection[str], parallel: int) -> bool:
        """Whether the planner calls these models safe together, each with so many slots."""
        return self._chosen(names, parallel) is not None

    def proof(self, names: Collection[str], parallel: int) -> Proof | None:
        """What the host has then; None where it is not safe."""
        chosen = self._chosen(names, parallel)
        if chosen is None:
            return None
        gpus = described(chosen).gpus
        candidate = chosen.choice.candidate
        return Proof(
            context_length=candidate.context_length,
            kv_cache_type=candidate.kv_cache_type,
            planned_bytes=sum(gpu.planned_bytes for gpu in gpus),
            gpus=gpus,
        )

    def context_length(self, names: Collection[str]) -> int:
        """The context length that a host gets which holds these models."""
        return max(goal_for(self._with(names)).context_lengths)

    def _with(self, names: Collection[str]) -> Inputs:
        demands = tuple(demand for name, demand in self._demands.items() if name in names)
        return replace(self._inputs, demands=demands)

    def _chosen(self, names: Collection[str], parallel: int) -> Chosen | None:
        inputs = self._with(names)
        demands = inputs.demands
        # Of tags that share a blob one is loaded at a time.
        share_a_blob = len({demand.model.key for demand in demands}) < len(demands)
        if (
            len(demands) < len(names)
            or share_a_blob
            or len(demands) > self.most_models
            or not self.least_parallel <= parallel <= self.most_parallel
        ):
            return None
        goal = replace(goal_for(inputs), parallels=(parallel,))
        choice = best_choice(self._judges, goal)
        asked = max((demand.wanted.context_length or 0 for demand in demands if demand.wanted), default=0)
        if choice is None or choice.candidate.context_length < asked:
            return None
        return Chosen(inputs, self._judges[0], goal, choice)
