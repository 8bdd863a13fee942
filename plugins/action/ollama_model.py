# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes the module `ollama_model` on the host a slice of time after the other, and shows its progress between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB, gib_or_mib
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import documented
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._host_module import HostModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._waiting import host_of, in_slices, say

IDLE_SECONDS = 120
TIMEOUT_SECONDS = 86400
# Before the next try where something is to mend itself, and where a slice has ended before its time.
PAUSE_SECONDS = 5.0
# Of a line with what Ollama says.
MOST_CHARACTERS = 400
# What a model says of which a host leaves something out.
UNTOLD: dict[str, Any] = {
    "name": "a model",
    "action": "",
    "done": False,
    "size_bytes": 0,
    "completed_bytes": None,
    "layer": "",
    "layer_bytes": 0,
    "layer_completed_bytes": 0,
    "status": "",
}


class ActionModule(HostModule):
    """The way of the module `ollama_model`."""

    returns = documented("ollama_model")

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super(HostModule, self).run(tmp, task_vars)
        variables = task_vars or {}
        options = {**self._task.args, "models": named(self._task.args.get("models"))}

        def execute() -> dict[str, Any]:
            return self.answer_of("ollama_model", options, self.returns, variables)

        def show(line: str) -> None:
            say(host_of(task_vars), line, MOST_CHARACTERS, stderr=True)

        idle, timeout = (
            int(self._task.args.get(name, default))
            for name, default in (("idle_seconds", IDLE_SECONDS), ("timeout_seconds", TIMEOUT_SECONDS))
        )
        only_looks = bool(self._task.check_mode) or boolean(self._task.args.get("look", False))
        pull = Pull(execute, Limits(idle, timeout), only_looks)
        return {**result, **in_slices(pull.slice, pull.words, show)}


def named(models: Any) -> Any:
    """A list of models as the module takes it, where each may be a name alone."""
    if not isinstance(models, list):
        return models
    return [{"name": model} if isinstance(model, str) else model for model in models]


@dataclass
class Rates:
    """How fast one model comes, from one slice to the next."""

    _name: str = ""
    _at: float = 0.0
    _bytes: int = 0

    def line(self, answer: Mapping[str, Any], now: float) -> str:
        """What is coming, how much of it is here, how fast, and how long it still takes; empty where that is not known."""
        model = _current(answer)
        if model is None:
            return ""
        name, done, size = model["name"], model["completed_bytes"], model["size_bytes"]
        layer, layer_done, layer_size = model["layer"], model["layer_completed_bytes"], model["layer_bytes"]
        if done is None or not size:
            done, size = layer_done, layer_size
        elapsed = now - self._at
        rate = (done - self._bytes) / elapsed if name == self._name and elapsed > 0 else None
        self._name, self._at, self._bytes = name, now, done
        parts = [f"{gib_or_mib(done)} of {gib_or_mib(size)}" + (f" ({100 * done // size} %)" if size else "")]
        if layer:
            parts.append(f"layer {layer[7:19]} {gib_or_mib(layer_done)} of {gib_or_mib(layer_size)}")
        if rate is not None and rate > 0:
            parts += [f"{rate / MIB:.1f} MiB/s", f"{_duration((size - done) / rate)} left"]
        elif rate is not None:
            parts.append("nothing came since the last line")
        return f"{name}: {', '.join(parts)}"


@dataclass(frozen=True)
class Limits:
    """How long nothing may come, and how long all may take, in seconds."""

    idle_s: float
    timeout_s: float


class Pull:
    """Executes the module until all is done, or nothing comes any more."""

    def __init__(
        self,
        execute: Callable[[], dict[str, Any]],
        limits: Limits,
        only_looks: bool,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._execute, self._limits, self._only_looks, self._clock, self._pause = execute, limits, only_looks, clock, pause
        self._started = self._headway = clock()
        self._began = self._changed = self._pauses = False
        self._before: str | None = None
        self._here = (-1, -1)
        self._rates = Rates()

    def slice(self) -> dict[str, Any]:
        """The answer of the next slice, with the changes of all so far; a failed one where no other can help."""
        if self._pauses:
            self._pause(PAUSE_SECONDS)
        begun = self._clock()
        answer = self._with_all_changes(self._execute())
        if answer.get("failed") or answer.get("unreachable") or self._is_over(answer):
            return answer
        now = self._clock()
        here = _here(answer)
        if here > self._here:
            self._headway = now
        self._began, self._here = self._began or here > (0, 0), here
        # Whatever a host answers at once is not asked for again at once.
        self._pauses = bool(_waiting(answer)) or now - begun < PAUSE_SECONDS
        reason = self._given_up(answer, now)
        return {**answer, "failed": True, "msg": reason} if reason else answer

    def words(self, answer: Mapping[str, Any]) -> str | None:
        """How far it is; None where nothing is left to do."""
        if self._is_over(answer):
            return None
        return "; ".join(filter(None, [self._rates.line(answer, self._clock()), _waiting(answer)]))

    def _is_over(self, answer: Mapping[str, Any]) -> bool:
        return self._only_looks or bool(answer.get("done"))

    def _given_up(self, answer: Mapping[str, Any], now: float) -> str:
        """Why no other slice is to follow; empty where one is."""
        waiting, limits = _waiting(answer), self._limits
        if waiting and not self._began:
            return waiting
        if now - self._headway > limits.idle_s:
            return waiting or _stalled(answer, limits.idle_s)
        if now - self._started > limits.timeout_s:
            return f"{_coming(answer)} is not here within {limits.timeout_s:g} s"
        return ""

    def _with_all_changes(self, answer: dict[str, Any]) -> dict[str, Any]:
        self._changed = self._changed or bool(answer.get("changed"))
        diff = answer.get("diff")
        if self._before is None and isinstance(diff, Mapping):
            self._before = str(diff.get("before", ""))
        if self._before is not None and isinstance(diff, Mapping):
            diff = {**diff, "before": self._before}
        return {**answer, "changed": self._changed, **({"diff": diff} if diff else {})}


def _waiting(answer: Mapping[str, Any]) -> str:
    return str(answer.get("waiting") or "")


def _models(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {**UNTOLD, **{name: value for name, value in model.items() if value is not None}}
        for model in answer.get("models") or ()
    ]


def _current(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((model for model in _models(answer) if model["action"] and not model["done"]), None)


def _coming(answer: Mapping[str, Any]) -> str:
    model = _current(answer)
    return f"model {model['name']}" if model else "a model"


def _stalled(answer: Mapping[str, Any], idle_s: float) -> str:
    model = _current(answer) or {}
    said = str(model.get("status") or "nothing")[:MOST_CHARACTERS]
    return (
        f"{_coming(answer)}: nothing has come for {idle_s:g} s, and Ollama's last words were {said!r}: look at the registry, the "
        "network and the server's log, and run it again; what is here is kept"
    )


def _here(answer: Mapping[str, Any]) -> tuple[int, int]:
    """How many models are done, and how many bytes of the one that is coming are here: more means that it goes on."""
    model = _current(answer) or {}
    done = sum(1 for one in _models(answer) if one["action"] and one["done"])
    return done, int(model.get("completed_bytes") or model.get("layer_completed_bytes") or 0)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
