# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: loads models into a running service one after the other, and looks where they lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._numbers import whole_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._residence import (
    Loaded,
    Runner,
    blob_of,
    loaded_model,
    runner_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._service import server_api, server_url
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import unit_processes
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Run, UnitState, unit_state

# What a server answers without loading anything.
_ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Outcome:
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
) -> Outcome:
    """Loads the models in the order given and says what became of each; in check mode only looks.

    C(together): all are looked at when all have been loaded; otherwise each as soon as it is, because a later one
    may take its place.

    Raises:
        ApiError: The server does not answer.
    """
    state = unit_state(run, scope, unit)
    api = server_api(unit, state.main_pid, server_url(state), min(timeout_s, _ANSWER_SECONDS))
    loaded_before = {name_key(entry["name"]) for entry in api.loaded()}
    errors: dict[str, str] = {}
    blobs: dict[str, str | None] = {}
    request: dict[str, Any] = {} if keep_alive is None else {"keep_alive": _keep_alive(keep_alive)}
    models: list[Loaded] = []
    for name in names:
        try:
            show = api.show(name)
            blobs[name] = blob_of(show)
            if not check_mode:
                replace(api, timeout_s=timeout_s).load(name, embedding=_is_embedding(show), **request)
        except ApiError as error:
            errors[name] = str(error)
        if not together:
            models += _look(api, unit_state(run, scope, unit), [name], blobs, errors)
    if together:
        models = _look(api, unit_state(run, scope, unit), names, blobs, errors)
    wanted = {name_key(name) for name in names}
    return Outcome(not wanted <= loaded_before, tuple(models))


def _look(
    api: Api,
    state: UnitState,
    names: Sequence[str],
    blobs: Mapping[str, str | None],
    errors: Mapping[str, str],
) -> list[Loaded]:
    entries = {name_key(entry["name"]): entry for entry in api.loaded()}
    runners = {runner.blob: runner for runner in reversed(_runners(state))}
    return [
        loaded_model(
            name,
            entries.get(name_key(name)),
            runners.get(blobs[name]) if blobs.get(name) else None,
            errors.get(name),
        )
        for name in names
    ]


def _keep_alive(text: str) -> int | str:
    """Ollama's API takes whole seconds as a number and everything else as Go's notation in text."""
    number = whole_number(text[1:] if text.startswith("-") else text)
    return text if number is None else -number if text.startswith("-") else number


def _is_embedding(show: dict[str, Any]) -> bool:
    capabilities = show.get("capabilities")
    return isinstance(capabilities, list) and "embedding" in capabilities and "completion" not in capabilities


def _runners(state: UnitState) -> list[Runner]:
    found = (runner_of(process.pid, process.command) for process in unit_processes(state.main_pid))
    return [runner for runner in found if runner is not None]
