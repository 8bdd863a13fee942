# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a slice of what is to be done for the models of a host, through its own Ollama: pulls, makes, checks, removes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib_or_mib
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._files import open_regular
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import MARGIN_SECONDS
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import GgufError, read_header_from
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._manifest import Layer
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._pulling import (
    CHECK_SECONDS,
    MakingError,
    Told,
    pull,
    stream,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._upkeep import (
    ANSWER_SECONDS,
    CREATE,
    REMOVE,
    ModelStep,
    Upkeep,
    UpkeepError,
    is_here,
    layers_of,
    own_layers,
    pinned,
)

# A file is copied to the server, and read before for its digest, at no less than this rate.
LEAST_BYTES_PER_SECOND = 20_000_000
_BLOCK_BYTES = 1 << 20


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
    unchecked = [layer for layer in files if layer.digest not in known and is_here(host.models_path, layer)]

    def keep(told: Told) -> None:
        step.told = told

    step.told = pull(host.api, step.wish.name, step.wish.insecure, seconds, keep)
    if not step.told.is_done:
        return
    for layer in unchecked:
        _check(host, step, layer)
    now = next((str(tag.get("digest")) for tag in host.api.tags() if name_key(str(tag["name"])) == name_key(step.name)), "")
    pin = pinned(step.wish)
    came = {layer.digest for layer in own_layers(replace(host, layers=layers_of(host.models_path)), step.name)}
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
            pin = pinned(step.wish)
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
        layer.size_bytes if is_here(host.models_path, layer) else min(told.get(layer.digest, 0), layer.size_bytes)
        for layer in step.manifest.files
    )


def limit_seconds(steps: Sequence[ModelStep], slice_seconds: float) -> float:
    """How long a slice may take at most: a pull's last check, and all files that are read and copied, go beyond it."""
    files = sum(step.size_bytes or 0 for step in steps if step.action == CREATE)
    return slice_seconds + 2 * CHECK_SECONDS + 2 * seconds_for(files) + MARGIN_SECONDS
