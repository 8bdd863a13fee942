# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads models into a running service one after the other, and looks where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._numbers import whole_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._residence import (
    Files,
    Loaded,
    RunnerProcess,
    files_of,
    loaded_model,
    runner_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._service import server_api, server_url
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import unit_processes
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Run, UnitState, unit_state

# What a server answers without loading anything.
_ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class LoadedModels:
    """Whether a model had to be loaded, and what was seen of each afterwards."""

    changed: bool
    models: tuple[Loaded, ...]


def most_seconds(models: int, timeout_s: float) -> float:
    """How long `load_in_order` may take at most for so many models: before each, and after it, the server is asked."""
    return models * (timeout_s + 2 * _ANSWER_SECONDS) + 2 * _ANSWER_SECONDS


def load_in_order(
    run: Run,
    scope: str,
    unit: str,
    names: Sequence[str],
    keep_alive: str | None,
    timeout_s: float,
    check_mode: bool,
    together: bool = True,
) -> LoadedModels:
    """Loads the models in the order given and says what became of each; in check mode only looks.

    `together`: all are looked at when all have been loaded; otherwise each as soon as it is, because a later one
    may take its place.

    Raises: ApiError when the server does not answer.
    """
    state = unit_state(run, scope, unit)
    api = server_api(unit, state.main_pid, server_url(state), min(timeout_s, _ANSWER_SECONDS))
    before = api.loaded()
    errors: dict[str, str] = {}
    files: dict[str, Files | None] = {}
    request: dict[str, Any] = {} if keep_alive is None else {"keep_alive": _keep_alive(keep_alive)}
    models: list[Loaded] = []
    for name in names:
        try:
            show = api.show(name)
            files[name_key(name)] = files_of(show)
            if not check_mode:
                replace(api, timeout_s=timeout_s).load(name, embedding=_is_embedding(show), **request)
        except ApiError as error:
            errors[name] = str(error)
        if not together:
            models += _look(api, unit_state(run, scope, unit), [name], files, errors)
    if together:
        models = _look(api, unit_state(run, scope, unit), names, files, errors)
    had = _entries(api, names, before, files)
    return LoadedModels(any(entry is None for entry in had.values()), tuple(models))


def _look(
    api: Api,
    state: UnitState,
    names: Sequence[str],
    files: dict[str, Files | None],
    errors: Mapping[str, str],
) -> list[Loaded]:
    entries = _entries(api, names, api.loaded(), files)
    runners = {runner.blob: runner for runner in reversed(_runners(state))}
    found = []
    for name in names:
        own = files.get(name_key(name))
        runner = runners.get(own.model) if own else None
        found.append(loaded_model(name, entries[name], runner, errors.get(name)))
    return found


def _entries(
    api: Api, names: Sequence[str], loaded: Sequence[Mapping[str, Any]], files: dict[str, Files | None]
) -> dict[str, Mapping[str, Any] | None]:
    """What `/api/ps` lists of each model: of tags that share a runner it lists the first one that was loaded.

    `files` is added to, because it takes a request to learn the files of a model.

    Source: Ollama v0.33.0-rc2 server/sched.go (needsReload, useLoadedRunner).
    """
    by_name = {name_key(str(entry.get("name"))): entry for entry in loaded}
    found: dict[str, Mapping[str, Any] | None] = {}
    for name in names:
        own = files.get(name_key(name))
        found[name] = by_name.get(name_key(name))
        if found[name] is None and own is not None:
            siblings = (key for key in by_name if _files(api, key, files) == own)
            found[name] = next((by_name[key] for key in siblings), None)
    return found


def _files(api: Api, key: str, files: dict[str, Files | None]) -> Files | None:
    """The files of a loaded model; None where the server does not tell them."""
    if key not in files:
        try:
            files[key] = files_of(api.show(key))
        except ApiError:
            files[key] = None
    return files[key]


def _keep_alive(text: str) -> int | str:
    """Ollama's API takes whole seconds as a number and everything else as Go's notation in text."""
    number = whole_number(text[1:] if text.startswith("-") else text)
    return text if number is None else -number if text.startswith("-") else number


def _is_embedding(show: dict[str, Any]) -> bool:
    capabilities = show.get("capabilities")
    return isinstance(capabilities, list) and "embedding" in capabilities and "completion" not in capabilities


def _runners(state: UnitState) -> list[RunnerProcess]:
    found = (runner_of(process.pid, process.command) for process in unit_processes(state.main_pid))
    return [runner for runner in found if runner is not None]
