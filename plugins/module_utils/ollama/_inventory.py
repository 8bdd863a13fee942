# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that planning needs of the models on a host, from the store on disk or from the API."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _api_models, _store
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    InstalledModel,
    ModelError,
    UnplannableError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import same_model, short_name
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._shape import ModelShape

DISK, API = "disk", "api"
SOURCES = (DISK, API)
_MAX_NAMED = 5


class InventoryError(Exception):
    """No source can tell which models are installed; the message says what each of them answered."""


@dataclass(frozen=True)
class SourceReport:
    """What one source answered: whether it can tell the models, and a sentence."""

    name: str
    ok: bool
    message: str


@dataclass
class Inventory:
    """The models of a host.

    unplannable: reason by name, damaged models among them. missing: names asked for that are not installed. damaged:
    sentences on models that cannot be read. problems: sentences on everything else. loaded: None when the server does not answer.
    """

    source: str
    sources: list[SourceReport]
    models: list[ModelShape] = field(default_factory=list)
    unplannable: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    version: str | None = None
    loaded: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class _Entry:
    """An installed model that has not been read yet."""

    name: str
    read: Callable[[], InstalledModel]


def gather(models_path: str, api: Api, source: str, names: Sequence[str]) -> Inventory:
    """The models of a host, from `source` ('disk', 'api', or 'auto': the disk where it can be read).

    `names` limits it to these models; empty means all.
    Raises: InventoryError.
    """
    disk, disk_report = _disk(models_path)
    listed, api_report = _listed(api)
    reports = [disk_report, api_report]
    chosen = source if source in SOURCES else (DISK if disk is not None else API)
    entries = disk if chosen == DISK else listed
    if entries is None:
        wanted = [report for report in reports if source in (report.name, "auto")]
        raise InventoryError("; ".join(report.message for report in wanted))
    inventory = Inventory(chosen, reports)
    if disk is not None and listed is not None:
        inventory.problems += _contradictions(models_path, api.url, disk, listed)
    _read(inventory, entries, names)
    if api_report.ok:
        _ask_state(inventory, api)
    return inventory


def _disk(models_path: str) -> tuple[list[_Entry] | None, SourceReport]:
    try:
        manifests = _store.installed(models_path)
    except _store.StoreError as error:
        return None, SourceReport(DISK, False, str(error))
    entries = [
        _Entry(manifest.name, partial(_store.read_model, models_path, manifest)) for manifest in manifests
    ]
    return entries, SourceReport(DISK, True, f"{models_path} holds {_models(len(entries))}")


def _listed(api: Api) -> tuple[list[_Entry] | None, SourceReport]:
    try:
        tags = api.tags()
    except ApiError as error:
        return None, SourceReport(API, False, str(error))
    entries = [
        _Entry(short_name(name), partial(_api_models.read_model, api, tag))
        for tag in tags
        for name in [tag.get("name")]
        if isinstance(name, str)
    ]
    return entries, SourceReport(API, True, f"{api.url} lists {_models(len(entries))}")


def _models(count: int) -> str:
    return "1 model" if count == 1 else f"{count} models"


def _contradictions(
    models_path: str, url: str, disk: Sequence[_Entry], listed: Sequence[_Entry]
) -> list[str]:
    """Whether the server uses another store than the one that was read."""
    on_disk = {entry.name.lower() for entry in disk}
    elsewhere = [entry.name for entry in listed if entry.name.lower() not in on_disk]
    if not elsewhere:
        return []
    named = ", ".join(elsewhere[:_MAX_NAMED]) + (", ..." if len(elsewhere) > _MAX_NAMED else "")
    return [
        f"the server at {url} lists models that are not in {models_path} ({named}): "
        "it may use another store; set models_path or api_url"
    ]


def _read(inventory: Inventory, entries: Sequence[_Entry], names: Sequence[str]) -> None:
    wanted = [entry for entry in entries if not names or any(same_model(entry.name, name) for name in names)]
    inventory.missing += [
        name for name in names if not any(same_model(entry.name, name) for entry in entries)
    ]
    for entry in wanted:
        try:
            model = entry.read()
            inventory.models.append(model.shape())
        except UnplannableError as error:
            inventory.unplannable[entry.name] = str(error)
        except (ModelError, ApiError) as error:
            inventory.damaged.append(str(error))
            inventory.unplannable[entry.name] = str(error)
        else:
            if model.note:
                inventory.problems.append(model.note)


def _ask_state(inventory: Inventory, api: Api) -> None:
    try:
        inventory.version = api.version()
        inventory.loaded = [_loaded(entry) for entry in api.loaded()]
    except ApiError as error:
        inventory.problems.append(str(error))


def _loaded(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One loaded model; Ollama's sizes are sums of what its runner logged, so lower bounds."""
    return {
        "name": short_name(str(entry.get("name"))),
        "size_bytes": entry.get("size"),
        "size_vram_bytes": entry.get("size_vram"),
        "context_length": entry.get("context_length"),
        "expires_at": entry.get("expires_at"),
    }
