# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a simulated server says of its steps: one sentence each, for an operator."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB, gib_or_mib
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._free_memory import Runner
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._layout_before_0_30 import Layout
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import Options, SchedulerModel
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._placement import Decision, View
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._placement_rules import PlacementRules
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import KnownBug, VersionRules

# From here on it is said that Ollama misses memory in use.
NOTABLE_UNSEEN_BYTES = GIB


class ContextSource(Enum):
    """Who asks for a context length, in words."""

    REQUEST = "the request asks for num_ctx {asked}"
    MODEL = "the model's own parameter num_ctx is {asked}"
    ENVIRONMENT = "OLLAMA_CONTEXT_LENGTH is {asked}"
    AUTOMATIC = "nothing sets one, and Ollama takes {asked} for {memory} of GPU memory"


def slots_words(model: SchedulerModel, rules: VersionRules, slots: int) -> str:
    """Why a model has so many slots."""
    if model.is_embedding:
        return f"{model.name} is an embedding model, so it gets one slot."
    if rules.forces_single_slot(model.family):
        return f"Ollama {rules.version} gives models of family {model.family} one slot only."
    return f"OLLAMA_NUM_PARALLEL gives {model.name} {slots} slot{'s' * (slots > 1)}."


def context_words(context_length: int, asked: int, source: ContextSource, memory_bytes: int) -> str:
    """Why a slot has so much context; `memory_bytes`: of all GPUs."""
    all_of_it = ", all that the model was trained for" if context_length < asked else ""
    why = source.value.format(asked=asked, memory=gib_or_mib(memory_bytes))
    return f"Each slot gets {context_length} tokens of context{all_of_it}: {why}."


def cpu_words(name: str, options: Options) -> str:
    """Why a model runs on the CPU."""
    reason = "num_gpu is 0" if options.num_gpu == 0 else "Ollama sees no GPU"
    return f"{reason}, so {name} runs on the CPU."


def victim_words(victim: Runner) -> str:
    """Why this model is evicted."""
    return (
        f"{victim.name} is evicted: of the idle models it has the shortest keep-alive "
        f"({victim.keep_alive_seconds:g} s), and of those the lowest blob name."
    )


def or_any(main_gpu: int | None) -> str:
    """The number of a GPU, where one is asked for."""
    return "any" if main_gpu is None else str(main_gpu)


def layout_words(name: str, decision: Decision, layout: Layout, view: View) -> str:
    """Where an Ollama before 0.30 lays a model, and why."""
    needs = (
        f"{name} needs {gib_or_mib(decision.predicted_bytes)}, "
        f"{', '.join(map(gib_or_mib, view.free_bytes))} are free; "
    )
    if layout.is_whole:
        return needs + f"it fits on GPU {_indexes(decision.placement, view)}, the fewest that hold it."
    if decision.must_evict:
        return needs + "it does not fit beside what is loaded."
    return needs + f"only {layout.layers} layers fit, the others go to the CPU."


def placement_words(
    name: str, decision: Decision, view: View, rules: PlacementRules, *, spread: bool, others_loaded: bool
) -> tuple[str, ...]:
    """Where Ollama puts a model, and whether it evicts for it."""
    predicted = gib_or_mib(decision.predicted_bytes)
    limit = gib_or_mib(rules.load_limit_bytes(decision.available_bytes))
    indexes = _indexes(decision.placement, view)
    where = (
        f"Ollama predicts {predicted} for {name} with batch {decision.batch} and believes "
        f"{', '.join(map(gib_or_mib, view.free_bytes))} to be free; "
    )
    if decision.is_alone:
        where += f"GPU {indexes} is the one with the most free memory that can take it alone."
    elif len(decision.placement) > 1:
        why = "OLLAMA_SCHED_SPREAD is set" if spread else "no GPU can take it alone"
        where += f"{why}, so it is split over GPUs {indexes}."
    else:
        where += f"GPU {indexes} is the only one."
    if decision.must_evict:
        return where, f"{predicted} is more than {rules.load_percent} % of what is free there ({limit})."
    if others_loaded:
        return (
            where,
            f"It is within {rules.load_percent} % of what is free there ({limit}), so nothing is evicted.",
        )
    return where, "It is the only model, so Ollama loads it without asking whether it fits."


def unseen_words(
    view: View, free_bytes: Sequence[int], runners: Sequence[Runner], bug: KnownBug | None
) -> tuple[str, ...]:
    """What Ollama misses of the memory in use, where that is much; `bug`: by which it misses models."""
    unseen = [
        position
        for position, believed in enumerate(view.free_bytes)
        if believed - free_bytes[position] > NOTABLE_UNSEEN_BYTES
    ]
    if not unseen:
        return ()
    really = ", ".join(
        f"{gib_or_mib(free_bytes[position])} on GPU {view.gpus[position].index}" for position in unseen
    )
    cause = "what models take beyond their logs, or other processes took since, is not counted"
    alone = {runner.placement[0] for runner in runners if len(runner.placement) == 1}
    uncounted = sorted(alone & set(unseen) - {0})
    if uncounted and bug:
        cause = f"models alone on GPU {_indexes(uncounted, view)} are not counted ({bug.issue})"
    return (f"Really free are {really}, less than Ollama believes: {cause}.",)


def _indexes(positions: Sequence[int], view: View) -> str:
    return ", ".join(str(view.gpus[position].index) for position in positions)
