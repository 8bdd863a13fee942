# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that planning needs of the models on a host, from the store on disk or from the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import lru_cache, partial
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._json import json_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _store
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError, shown
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import read_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    InstalledModel,
    ModelError,
    UnplannableError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key, short_name

DISK, API = "disk", "api"
SOURCES = (DISK, API)
_MAX_NAMED = 5
_ID_CHARACTERS = 80

# No more models are planned for a host, and what is known of them travels to the control node: some 4 KB each, 6 KB of
# the largest that is published.
MAX_MODELS = 256
MAX_MODEL_BYTES = 64 * 1024
MAX_MODELS_BYTES = 2 * 1024 * 1024
# Models of other kinds and damaged ones do not take the place of those that can be planned; but their number is bounded.
_MAX_TRIED = 512
_MAX_DAMAGED = 20
# Tags of one file follow each other often; a header of many tensors takes some 10 MB.
_KEPT_HEADERS = 4


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
    sentences on models that cannot be read. unseen: sentences on models that are there and not told. problems: sentences
    on everything else. loaded: None when the server does not answer. ids: of the models that were asked for or read first,
    as the server lists them.
    """

    source: str
    sources: list[SourceReport]
    models: list[ModelShape] = field(default_factory=list)
    unplannable: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    version: str | None = None
    loaded: list[dict[str, Any]] | None = None
    ids: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Entry:
    """An installed model that has not been read yet. id: as the server lists it; empty of one on the disk."""

    name: str
    read: Callable[[], InstalledModel]
    id: str = ""


def gather(
    models_path: str,
    api: Api,
    source: str,
    names: Sequence[str],
    first: Sequence[str] = (),
    header_of: Callable[[str], dict[str, Any]] = read_header,
) -> Inventory:
    """The models of a host, from `source` ('disk', 'api', or 'auto': the disk where it can be read).

    `names` limits it to these models; empty means all. Of more models than are read, those of `first` are read before
    all others, then those that are loaded, then the others by name. `header_of`: reads the header of a file.
    Raises: InventoryError.
    """
    disk, disk_report, notes = _disk(models_path, header_of)
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
    if chosen == DISK:
        inventory.unseen += notes
    if api_report.ok:
        _ask_state(inventory, api)
    asked = {name_key(name) for name in (*names, *first)}
    inventory.ids = {entry.name: entry.id for entry in listed or () if entry.id and entry.name.lower() in asked}
    _read(inventory, entries, names, first)
    return inventory


def _disk(
    models_path: str, header_of: Callable[[str], dict[str, Any]]
) -> tuple[list[_Entry] | None, SourceReport, list[str]]:
    """The entries, whether it can be read, and what is not seen of it."""
    try:
        found = _store.look(models_path)
    except _store.StoreError as error:
        return None, SourceReport(DISK, False, str(error)), []
    header_of = lru_cache(maxsize=_KEPT_HEADERS)(header_of)
    entries = [
        _Entry(manifest.name, partial(_store.read_model, models_path, manifest, header_of))
        for manifest in sorted(found.models.values(), key=lambda manifest: manifest.name)
    ]
    return entries, SourceReport(DISK, True, f"{models_path} holds {_models(len(entries))}"), found.notes


def _listed(api: Api) -> tuple[list[_Entry] | None, SourceReport]:
    try:
        tags = api.tags()
    except ApiError as error:
        return None, SourceReport(API, False, str(error))
    entries = [
        _Entry(short_name(tag["name"]), partial(_told_by, api, tag), shown(tag.get("digest") or "", _ID_CHARACTERS))
        for tag in tags
    ]
    return entries, SourceReport(API, True, f"{api.url} lists {_models(len(entries))}")


def _told_by(api: Api, tag: Mapping[str, Any]) -> InstalledModel:
    """A model by what the API tells of it: on most hosts the disk is read, and that need not be loaded."""
    from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _api_models

    return _api_models.read_model(api, tag)


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


def _read(
    inventory: Inventory, entries: Sequence[_Entry], names: Sequence[str], first: Sequence[str]
) -> None:
    installed = {entry.name.lower() for entry in entries}
    inventory.missing += [name for name in names if short_name(name).lower() not in installed]
    asked = {short_name(name).lower() for name in names}
    wanted = [entry for entry in entries if not names or entry.name.lower() in asked]
    ranks = _ranks(first, [str(model["name"]) for model in inventory.loaded or ()])
    wanted.sort(key=lambda entry: ranks.get(entry.name.lower(), len(ranks)))
    total_bytes = damaged = tried = 0
    for entry in wanted:
        if len(inventory.models) == MAX_MODELS or tried == _MAX_TRIED or total_bytes > MAX_MODELS_BYTES:
            break
        tried += 1
        try:
            model = entry.read()
            shape = model.shape()
            total_bytes += _checked_bytes(shape)
        except UnplannableError as error:
            inventory.unplannable[entry.name] = str(error)
        except (ModelError, ApiError) as error:
            damaged += 1
            if damaged <= _MAX_DAMAGED:
                inventory.damaged.append(str(error))
                inventory.unplannable[entry.name] = str(error)
        else:
            inventory.models.append(shape)
            if model.note:
                inventory.problems.append(model.note)
    inventory.models.sort(key=lambda shape: shape.name)
    if damaged > _MAX_DAMAGED:
        inventory.damaged.append(f"{damaged - _MAX_DAMAGED} more models cannot be read")
    if tried < len(wanted):
        inventory.unseen.append(
            f"{len(wanted) - tried} of {len(wanted)} installed models are left out: at most {MAX_MODELS} are planned, those "
            "that are wanted or loaded before others, then by name; the plan does not count on the rest, so remove "
            "models or name those that are wanted"
        )


def _ranks(*lists: Sequence[str]) -> dict[str, int]:
    """The place of each name, in lower case and with its tag; of two the first."""
    ranks: dict[str, int] = {}
    for name in (name for names in lists for name in names):
        ranks.setdefault(short_name(name).lower(), len(ranks))
    return ranks


def _checked_bytes(shape: ModelShape) -> int:
    """How many bytes of facts a model is.

    Raises: ModelError where they are more than any model's.
    """
    size = json_bytes(shape.to_dict())
    if size > MAX_MODEL_BYTES:
        raise ModelError(
            f"model {shape.name}: its header tells of {shape.tensor_count} tensors in {size} bytes, at most "
            f"{MAX_MODEL_BYTES} are taken and no published model comes near them: remove it, or pull it again"
        )
    return size


def _ask_state(inventory: Inventory, api: Api) -> None:
    try:
        inventory.version = api.version()
        inventory.loaded = [_loaded(entry) for entry in api.loaded()]
    except ApiError as error:
        inventory.problems.append(str(error))


def _loaded(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One loaded model; Ollama's sizes are sums of what its runner logged, so lower bounds."""
    return {
        "name": short_name(entry["name"]),
        "size_bytes": entry["size"],
        "size_vram_bytes": entry["size_vram"],
        "context_length": entry["context_length"],
        "expires_at": entry["expires_at"],
    }
