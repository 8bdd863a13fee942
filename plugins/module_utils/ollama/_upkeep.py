# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the models of a host those that are asked for, through its own Ollama: what lacks, whether it fits, a slice of it."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib_or_mib
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._files import open_regular
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError, shown
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import (
    GgufError,
    read_header,
    read_header_from,
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
    short_name,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._pulling import (
    CHECK_SECONDS,
    MakingError,
    Told,
    pull,
    stream,
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
# A file is copied to the server, and read before for its digest, at no less than this rate.
LEAST_BYTES_PER_SECOND = 20_000_000
# Why a model that could be pulled cannot be described for a plan.
UNDESCRIBED = (RegistryError, ModelError, UnplannableError)
_PIN = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")
_BLOCK_BYTES = 1 << 20
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
    """The server of a host, what it has installed and loaded, and where. layers: by model; empty where unreadable."""

    api: Api
    models_path: str
    installed: dict[str, str]
    loaded: tuple[str, ...]
    layers: Mapping[str, Sequence[Layer]]

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
        return upkeep_at(api, location.models_path)
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
    return Upkeep(api, models_path, installed, loaded, _layers(models_path))


def _layers(models_path: str) -> Mapping[str, Sequence[Layer]]:
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
    pin = _pin(wish)
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


def _pin(wish: Wish) -> str:
    if not wish.digest:
        return ""
    found = _PIN.fullmatch(wish.digest.strip().lower())
    if found is None:
        raise UpkeepError(
            f"model {short_name(wish.name)}: digest is {shown(wish.digest, 80)!r}, expected the 12 to 64 hex digits that "
            "'ollama list' or /api/tags shows as its ID"
        )
    return found[1]


def _pull(host: Upkeep, step: ModelStep, pin: str) -> ModelStep:
    """Raises: UpkeepError where the registry has no such model, or another one than the pin names."""
    step = replace(step, action=PULL)
    try:
        manifest = Registry(step.wish.name, step.wish.insecure).manifest()
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
    of_installed = {layer.digest for layer in _own(host, step.name)}
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


def _own(host: Upkeep, name: str) -> Sequence[Layer]:
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


def _is_here(models_path: str, layer: Layer) -> bool:
    try:
        return os.stat(layer.path(models_path)).st_size == layer.size_bytes
    except OSError:
        return False


def _missing_bytes(models_path: str, layer: Layer) -> int:
    """What of a file still takes room. One that is half here has its full length from the start, with holes."""
    if _is_here(models_path, layer):
        return 0
    try:
        held = os.stat(f"{layer.path(models_path)}-partial").st_blocks * 512
    except OSError:
        held = 0
    return max(layer.size_bytes - held, 0)


def room(host: Upkeep, steps: Sequence[ModelStep], keep: Collection[str], keep_free_bytes: int) -> tuple[int, str]:
    """What is to come, in bytes, and one sentence where the disk has no room for it, after what is to be removed."""
    needed = sum(step.missing_bytes or 0 for step in steps if not step.is_done)
    going = [name for name in host.layers if name_key(name) in {name_key(s.name) for s in steps if s.action == REMOVE}]
    coming = {layer.digest for step in steps if step.manifest for layer in step.manifest.files}
    free = host.free_bytes() + freed_bytes(going, host.layers, coming)
    rest = {name: own for name, own in host.layers.items() if name not in going}
    stay = [*keep, *host.loaded, *(step.name for step in steps)]
    return needed, no_room(host.models_path, needed, free, keep_free_bytes, rest, stay, coming)


def described(step: ModelStep) -> dict[str, Any]:
    """The shape of a model that is not here yet, for a plan, from its header in the registry or in the file.

    Raises: RegistryError, ModelError, UnplannableError.
    """
    if step.action == PULL and step.manifest is not None:
        registry = Registry(step.wish.name, step.wish.insecure)
        return registry.model(step.manifest).shape().to_dict()
    if step.action == CREATE:
        header = read_header(step.wish.file)
        family = str(header["metadata"].get("general.architecture", ""))
        return InstalledModel(step.name, "", family, "", header, 0, 0, 0, {}).shape().to_dict()
    raise RegistryError(step.note or "nothing is known of it")


def carry_out(host: Upkeep, steps: Sequence[ModelStep], seconds: float) -> tuple[bool, str]:
    """Does what is to be done, for so many seconds: whether anything was changed, and what it waits for that may mend.

    Each step says afterwards whether it is done, and what the server told of it.
    Raises: UpkeepError; ApiError.
    """
    deadline = time.monotonic() + seconds
    changed = False
    for step in steps:
        if step.action == REMOVE:
            host.api.delete(step.wish.name)
            step.is_done = changed = True
    for step in steps:
        if step.action in ("", REMOVE):
            step.is_done = True
            continue
        try:
            if step.action == CREATE:
                _make(host, step)
            elif deadline - time.monotonic() > 0:
                _bring(host, step, deadline - time.monotonic())
        except MakingError as error:
            if error.may_mend:
                return changed, f"model {step.name}: {error}"
            raise UpkeepError(f"model {step.name}: {error}") from error
        except ApiError as error:
            return changed, f"model {step.name}: {error}"
        changed = changed or step.is_done or bool(step.told.totals)
        if not step.is_done:
            break
    return changed, ""


def _bring(host: Upkeep, step: ModelStep, seconds: float) -> None:
    """A slice of a pull. Ollama never checks a file that was whole before it was asked; those are checked here.

    Source: ollama v0.33.0-rc2, server/images.go (PullModel, skipVerify).
    Raises: MakingError, ApiError, UpkeepError.
    """
    files = step.manifest.files if step.manifest else ()
    known = {layer.digest for own in host.layers.values() for layer in own}
    unchecked = [layer for layer in files if layer.digest not in known and _is_here(host.models_path, layer)]

    def keep(told: Told) -> None:
        step.told = told

    step.told = pull(host.api, step.wish.name, step.wish.insecure, seconds, keep)
    if not step.told.is_done:
        return
    for layer in unchecked:
        _check(host, step, layer)
    now = next((str(tag.get("digest")) for tag in host.api.tags() if name_key(str(tag["name"])) == name_key(step.name)), "")
    pin = _pin(step.wish)
    came = {layer.digest for layer in _own(replace(host, layers=_layers(host.models_path)), step.name)}
    if pin and not now.startswith(pin) and came != {layer.digest for layer in files}:
        raise UpkeepError(
            f"model {step.name}: what came is {now[:12]}, and digest pins {pin[:12]}: the tag was moved meanwhile; pin what "
            "it has now, or name a tag that stays"
        )
    step.digest, step.is_done = now, True


def _check(host: Upkeep, step: ModelStep, layer: Layer) -> None:
    path = layer.path(host.models_path)
    try:
        with open_regular(path, follow_link=True) as file:
            digest = _sha256(file, layer.size_bytes)
    except OSError as error:
        raise UpkeepError(f"model {step.name}: {path} cannot be read: {error.strerror or error}") from error
    if f"sha256-{digest}" != layer.digest:
        host.api.delete(step.wish.name)
        raise UpkeepError(
            f"model {step.name}: {path} is another file than its name says, left by a pull that was cut short; the model was "
            "removed again: run it again, or repair the registry"
        )


def _make(host: Upkeep, step: ModelStep) -> None:
    """A model out of a file. Raises: MakingError, ApiError, UpkeepError."""
    path, size = step.wish.file, step.size_bytes or 0
    try:
        with open_regular(path, follow_link=True) as file:
            _refuse_another(step, file)
            digest = _sha256(file, size)
            pin = _pin(step.wish)
            if pin and not digest.startswith(pin):
                raise UpkeepError(
                    f"model {step.name}: {path} has the digest {digest[:12]}, and {pin[:12]} is pinned: it is another file"
                )
            name = f"sha256:{digest}"
            if not host.api.has_blob(name):
                file.seek(0)
                replace(host.api, timeout_s=seconds_for(size)).put_blob(name, file, size)
    except ApiError:
        raise
    except OSError as error:
        raise UpkeepError(f"model {step.name}: {path} cannot be read: {error.strerror or error}") from error
    body = {"model": step.wish.name, "files": {"model.gguf": name}}
    step.told = stream(host.api, "/api/create", body, CHECK_SECONDS)
    if not step.told.is_done:
        raise UpkeepError(f"model {step.name}: Ollama has not made it of {path} within {CHECK_SECONDS:g} s")
    step.is_done = True


def _refuse_another(step: ModelStep, file: BinaryIO) -> None:
    """What is handed to the server, whose user reads it, is a model: a link may have been turned to another file since.

    Raises: UpkeepError.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        read_header_from(file, step.wish.file, size)
    except GgufError as error:
        raise UpkeepError(f"model {step.name}: {error}") from error
    if size != step.size_bytes:
        raise UpkeepError(f"model {step.name}: {step.wish.file} was changed while it was read: run it again")
    file.seek(0)


def seconds_for(size_bytes: int) -> float:
    """How long reading or copying a file may take at most."""
    return ANSWER_SECONDS + size_bytes / LEAST_BYTES_PER_SECOND


def _sha256(file: BinaryIO, size_bytes: int) -> str:
    """The digest of an open file. Raises: UpkeepError where reading takes longer than any disk does."""
    deadline = time.monotonic() + seconds_for(size_bytes)
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(_BLOCK_BYTES), b""):
        digest.update(block)
        if time.monotonic() > deadline:
            raise UpkeepError(
                f"{file.name} ({gib_or_mib(size_bytes)}) cannot be read at {LEAST_BYTES_PER_SECOND // 10**6} MB/s: look at "
                "the disk"
            )
    return digest.hexdigest()


def completed_bytes(host: Upkeep, step: ModelStep) -> int | None:
    """What of a model is here, in bytes; None where its files are not known."""
    if step.manifest is None:
        return None
    told = {digest.replace(":", "-", 1): done for digest, done in step.told.completed.items()}
    return sum(
        layer.size_bytes if _is_here(host.models_path, layer) else min(told.get(layer.digest, 0), layer.size_bytes)
        for layer in step.manifest.files
    )
