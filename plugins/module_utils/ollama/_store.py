# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads installed models from Ollama's store on disk: manifests, configuration, parameters, GGUF headers.

Source: ollama v0.33.0-rc2, manifest/manifest.go, manifest/paths.go, server/images.go.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._files import open_regular
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import (
    GgufError,
    read_header,
    read_parts,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    SIDE_FILES,
    InstalledModel,
    ModelError,
    UnplannableError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import DEFAULT_HOST, short_name

# The newer one wins where both name a model, and calls the default host by another name.
# Source: Ollama, manifest/paths.go of the branch that brings it; no release up to v0.33.0-rc2 has it.
_NEWER_FOLDER = "manifests-v2"
_NEWER_DEFAULT_HOST = "ollama.com"
MANIFEST_FOLDERS = (_NEWER_FOLDER, "manifests")
MANIFEST_DEPTH = 4

# Manifests of safetensors models list every tensor; none comes near these.
MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_MANIFESTS = 10000
MAX_LAYERS = 100000

_LIST_MEDIA_TYPE = "application/vnd.ollama.manifest.list.v2+json"
_LAYER_PREFIX = "application/vnd.ollama.image."
# The order in which Ollama on Linux chooses from a manifest list; MLX comes last and is not planned.
_RUNNERS = ("ollama", "llamacpp")
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


class StoreError(OSError):
    """The store as a whole cannot be read; the message names the folder and what to do."""


@dataclass(frozen=True)
class ManifestFile:
    """Where the manifest of one installed model lies."""

    name: str
    path: str


def installed(models_path: str) -> list[ManifestFile]:
    """The manifests of all installed models, sorted by name; a store without models has none.

    Raises: StoreError.
    """
    try:
        os.listdir(models_path)
        found: dict[str, ManifestFile] = {}
        for folder in MANIFEST_FOLDERS:
            for parts, path in _files(os.path.join(models_path, folder), MANIFEST_DEPTH):
                host, namespace, model, tag = parts
                if folder == _NEWER_FOLDER and host == _NEWER_DEFAULT_HOST:
                    host = DEFAULT_HOST
                name = short_name(f"{host}/{namespace}/{model}:{tag}")
                found.setdefault(name.lower(), ManifestFile(name, path))
                if len(found) > MAX_MANIFESTS:
                    raise StoreError(f"{models_path} holds more than {MAX_MANIFESTS} models")
    except PermissionError as error:
        raise StoreError(f"{error.filename} cannot be read: run the task as root (become: true)") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{models_path} is no model store: {error.strerror}; set models_path") from error
    return sorted(found.values(), key=lambda manifest: manifest.name)


def read_model(models_path: str, manifest_file: ManifestFile) -> InstalledModel:
    """One installed model with its GGUF header.

    Raises: ModelError, UnplannableError.
    """
    name = manifest_file.name
    manifest = _selected(models_path, manifest_file.path)
    layers = _layers(manifest, manifest_file.path)
    config = _config(models_path, manifest, manifest_file.path)
    _refuse_unplannable(config, layers)
    models = [layer for layer in layers if layer.kind == "model"]
    if not models:
        raise ModelError(f"{manifest_file.path} names no model layer: pull {name} again")
    for layer in layers:
        layer.check(models_path, name)
    try:
        paths = [layer.path(models_path) for layer in models]
        header = read_header(paths[0]) if len(paths) == 1 else read_parts(paths)
        projectors = [read_header(layer.path(models_path)) for layer in layers if layer.kind == "projector"]
    except GgufError as error:
        raise ModelError(f"model {name}: {error}") from error
    return InstalledModel(
        name=name,
        digest=models[-1].digest,
        family=_text(config, "model_family"),
        quantization=_text(config, "file_type"),
        header=header,
        projector_bytes=_size(layers, "projector"),
        adapter_bytes=_size(layers, "adapter"),
        draft_bytes=_size(layers, "draft"),
        parameters=_parameters(models_path, layers),
        projector_metadata=projectors[0]["metadata"] if projectors else {},
        side_files=tuple(layer.digest for kind in SIDE_FILES for layer in layers if layer.kind == kind),
    )


@dataclass(frozen=True)
class _Layer:
    """One layer of a manifest; the digest is also its file's name."""

    kind: str
    digest: str
    size_bytes: int

    def path(self, models_path: str) -> str:
        return os.path.join(models_path, "blobs", self.digest)

    def check(self, models_path: str, name: str) -> None:
        path = self.path(models_path)
        try:
            size_bytes = os.stat(path).st_size
        except OSError as error:
            raise ModelError(f"model {name}: {path} cannot be read: {error.strerror}") from error
        if size_bytes != self.size_bytes:
            raise ModelError(
                f"model {name}: {path} has {size_bytes} bytes, its manifest says {self.size_bytes}: "
                f"pull {name} again"
            )


def _files(folder: str, depth: int, parents: Sequence[str] = ()) -> Iterator[tuple[list[str], str]]:
    """Files exactly `depth` levels below a folder; one that is not there has none."""
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        path = os.path.join(folder, name)
        if depth > 1:
            yield from _files(path, depth - 1, [*parents, name])
        elif not name.startswith(".") and not os.path.isdir(path):
            yield [*parents, name], path


def _selected(models_path: str, path: str) -> Mapping[str, Any]:
    """The manifest at `path`, or of a list of manifests the one that Ollama runs on Linux."""
    manifest = _read_json(path)
    if manifest.get("mediaType") != _LIST_MEDIA_TYPE:
        return manifest
    children = manifest.get("manifests")
    for runner in _RUNNERS:
        for child in children if isinstance(children, list) else []:
            if isinstance(child, dict) and str(child.get("runner", "")).lower() == runner:
                return _read_json(_blob_path(models_path, child, path)) if "digest" in child else child
    raise UnplannableError(
        "it has no variant for llama.cpp, and the memory of other engines is not predicted"
    )


def _layers(manifest: Mapping[str, Any], path: str) -> list[_Layer]:
    # Ollama writes the manifest of a model that runs in its cloud with `"layers":null`.
    entries = [] if manifest.get("layers") is None else manifest["layers"]
    if not isinstance(entries, list) or len(entries) > MAX_LAYERS:
        raise ModelError(f"{path} is no manifest: layers is {_shown(entries)}, expected a list")
    return [_layer(entry, path) for entry in entries]


def _layer(entry: Any, path: str) -> _Layer:
    if not isinstance(entry, dict):
        raise ModelError(f"{path} is no manifest: a layer is {_shown(entry)}, expected a mapping")
    size_bytes = entry.get("size")
    if not isinstance(size_bytes, int) or isinstance(size_bytes, bool) or size_bytes < 0:
        raise ModelError(f"{path} is no manifest: the size of a layer is {_shown(size_bytes)}")
    media_type = str(entry.get("mediaType", ""))
    kind = media_type[len(_LAYER_PREFIX) :] if media_type.startswith(_LAYER_PREFIX) else media_type
    return _Layer(kind, _blob_name(entry, path), size_bytes)


def _blob_name(entry: Mapping[str, Any], path: str) -> str:
    match = _DIGEST.fullmatch(str(entry.get("digest")))
    if match is None:
        raise ModelError(f"{path} is no manifest: {_shown(entry.get('digest'))} is no sha256 digest")
    return f"sha256-{match[1].lower()}"


def _blob_path(models_path: str, entry: Mapping[str, Any], path: str) -> str:
    return os.path.join(models_path, "blobs", _blob_name(entry, path))


def _config(models_path: str, manifest: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    entry = manifest.get("config")
    if not isinstance(entry, dict):
        raise ModelError(f"{path} is no manifest: config is {_shown(entry)}, expected a mapping")
    return _read_json(_blob_path(models_path, entry, path))


def _refuse_unplannable(config: Mapping[str, Any], layers: Sequence[_Layer]) -> None:
    if config.get("remote_host"):
        raise UnplannableError(f"it runs at {_text(config, 'remote_host')} and takes no memory here")
    if config.get("model_format") == "safetensors" or any(layer.kind == "tensor" for layer in layers):
        raise UnplannableError("it is a safetensors model, which runs on MLX; its memory is not predicted")


def _size(layers: Sequence[_Layer], kind: str) -> int:
    return sum(layer.size_bytes for layer in layers if layer.kind == kind)


def _parameters(models_path: str, layers: Sequence[_Layer]) -> Mapping[str, Any]:
    parameters: dict[str, Any] = {}
    for layer in layers:
        if layer.kind == "params":
            parameters.update(_read_json(layer.path(models_path)))
    return parameters


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    return value if isinstance(value, str) else ""


def _read_json(path: str) -> dict[str, Any]:
    """A JSON mapping from a file.

    Raises: ModelError.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_JSON_BYTES:
        raise ModelError(f"{path} is longer than {MAX_JSON_BYTES} bytes, which no manifest needs")
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ModelError(f"{path} is nested too deep to be a manifest") from error
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds {_shown(value)}, expected a mapping")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
