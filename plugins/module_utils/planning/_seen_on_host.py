# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's loads have taken and suffered since its server's start, in a plan's words, and what the next plan makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._choice import Chosen
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._evidence import evidence_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import total_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import judge_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import Said
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import (
    History,
    Observed,
    SeenLoad,
    compared,
    observed_of,
    together,
)

# Of many differences the largest are told.
MOST_TOLD = 5


@dataclass(frozen=True)
class SeenOnHost:
    """Loads beside what is foretold for them, those that took more, what became of each model, and what to know of it."""

    rows: tuple[SeenLoad, ...] = ()
    observed: tuple[Observed, ...] = ()
    history: tuple[History, ...] = ()
    warnings: tuple[str, ...] = ()
    evidence: tuple[Mapping[str, Any], ...] = ()


def seen_on_host(inputs: Inputs, said: Said, remembered: Sequence[Observed]) -> SeenOnHost:
    """What the running server said of its loads, and what was remembered of former starts."""
    if not said.log.models and not remembered:
        return SeenOnHost()
    models = [*(demand.model for demand in inputs.demands), *inputs.others]
    most = list(map(total_bytes, inputs.host.gpus))
    rows = compared(said.log, models, MemoryEngine(), inputs.rules, most)
    names: dict[str, str] = {}
    for model in models:
        names.setdefault(model.key, model.name)
    history = tuple(
        History(
            one.name or names.get(one.blob, one.blob),
            one.loads,
            one.evicted,
            one.spilled,
            one.failed,
            one.error,
            said.at_least,
        )
        for one in said.log.models
    )
    beyond = sorted((row for row in rows if row.is_beyond), key=lambda row: -abs(row.difference_bytes))
    told = [f"{row.message}; evidence/ beside the report has all that reproduces it" for row in beyond[:MOST_TOLD]]
    if len(beyond) > MOST_TOLD:
        told.append(f"{len(beyond) - MOST_TOLD} more buffers were not as foretold: see seen")
    return SeenOnHost(
        rows=rows,
        observed=together(remembered, observed_of(rows), str(inputs.rules.version)),
        history=history,
        evidence=evidence_of(rows, models),
        warnings=(*told, *map(_suffered, (one for one in history if one.evicted or one.spilled or one.failed))),
    )


def _suffered(one: History) -> str:
    """`gemma3:4b was evicted 14 times` and its like; also what the server refused to load, with its own words."""
    least = "at least " if one.at_least else ""
    parts = []
    if one.evicted:
        parts.append(f"was evicted {least}{_times(one.evicted)}")
    if one.spilled:
        times = f"{least}{_times(one.spilled)}"
        parts.append(f"was left partly to the CPU {times} (such loads are not compared with what is foretold)")
    if one.failed:
        why = f" ({one.error.rstrip('.'):.200})" if one.error else ""
        parts.append(f"could not be loaded {least}{_times(one.failed)}{why}")
    return f"{one.model} {' and '.join(parts)} since the server was started"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def is_safe_by_the_rules(chosen: Chosen, inputs: Inputs) -> bool:
    """Whether what was chosen with what was observed is safe, or as unsafe as it says, without it too."""
    if chosen.unsafe:
        return True
    judge, choice = judge_for(inputs), chosen.choice
    if choice.order:
        return judge.is_safe_in(choice.order, choice.candidate)
    if chosen.goal.wanted:
        return judge.any_order(chosen.goal.models, choice.candidate).is_safe
    return judge.any_combination(chosen.goal.models, choice.loaded, choice.candidate).is_safe
