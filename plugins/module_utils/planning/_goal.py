# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a search may try: parallel values, context lengths, cache types, from a policy and the wanted models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from operator import itemgetter

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Demand, Inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    SchedulerModel,
    has_single_slot,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import VersionRules


@dataclass(frozen=True)
class Goal:
    """What the search is to reach, and what it may try.

    `wanted`: whether `models` are to stay loaded together; otherwise any of them is to be served.
    `parallels` hold the demand first, then smaller values. `context_lengths` are in tokens per request. `kv_cache_types`:
    the best first. `spreads`: whole models first.
    `least_loaded`: how many models are to be loaded at once at least, where none is wanted by name.
    `longest_because`: why no longer context is tried.
    """

    models: tuple[SchedulerModel, ...]
    wanted: bool
    parallels: tuple[int, ...]
    context_lengths: tuple[int, ...]
    kv_cache_types: tuple[str, ...]
    spreads: tuple[bool, ...]
    least_loaded: int = 1
    longest_because: str = ""

    @property
    def least(self) -> Candidate:
        """Of the settings that may be tried those that take least, on whole GPUs where they may."""
        return Candidate(
            min(self.parallels), min(self.context_lengths), self.kv_cache_types[-1], self.spreads[0]
        )

    def settings(self) -> Iterator[Candidate]:
        """All settings that may be tried."""
        for values in product(self.parallels, self.context_lengths, self.kv_cache_types, self.spreads):
            yield Candidate(*values)


def goal_for(inputs: Inputs, policy: Policy | None = None) -> Goal:
    """The goal of these inputs, under the operator's policy or another one."""
    return goal_of(
        inputs.demands,
        policy or inputs.policy,
        inputs.rules,
        gpu_count=len(inputs.host.gpus),
        tier=inputs.automatic_context_length,
    )


def goal_of(
    demands: Sequence[Demand],
    policy: Policy,
    rules: VersionRules,
    *,
    gpu_count: int,
    tier: int,
) -> Goal:
    """The goal that a policy sets for these models on a host where Ollama itself would take the context `tier`."""
    wanted = any(demand.wanted for demand in demands)
    top, top_because = longest_context(demands, policy, tier, has_gpus=gpu_count > 0)
    return Goal(
        models=tuple(demand.model for demand in demands),
        wanted=wanted,
        parallels=parallels(demands, policy, rules),
        context_lengths=context_lengths(demands, policy, top),
        longest_because=top_because,
        kv_cache_types=policy.kv_cache_types,
        spreads=_spreads(policy, gpu_count),
        least_loaded=policy.max_loaded_models or 1,
    )


def requests_in_flight(demands: Sequence[Demand], policy: Policy, rules: VersionRules) -> int:
    """The most requests at once that any model has to serve; models with a single slot do not count."""
    asked = [
        (demand.wanted and demand.wanted.requests) or policy.requests
        for demand in demands
        if not has_single_slot(demand.model, rules)
    ]
    return max(asked, default=1)


def parallels(demands: Sequence[Demand], policy: Policy, rules: VersionRules) -> tuple[int, ...]:
    """Parallel values to try: the smallest that serves the demand, then those below it."""
    if policy.num_parallel is not None:
        return (policy.num_parallel,)
    demand = requests_in_flight(demands, policy, rules)
    top = max(min(demand, policy.max_parallel), policy.min_parallel)
    return tuple(range(top, policy.min_parallel - 1, -1))


def context_lengths(demands: Sequence[Demand], policy: Policy, top: int) -> tuple[int, ...]:
    """Context lengths to try, ascending.

    The operator's own value alone; otherwise the least that will do and the powers of two above it, up to the longest
    (`top`). With lower_context a length that was asked for may be lowered to the least acceptable one.
    """
    asked = policy.context_length or max([policy.min_context_length, *_asked(demands)])
    least = min(policy.min_context_length, top) if policy.lower_context else asked
    return _doubled(least, top)


def longest_context(
    demands: Sequence[Demand], policy: Policy, tier: int, *, has_gpus: bool = True
) -> tuple[int, str]:
    """The longest context to try, and why no longer one is.

    What Ollama itself would take (`tier`) limits nothing on GPUs: it goes by their memory alone, whatever the models are.
    It limits models that do not say what they were trained for, and hosts without a GPU, where a long context takes
    hours to read.
    """
    if policy.context_length is not None:
        return policy.context_length, "it is the operator's own value"
    floor = max([policy.min_context_length, *_asked(demands)])
    if len(_asked(demands)) == len(demands) > 0:
        return floor, "it is the longest that is asked for"
    ceilings = []
    if policy.max_context_length is not None:
        ceilings.append(
            (policy.max_context_length, "it is the most that ollama_plan_max_context_length allows")
        )
    elif not has_gpus:
        ceilings.append((tier, "it is the most that Ollama itself would take for this host"))
    ceilings.append(
        (_useful(demands, policy.max_context_length or tier), "no model is known to make use of more")
    )
    top, why = min(ceilings, key=itemgetter(0))
    return (top, why) if top >= floor else (floor, "it is the least that is asked for")


def _asked(demands: Sequence[Demand]) -> list[int]:
    """The context lengths that wanted models have to have."""
    return [
        demand.wanted.context_length for demand in demands if demand.wanted and demand.wanted.context_length
    ]


def _useful(demands: Sequence[Demand], untold: int) -> int:
    """The longest context that any model can use which takes its context from the environment.

    `untold` is that of models which do not say what they were trained for.
    """
    trained = [demand.model.context_length_trained or untold for demand in demands if not demand.model.num_ctx]
    return 1 << (max(trained) - 1).bit_length() if trained else 0


def _doubled(least: int, most: int) -> tuple[int, ...]:
    """`least`, the powers of two between, and `most` itself."""
    powers = [1 << exponent for exponent in range(most.bit_length())]
    return tuple(sorted({least, most, *(power for power in powers if power > least)}))


def _spreads(policy: Policy, gpu_count: int) -> tuple[bool, ...]:
    if policy.spread == "always":
        return (True,)
    if policy.spread == "never" or gpu_count < 2:
        return (False,)
    return (False, True)
