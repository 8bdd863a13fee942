# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done so that a host has the models that are asked for, and whether its disk has room for it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError, shown
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import (
    GgufError,
    read_header,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    InstalledModel,
    ModelError,
    UnplannableError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._location import locate
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._manifest import Layer
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import (
    is_name,
    name_key,
    name_parts,
    pin_of,
    short_name,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._proxies import Proxies, proxies_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._pulling import (
    Told,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._registry import (
    Registry,
    RegistryError,
    RegistryManifest,
    UnknownModelError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._room import freed_bytes, no_room
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._service import server_api
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._store import (
    StoreError,
    layers_by_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Run

PRESENT, ABSENT = "present", "absent"
PULL, CREATE, REMOVE = "pull", "create", "remove"
ANSWER_SECONDS = 60.0
# Why a model that could be pulled cannot be described for a plan.
UNDESCRIBED = (RegistryError, ModelError, UnplannableError)
# Ollama keeps the file that it is given until it has written one of its own from it.
_COPIES_OF_A_FILE = 2


class UpkeepError(Exception):
    """The models cannot be made those that are asked for; the message is one sentence that names the model or the disk."""


@dataclass(frozen=True)
class Wish:
    """What is asked for of one model. digest: what it is to be, of 12 to 64 hex digits; empty for whatever is there."""

    name: str
    state: str = PRESENT
    digest: str = ""
    file: str = ""
    insecure: bool = False


@dataclass
class ModelStep:
    """What is to be done for a wish: nothing, `pull`, `create` or `remove`. note: what is not known of it."""

    wish: Wish
    action: str = ""
    digest: str = ""
    size_bytes: int | None = None
    missing_bytes: int | None = None
    manifest: RegistryManifest | None = None
    note: str = ""
    is_done: bool = False
    told: Told = field(default_factory=Told)

    @property
    def name(self) -> str:
        return short_name(self.wish.name)


@dataclass
class Upkeep:
    """The server of a host, what it has installed and loaded, and where. layers: by model; empty where unreadable.

    proxies: what it goes to registries by.
    """

    api: Api
    models_path: str
    installed: dict[str, str]
    loaded: tuple[str, ...]
    layers: Mapping[str, Sequence[Layer]]
    proxies: Proxies = field(default_factory=Proxies)

    def digest_of(self, name: str) -> str:
        """Of an installed model; empty where it is not."""
        return self.installed.get(name_key(name), "")

    def free_bytes(self) -> int:
        """What the disk of the store has for others than root."""
        folder = self.models_path
        while not os.path.isdir(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        disk = os.statvfs(folder)
        return disk.f_bavail * disk.f_frsize


def upkeep_of(run: Run, scope: str, unit: str) -> Upkeep:
    """Raises: UpkeepError, ApiError."""
    location = locate(run, scope, unit)
    if not location.exists:
        raise UpkeepError(f"systemd knows no {unit} here: install Ollama first, or name its unit")
    api = server_api(unit, location.main_pid, location.api_url, ANSWER_SECONDS)
    try:
        return replace(upkeep_at(api, location.models_path), proxies=proxies_of(location.environment))
    except ApiError as error:
        if location.main_pid:
            raise
        raise UpkeepError(f"{unit} does not run, and models come through it: start it ({error})") from error


def upkeep_at(api: Api, models_path: str) -> Upkeep:
    """What a server has, and what lies in its store.

    Raises: UpkeepError, ApiError.
    """
    installed = {name_key(str(tag["name"])): shown(tag.get("digest") or "", 80) for tag in api.tags()}
    loaded = tuple(entry["name"] for entry in api.loaded())
    return Upkeep(api, models_path, installed, loaded, layers_of(models_path))


def layers_of(models_path: str) -> Mapping[str, Sequence[Layer]]:
    if not os.path.isdir(models_path):
        return {}
    try:
        return layers_by_model(models_path)
    except StoreError as error:
        raise UpkeepError(str(error)) from error


def steps_for(host: Upkeep, wishes: Sequence[Wish]) -> list[ModelStep]:
    """What has to be done; nothing is changed. A model that lacks is looked up where it is to come from.

    Raises: UpkeepError.
    """
    seen: dict[str, Wish] = {}
    for wish in wishes:
        if name_key(wish.name) in seen:
            raise UpkeepError(f"model {short_name(wish.name)} is asked for twice: name it once")
        seen[name_key(wish.name)] = wish
    return [_step(host, wish) for wish in wishes]


def _step(host: Upkeep, wish: Wish) -> ModelStep:
    if not is_name(*name_parts(wish.name)):
        raise UpkeepError(
            f"{shown(wish.name, 80)!r} is no model's name: write [HOST[:PORT]/][NAMESPACE/]MODEL[:TAG]"
        )
    pin = pinned(wish)
    step = ModelStep(wish, digest=host.digest_of(wish.name))
    if wish.state == ABSENT:
        if name_key(wish.name) not in host.installed:
            return step
        if name_key(wish.name) in map(name_key, host.loaded):
            raise UpkeepError(
                f"model {step.name} is not removed, because it is loaded: run 'ollama stop {step.name}' or wait until it is "
                "unloaded, and run it again"
            )
        return replace(step, action=REMOVE)
    if name_key(wish.name) in host.installed and (not pin or wish.file or step.digest.startswith(pin)):
        return step
    return _create(step) if wish.file else _pull(host, step, pin)


def pinned(wish: Wish) -> str:
    if not wish.digest:
        return ""
    pin = pin_of(wish.digest)
    if not pin:
        raise UpkeepError(
            f"model {short_name(wish.name)}: digest is {shown(wish.digest, 80)!r}, expected the 12 to 64 hex digits that "
            "'ollama list' or /api/tags shows as its ID"
        )
    return pin


def registry_of(host: Upkeep, step: ModelStep) -> Registry:
    return Registry(step.wish.name, step.wish.insecure, host.proxies)


def _pull(host: Upkeep, step: ModelStep, pin: str) -> ModelStep:
    """Raises: UpkeepError where the registry has no such model, or another one than the pin names."""
    step = replace(step, action=PULL)
    try:
        manifest = registry_of(host, step).manifest()
    except UnknownModelError as error:
        raise UpkeepError(f"model {step.name}: {error}") from error
    except RegistryError as error:
        return replace(step, note=f"its size is not known before it comes: {error}")
    if pin and not manifest.digest.startswith(pin):
        raise UpkeepError(
            f"model {step.name}: the registry has {manifest.digest[:12]} under this name, and digest pins {pin[:12]}: the tag "
            "was moved; pin what it has now, or name a tag that stays"
        )
    files = {layer.digest for layer in manifest.files}
    of_installed = {layer.digest for layer in own_layers(host, step.name)}
    # Ollama may have written the manifest in other words than the registry's, so that it lists another digest.
    if pin and of_installed == files:
        return replace(step, action="")
    return replace(
        step,
        manifest=manifest,
        digest=manifest.digest,
        size_bytes=manifest.size_bytes,
        missing_bytes=sum(_missing_bytes(host.models_path, layer) for layer in manifest.files),
    )


def own_layers(host: Upkeep, name: str) -> Sequence[Layer]:
    return next((own for other, own in host.layers.items() if name_key(other) == name_key(name)), ())


def _create(step: ModelStep) -> ModelStep:
    """Raises: UpkeepError where the file is no model that Ollama could take."""
    path = step.wish.file
    try:
        header = read_header(path)
    except GgufError as error:
        raise UpkeepError(f"model {step.name}: {error}") from error
    parts = header["metadata"].get("split.count", 1)
    if parts != 1:
        raise UpkeepError(
            f"model {step.name}: {path} is one of {parts} parts, which Ollama does not put together: join them with "
            "'llama-gguf-split --merge'"
        )
    size = int(header["file_bytes"])
    return replace(step, action=CREATE, size_bytes=size, missing_bytes=_COPIES_OF_A_FILE * size)


def is_here(models_path: str, layer: Layer) -> bool:
    try:
        return os.stat(layer.path(models_path)).st_size == layer.size_bytes
    except OSError:
        return False


def _missing_bytes(models_path: str, layer: Layer) -> int:
    """What of a file still takes room. One that is half here has its full length from the start, with holes."""
    if is_here(models_path, layer):
        return 0
    try:
        held = os.stat(f"{layer.path(models_path)}-partial").st_blocks * 512
    except OSError:
        held = 0
    return max(layer.size_bytes - held, 0)


def _needed_bytes(host: Upkeep, steps: Sequence[ModelStep]) -> int:
    """What is to come of all models together: a file that two of them have comes once."""
    coming = [step for step in steps if step.action and not step.is_done]
    files = {layer.digest: layer for step in coming if step.manifest for layer in step.manifest.files}
    made = sum(step.missing_bytes or 0 for step in coming if step.manifest is None)
    return made + sum(_missing_bytes(host.models_path, layer) for layer in files.values())


def room(host: Upkeep, steps: Sequence[ModelStep], keep: Collection[str], keep_free_bytes: int) -> tuple[int, str]:
    """What is to come, in bytes, and one sentence where the disk has no room for it, after what is to be removed."""
    needed = _needed_bytes(host, steps)
    going = [name for name in host.layers if name_key(name) in {name_key(s.name) for s in steps if s.action == REMOVE}]
    coming = {layer.digest for step in steps if step.manifest for layer in step.manifest.files}
    free = host.free_bytes() + freed_bytes(going, host.layers, coming)
    rest = {name: own for name, own in host.layers.items() if name not in going}
    stay = [*keep, *host.loaded, *(step.name for step in steps)]
    return needed, no_room(host.models_path, needed, free, keep_free_bytes, rest, stay, coming)


def described(host: Upkeep, step: ModelStep) -> dict[str, Any]:
    """The shape of a model that is not here yet, for a plan, from its header in the registry or in the file.

    Raises: RegistryError, ModelError, UnplannableError.
    """
    if step.action == PULL and step.manifest is not None:
        return registry_of(host, step).model(step.manifest).shape().to_dict()
    if step.action == CREATE:
        header = read_header(step.wish.file)
        family = str(header["metadata"].get("general.architecture", ""))
        return InstalledModel(step.name, "", family, "", header, 0, 0, 0, {}).shape().to_dict()
    raise RegistryError(step.note or "nothing is known of it")
