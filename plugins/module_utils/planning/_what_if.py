# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host that is only thought of could take: its plan, a ladder of contexts and requests, the smallest cards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._cards import CARDS, Card
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._describe import (
    loaded_in_order,
    planned_gpus,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._goal import Goal, goal_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._host import host_from_facts
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._inputs import Inputs, read_inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._judge import Judge, judge_for
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    LEAST_CONTEXT_LENGTH,
    Policy,
    WantedModel,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._rank import Choice
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import Said
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._search import best_choice
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._service_environment import Service
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._today import today_of

# Of so many models a ladder and every card are tried within seconds.
MOST_MODELS = 16
# The lengths of a ladder, in tokens: as many rows as a screen shows beside the rest.
LONGEST_CONTEXT_LENGTH = 1 << 18
# How many of one card are thought of.
COUNTS = (1, 2, 4)
# System memory is not what such a host is short of: so much for each byte of its GPUs.
SYSTEM_MEMORY_SHARE = 2

FITS, TIGHT, EVICTS, SPILLS, FAILS = "fits", "tight", "evicts", "spills", "fails"


@dataclass(frozen=True)
class Cell:
    """One step of the ladder: all models loaded together with these settings.

    `how`: `fits`; `tight`, where they lie on the GPUs and less than the engine's margin stays free; `evicts`, where one
    goes for another; `spills`, where layers lie on the CPU; `fails`. `gpu_bytes`: what they take of the GPUs; 0 unless it
    fits. `one_order`: it fits only where the models are loaded in one order.
    """

    context_length: int
    parallel: int
    how: str
    gpu_bytes: int = 0
    one_order: bool = False


@dataclass(frozen=True)
class Smallest:
    """The smallest card of which so many would do; `usable_bytes`: what programs get of one."""

    count: int
    card: str
    usable_bytes: int


@dataclass(frozen=True)
class WhatIf:
    """What a host could take. Sizes in bytes, lengths in tokens for each request.

    `plan`: None where there is none, and `misfit` says why. `alone`: what Ollama would do without any setting. `beyond`: why
    a longer context is not planned, empty where none is left. `context_length`: what `smallest` is for. `trained`: the
    longest context that each model makes use of.
    """

    gpus: tuple[str, ...]
    usable_bytes: tuple[int, ...]
    models: tuple[str, ...]
    trained: Mapping[str, int]
    requests: int
    context_length: int
    version: str
    plan: Mapping[str, Any] | None
    misfit: str
    alone: tuple[str, ...]
    ladder: tuple[Cell, ...]
    beyond: str
    smallest: tuple[Smallest, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = {**asdict(replace(self, plan=None)), "plan": self.plan or {}}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def what_if(
    *,
    cards: Sequence[Card],
    models: Sequence[Any],
    requests: int,
    context_length: int | None = None,
    kv_cache_types: Sequence[str] = ("f16",),
    version: str | None = None,
) -> WhatIf:
    """What a host with these cards could take, and which cards would do.

    `models`: as `ollama_plan` takes them, all to be kept loaded together. `requests`: at once for each of them.
    `context_length`: the least for each request.

    Raises: ValueError in one sentence, where the models or the version make no sense.
    """
    if len(models) > MOST_MODELS:
        raise ValueError(f"{len(models)} models are named, at most {MOST_MODELS} are planned together here")
    wanted = tuple(WantedModel(str(model["name"])) for model in models)
    policy = Policy(
        requests=requests,
        min_context_length=context_length or LEAST_CONTEXT_LENGTH,
        kv_cache_types=tuple(kv_cache_types),
    )
    gpu = _facts(cards)
    inputs = read_inputs(
        gpu=gpu,
        models=models,
        wanted=wanted,
        policy=policy,
        version=version,
        service=Service(),
        unplannable={},
    )
    goal, judge = goal_for(inputs), judge_for(inputs)
    plan, misfit = None, ""
    try:
        plan = plan_host(
            gpu=gpu, models=models, wanted=wanted, policy=policy, version=str(inputs.rules.version)
        ).to_dict()
    except ValueError as error:
        misfit = str(error)
    alone = today_of(replace(inputs, service=Service(running={"HOME": "/"})), Said())
    asked = context_length or LEAST_CONTEXT_LENGTH
    return WhatIf(
        gpus=tuple(card.name for card in cards),
        usable_bytes=tuple(card.usable_bytes for card in cards),
        models=inputs.names,
        trained={model.name: model.context_length_trained for model in goal.models},
        requests=requests,
        context_length=asked,
        version=str(inputs.rules.version),
        plan=plan,
        misfit=misfit,
        alone=alone.sentences if alone else (),
        ladder=tuple(_ladder(judge, goal, requests, asked)),
        beyond=_beyond(judge, goal, plan),
        smallest=tuple(_smallest(inputs, goal, asked)),
    )


def _facts(cards: Sequence[Card]) -> dict[str, Any]:
    devices = [card.as_device() for card in cards]
    system = SYSTEM_MEMORY_SHARE * sum(card.total_mib for card in cards) << 20
    return {"system_memory_total_bytes": system, "devices": devices}


def parallels_of(requests: int) -> tuple[int, ...]:
    """The requests at once that a ladder shows: what is asked for, a half and a quarter of it, twice as many, and one."""
    return tuple(sorted({1, max(1, requests // 4), max(1, requests // 2), requests, min(256, 2 * requests)}))


def contexts_of(goal: Goal, asked: int) -> tuple[int, ...]:
    """The context lengths that a ladder shows, up to what the models make use of."""
    trained = max(
        (model.context_length_trained or LONGEST_CONTEXT_LENGTH for model in goal.models), default=asked
    )
    top = min(max(trained, asked), max(asked, LONGEST_CONTEXT_LENGTH))
    lengths = {asked}
    length = LEAST_CONTEXT_LENGTH
    while length < top:
        lengths.add(length)
        length *= 2
    return tuple(sorted({*lengths, top}))


def _ladder(judge: Judge, goal: Goal, requests: int, asked: int) -> Iterator[Cell]:
    for context_length in contexts_of(goal, asked):
        for parallel in parallels_of(requests):
            yield _cell(judge, goal, context_length, parallel)


def _cell(judge: Judge, goal: Goal, context_length: int, parallel: int) -> Cell:
    step = replace(goal, parallels=(parallel,), context_lengths=(context_length,))
    choice = best_choice((judge,), step)
    if choice is None:
        return Cell(context_length, parallel, _why(judge, step))
    _models, server = loaded_in_order(judge, _order(judge, goal, choice), choice.candidate)
    taken = sum(gpu.planned_bytes for gpu in planned_gpus(judge, server))
    return Cell(context_length, parallel, FITS, taken, one_order=bool(choice.order))


def _order(judge: Judge, goal: Goal, choice: Choice) -> Sequence[Any]:
    models = judge.load_order(goal.models, choice.candidate)
    by_name = {model.name: model for model in models}
    return [by_name[name] for name in choice.order] or models


def _why(judge: Judge, step: Goal) -> str:
    server, seen = judge.simulation.telling_server(step.least), {TIGHT}
    for model in judge.load_order(step.models, step.least):
        server, outcome = server.load(model)
        seen |= {FAILS} if outcome.failure else {SPILLS} if outcome.spilled else {EVICTS} if outcome.evicted else set()
    return next(how for how in (FAILS, SPILLS, EVICTS, TIGHT) if how in seen)


def _beyond(judge: Judge, goal: Goal, plan: Mapping[str, Any] | None) -> str:
    """Why a longer context does not fit beside as many requests as are planned, or only in one order of loading."""
    if plan is None:
        return ""
    parallel = plan["num_parallel"]
    for context_length in contexts_of(goal, plan["context_length"]):
        if context_length <= plan["context_length"]:
            continue
        step = replace(goal, parallels=(parallel,), context_lengths=(context_length,))
        choice = best_choice((judge,), step)
        if choice is None:
            verdict = judge.some_order(goal.models, step.least, says_why=True)
            return f"{parallel} x {context_length} tokens do not fit: {verdict.reason}"
        if choice.order and not plan["order_matters"]:
            return (
                f"{parallel} x {context_length} tokens are safe only when loaded as {', '.join(choice.order)}; "
                f"context_length={context_length} asks for that"
            )
    return ""


def _smallest(inputs: Inputs, goal: Goal, asked: int) -> Iterator[Smallest]:
    """For one, two and four of a card the smallest that would do in any order of loading, where it is one yet smaller."""
    least = replace(goal, parallels=goal.parallels[:1], context_lengths=(asked,))
    cards = sorted(CARDS, key=lambda card: card.usable_bytes)
    for count in COUNTS:
        step = replace(least, spreads=(False,) if count == 1 else (False, True))
        found = next((one for one in cards if _does(replace(inputs, host=_host(inputs, one, count)), step)), None)
        if found:
            yield Smallest(count, found.name, found.usable_bytes)
            cards = [one for one in cards if one.usable_bytes < found.usable_bytes]


def _does(inputs: Inputs, goal: Goal) -> bool:
    choice = best_choice((judge_for(inputs),), goal) if inputs.host.gpus else None
    return choice is not None and not choice.order


def _host(inputs: Inputs, card: Card, count: int) -> Any:
    return host_from_facts(
        _facts([card] * count),
        on_gpu_fault="fail",
        environment=inputs.environment,
        managed_environment={},
        rules=inputs.rules,
    )
