# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether loaded models lie where a plan says, with the context and slots it says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._numbers import whole_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._fields import is_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key

GPU = "gpu"
LAYER = "model"
_CONTEXT_OPTIONS = ("-c", "--ctx-size")
_PARALLEL_OPTIONS = ("-np", "--parallel")
_BLOB = re.compile(r"sha256-[0-9a-f]{64}")
_FILE_COMMANDS = ("FROM", "ADAPTER", "DRAFT")


@dataclass(frozen=True)
class RunnerProcess:
    """An Ollama runner as its command line tells: model blob, slots, context of all slots together in tokens.

    None: the command line does not say (engines before llama-server take some of it another way).
    """

    pid: int
    blob: str | None
    total_context: int | None
    parallel: int | None


@dataclass(frozen=True)
class Planned:
    """What a plan says of a model: context length per slot in tokens, slots, place; None: anything."""

    name: str
    context_length: int | None = None
    parallel: int | None = None
    placement: str = GPU


@dataclass(frozen=True)
class Loaded:
    """What was seen of a model after loading; sizes in bytes as `/api/ps` gives them, lower bounds."""

    name: str
    loaded: bool
    context_length: int | None = None
    parallel: int | None = None
    total_context: int | None = None
    size_bytes: int | None = None
    size_vram_bytes: int | None = None
    pid: int | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "loaded": self.loaded,
            "context_length": self.context_length,
            "num_parallel": self.parallel,
            "size_bytes": self.size_bytes,
            "size_vram_bytes": self.size_vram_bytes,
            "pid": self.pid,
            "error": self.error,
        }


def runner_of(pid: int, command: Sequence[str]) -> RunnerProcess | None:
    """The runner that a process is; None when its command line is not one's."""
    model = _option(command, ("--model", "-m"))
    if model is None:
        return None
    blob = _BLOB.search(model)
    return RunnerProcess(
        pid,
        blob.group() if blob else None,
        _number(_option(command, _CONTEXT_OPTIONS)),
        _number(_option(command, _PARALLEL_OPTIONS)),
    )


def _option(command: Sequence[str], names: Sequence[str]) -> str | None:
    for position, argument in enumerate(command):
        if argument in names and position + 1 < len(command):
            return command[position + 1]
        name, separator, value = argument.partition("=")
        if separator and name in names:
            return value
    return None


def _number(text: str | None) -> int | None:
    return whole_number(text)


@dataclass(frozen=True)
class Files:
    """The blobs of a model: its weights, and what is loaded beside them. Tags with the same ones share a runner."""

    model: str
    beside: tuple[tuple[str, str], ...] = ()


def files_of(show: Mapping[str, Any]) -> Files | None:
    """The blobs of a model, out of what `/api/show` answers: its first FROM names the weights."""
    found: list[tuple[str, str]] = []
    for line in str(show.get("modelfile", "")).splitlines():
        command, _space, path = line.partition(" ")
        match = _BLOB.search(path) if command.upper() in _FILE_COMMANDS else None
        if match:
            found.append((command.upper(), match.group()))
        elif line and not line.startswith("#"):
            break  # files come first; what follows are texts of the model's author
    return Files(found[0][1], tuple(sorted(found[1:]))) if found else None


def loaded_model(
    name: str, entry: Mapping[str, Any] | None, runner: RunnerProcess | None, error: str | None
) -> Loaded:
    """What was seen of a model: its entry of `/api/ps` (None: not there), its runner, the error on loading."""
    if entry is None:
        return Loaded(name, False, error=error)
    return Loaded(
        name=name,
        loaded=True,
        context_length=_int(entry.get("context_length")),
        parallel=runner.parallel if runner else None,
        total_context=runner.total_context if runner else None,
        size_bytes=_int(entry.get("size")),
        size_vram_bytes=_int(entry.get("size_vram")) or 0,
        pid=runner.pid if runner else None,
        error=error,
    )


def _int(value: Any) -> int | None:
    return value if is_number(value) else None


def differences(planned: Sequence[Planned], loaded: Sequence[Loaded]) -> list[dict[str, Any]]:
    """Every way in which the models are not as planned, in the form of the other layers."""
    seen = {name_key(model.name): model for model in loaded}
    found: list[dict[str, Any]] = []
    for plan in planned:
        found.extend(_model_differences(plan, seen[name_key(plan.name)]))
    return found


def _model_differences(plan: Planned, model: Loaded) -> list[dict[str, Any]]:
    if not model.loaded:
        why = model.error or "it was loaded and then evicted for another one"
        return [_difference(plan.name, "not loaded", "loaded", f"{plan.name} is not loaded: {why}")]
    found = []
    if plan.context_length and model.context_length and model.context_length != plan.context_length:
        found.append(_unequal(plan.name, "context length", model.context_length, plan.context_length))
    if plan.parallel and model.parallel and model.parallel != plan.parallel:
        found.append(_unequal(plan.name, "number of slots", model.parallel, plan.parallel))
    wanted_total = (plan.context_length or 0) * (plan.parallel or 0)
    if not found and wanted_total and model.total_context and model.total_context != wanted_total:
        found.append(_unequal(plan.name, "context of all slots", model.total_context, wanted_total))
    if plan.placement == GPU and model.size_bytes and (model.size_vram_bytes or 0) < model.size_bytes:
        on_cpu = model.size_bytes - (model.size_vram_bytes or 0)
        message = f"{plan.name} lies partly on the CPU: {on_cpu // MIB} of {model.size_bytes // MIB} MiB"
        found.append(_difference(plan.name, f"{on_cpu // MIB} MiB on the CPU", "all in GPU memory", message))
    return found


def _unequal(name: str, what: str, found: int, wanted: int) -> dict[str, Any]:
    return _difference(name, str(found), str(wanted), f"{name} runs with {what} {found}, planned {wanted}")


def _difference(name: str, found: str, wanted: str, message: str) -> dict[str, Any]:
    return {"layer": LAYER, "variable": name, "found": found, "wanted": wanted, "message": message}
