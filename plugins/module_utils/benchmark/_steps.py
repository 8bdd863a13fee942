# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which parallel values are measured, with which settings and models, and which are not, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key, same_model


@dataclass(frozen=True)
class Step:
    """One parallel value to measure: the plan's environment, and its models in the order in which to load them."""

    parallel: int
    environment: Mapping[str, str]
    version: str
    models: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "models": list(self.models)}


@dataclass(frozen=True)
class Skipped:
    """A parallel value that is not measured."""

    parallel: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def steps(
    plans: Sequence[Mapping[str, Any]],
    models: Sequence[str] = (),
    installed: Sequence[Mapping[str, Any]] = (),
) -> tuple[tuple[Step, ...], tuple[Skipped, ...]]:
    """What to measure of these plans, one for each parallel value, and what to leave out.

    `models`: those to measure, by any of their names; by default all that are planned and take the parallel value.
    `installed`: the host's models, by which another tag of a planned one is known.

    Raises: ValueError where a model is named that no plan holds.
    """
    safe = [plan for plan in plans if plan["safe"]]
    skipped = tuple(Skipped(plan["num_parallel"], _why_unsafe(plan)) for plan in plans if not plan["safe"])
    chosen = _scaling(safe)
    if models and safe:
        planned = _planned(safe[0])
        chosen = [_planned_name(name, planned, installed) for name in models]
    return (
        tuple(
            Step(
                plan["num_parallel"],
                {name: str(value) for name, value in plan["environment"].items()},
                plan["version"],
                tuple(name for name in _in_order(plan) if name in chosen),
            )
            for plan in sorted(safe, key=lambda plan: int(plan["num_parallel"]))
        ),
        skipped,
    )


def _planned_name(name: str, planned: Sequence[str], installed: Sequence[Mapping[str, Any]]) -> str:
    """The name under which the plan holds a model: its own, or that of a tag that differs from it in nothing else."""
    found = next((one for one in planned if same_model(one, name)), None)
    if found is None:
        content = {name_key(model["name"]): {**model, "name": ""} for model in installed}
        own = content.get(name_key(name))
        found = next((one for one in planned if own and content.get(name_key(one)) == own), None)
    if found is None:
        raise ValueError(
            f"{name} is to be measured and is not planned here; planned are {', '.join(planned) or 'none'}: "
            "name one of these in ollama_benchmark_models, or add it to ollama_plan_wanted"
        )
    return found


def _planned(plan: Mapping[str, Any]) -> list[str]:
    return [model["name"] for model in plan["models"] if model["planned"]]


def _in_order(plan: Mapping[str, Any]) -> list[str]:
    planned = _planned(plan)
    return [*plan["load_order"], *(name for name in planned if name not in plan["load_order"])]


def _scaling(plans: Sequence[Mapping[str, Any]]) -> list[str]:
    """The models that get as many slots as are set, in one plan at least; all where no plan has more than one."""
    if not plans:
        return []
    slots = [
        (model["name"], model["num_parallel"])
        for plan in plans
        for model in plan["models"]
        if model["planned"]
    ]
    most = max((number for _name, number in slots), default=1)
    return list(dict.fromkeys(name for name, number in slots if number > 1 or most == 1))


def _why_unsafe(plan: Mapping[str, Any]) -> str:
    marker = "the plan is not safe: "
    for warning in plan["warnings"]:
        if str(warning).startswith(marker):
            return str(warning)[len(marker) :]
    return "it is not safe"
