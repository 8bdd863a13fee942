# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads installed models from Ollama's store on disk: manifests, configuration, parameters, GGUF headers.

Source: ollama v0.33.0-rc2, manifest/manifest.go, manifest/paths.go, server/images.go.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, BinaryIO

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._files import (
    open_below,
    open_folder,
    open_regular,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._json import TooManyItems, read_json
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import read_header, read_parts
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    InstalledModel,
    ModelError,
    UnplannableError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._manifest import (
    Layer,
    blob_name,
    kind_of,
    layer_of,
    layers_of,
    model_of,
    refuse_unplannable,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import (
    DEFAULT_HOST,
    is_name,
    short_name,
)

# The newer one wins where both name a model, and calls the default host by another name.
# Source: Ollama, manifest/paths.go of the branch that brings it; no release up to v0.33.0-rc2 has it.
_NEWER_FOLDER = "manifests-v2"
_NEWER_DEFAULT_HOST = "ollama.com"
MANIFEST_FOLDERS = (_NEWER_FOLDER, "manifests")
MANIFEST_DEPTH = 4

# Manifests of safetensors models list every tensor, some 200 bytes each; none comes near these.
MAX_JSON_BYTES = 4 * 1024 * 1024
MAX_MANIFESTS = 10000
# Of all manifests that are read for their files: of some ten each.
MAX_LAYERS_IN_ALL = 200_000
# Of all folders together: a model has a folder and a file, and little else lies there.
MAX_ENTRIES = 50000
_MAX_NAMED = 3
_FILE, _FOLDER, _LINK = "file", "folder", "link"

_LIST_MEDIA_TYPE = "application/vnd.ollama.manifest.list.v2+json"
# The order in which Ollama on Linux chooses from a manifest list; MLX comes last and is not planned.
_RUNNERS = ("ollama", "llamacpp")
_BLOB_LINK = re.compile(r"(?:^|/)(sha256-[0-9a-f]{64})$")


class StoreError(OSError):
    """The store as a whole cannot be read; the message names the folder and what to do."""


@dataclass(frozen=True)
class ManifestFile:
    """Where the manifest of one installed model lies: the names of the folders below the store, and of the file.

    blob: the blob that a link stands for, empty for a file of its own.
    """

    name: str
    models_path: str
    parts: tuple[str, ...]
    blob: str = ""

    @property
    def path(self) -> str:
        return os.path.join(self.models_path, *self.parts)


@dataclass
class Manifests:
    """What lies in the folders of manifests: the models by lower-case name, links, which are not followed, and other files."""

    models: dict[str, ManifestFile] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    misnamed: list[str] = field(default_factory=list)
    entries: int = 0

    @property
    def notes(self) -> list[str]:
        """What is not seen of the store, a sentence for each reason."""
        return [*self._about_links(), *self._about_names()]

    def _about_names(self) -> list[str]:
        if not self.misnamed:
            return []
        named = ", ".join(map(repr, self.misnamed[:_MAX_NAMED])) + (
            ", ..." if len(self.misnamed) > _MAX_NAMED else ""
        )
        return [
            f"Ollama refuses the name of {named}, a manifest, and does not see the model: remove the file, or give it a name of "
            "letters, digits, '_', '-' and '.' only; it is left out of the plan"
        ]

    def _about_links(self) -> list[str]:
        if not self.links:
            return []
        count = len(self.links)
        named = ", ".join(map(repr, self.links[:_MAX_NAMED])) + (", ..." if count > _MAX_NAMED else "")
        return [
            f"{named} {'is a link' if count == 1 else f'are {count} links'} where a manifest or a folder of them belongs, "
            "and not followed: models behind it are not seen; put real files there"
        ]


def installed(models_path: str) -> list[ManifestFile]:
    """The manifests of all installed models, sorted by name; a store without models has none.

    Raises: StoreError.
    """
    return sorted(look(models_path).models.values(), key=lambda manifest: manifest.name)


def look(models_path: str) -> Manifests:
    """What lies in the folders of manifests, without following a link there.

    The service's user may put one to anywhere, and this may run as root; of one that names a blob, as the newer
    folder holds them, the blob is read. The store itself may be a link, and its blobs may be.

    Source: ollama baa78e711 (after v0.33.0-rc2), manifest/manifest.go, linkManifest and OpenVerifiedManifest.
    Raises: StoreError.
    """
    found = Manifests()
    try:
        store = open_folder(models_path, follow_link=True)
        try:
            for folder in MANIFEST_FOLDERS:
                for parts, blob in _files(store, folder, (), MANIFEST_DEPTH, found):
                    host, namespace, model, tag = parts[1:]
                    if folder == _NEWER_FOLDER and host == _NEWER_DEFAULT_HOST:
                        host = DEFAULT_HOST
                    name = short_name(f"{host}/{namespace}/{model}:{tag}")
                    if not is_name(host, namespace, model, tag):
                        found.misnamed.append("/".join(parts))
                        continue
                    found.models.setdefault(name.lower(), ManifestFile(name, models_path, parts, blob))
                    if len(found.models) > MAX_MANIFESTS:
                        raise StoreError(f"it holds more than {MAX_MANIFESTS} models")
        finally:
            os.close(store)
    except StoreError as error:
        raise StoreError(f"the store {models_path} is not read: {error}") from error
    except PermissionError as error:
        raise StoreError(f"{models_path} cannot be read: run the task as root (become: true)") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{models_path} is no model store: {error.strerror}; set models_path") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{models_path!r} cannot be read: {error}; set models_path") from error
    return found


def layers_by_model(models_path: str) -> dict[str, tuple[Layer, ...]]:
    """The layers of each installed model by its name, that of its configuration among them; none of a damaged model.

    Raises: StoreError.
    """
    found: dict[str, tuple[Layer, ...]] = {}
    layers = 0
    for manifest_file in installed(models_path):
        try:
            manifest = _selected(models_path, manifest_file)
            config = [] if manifest.get("config") is None else [layer_of(manifest["config"], manifest_file.path)]
            found[manifest_file.name] = (*layers_of(manifest, manifest_file.path), *config)
        except (ModelError, UnplannableError):
            found[manifest_file.name] = ()
        layers += len(found[manifest_file.name])
        if layers > MAX_LAYERS_IN_ALL:
            raise StoreError(
                f"the models in {models_path} are made of more than {MAX_LAYERS_IN_ALL} files, which no server needs: look at "
                "who writes there"
            )
    return found


def read_model(
    models_path: str, manifest_file: ManifestFile, header_of: Callable[[str], dict[str, Any]] = read_header
) -> InstalledModel:
    """One installed model with its GGUF header.

    header_of: reads the header of a file, where one is kept for several models that have the same file.
    Raises: ModelError, which names model, file and remedy; UnplannableError.
    """
    try:
        return _read_model(models_path, manifest_file, header_of)
    except ModelError as error:
        raise ModelError(_with_remedy(manifest_file.name, str(error))) from error


def _with_remedy(name: str, sentence: str) -> str:
    """A sentence about a damaged model that names it and says what to do; another user's file is none of its own damage."""
    named = sentence if sentence.startswith(f"model {name}: ") else f"model {name}: {sentence}"
    if os.strerror(errno.EACCES) in named or f"pull {name} again" in named:
        return named
    return f"{named}: pull {name} again, or remove it with 'ollama rm {name}'"


def _read_model(
    models_path: str, manifest_file: ManifestFile, header_of: Callable[[str], dict[str, Any]]
) -> InstalledModel:
    name = manifest_file.name
    manifest = _selected(models_path, manifest_file)
    layers = layers_of(manifest, manifest_file.path)
    config = _config(models_path, manifest, manifest_file.path)
    refuse_unplannable(config, layers)
    for layer in layers:
        layer.check(models_path, name)

    def header(files: Sequence[Layer]) -> dict[str, Any]:
        paths = [layer.path(models_path) for layer in files]
        return header_of(paths[0]) if len(paths) == 1 else read_parts(paths)

    return model_of(
        name, layers, config, manifest_file.path, header, lambda layer: _read_blob(layer.path(models_path))
    )


def _files(
    folder: int, name: str, parents: tuple[str, ...], depth: int, found: Manifests
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Files exactly `depth` levels below a folder, which lies in the one that is open; one that is not there has none.

    With each the blob that it stands for where it is a link.
    """
    try:
        inner = open_folder(name, folder=folder)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            found.links.append("/".join((*parents, name)))
        return
    try:
        parts = (*parents, name)
        for inner_name, kind in _listed(inner, found):
            if kind == _LINK:
                blob = _linked_blob(inner_name, inner) if depth == 1 else ""
                if blob:
                    yield (*parts, inner_name), blob
                else:
                    found.links.append("/".join((*parts, inner_name)))
            elif depth > 1 and kind == _FOLDER:
                yield from _files(inner, inner_name, parts, depth - 1, found)
            elif depth == 1 and kind == _FILE and not inner_name.startswith("."):
                yield (*parts, inner_name), ""
    finally:
        os.close(inner)


def _linked_blob(name: str, folder: int) -> str:
    try:
        target = _BLOB_LINK.search(os.readlink(name, dir_fd=folder))
    except OSError:  # gone, or no longer a link
        return ""
    return target[1] if target else ""


def _listed(folder: int, found: Manifests) -> list[tuple[str, str]]:
    """Names and kinds of what lies in a folder, in their order."""
    listed = []
    with os.scandir(folder) as entries:
        for entry in entries:
            found.entries += 1
            if found.entries > MAX_ENTRIES:
                raise StoreError(f"its manifests are more than {MAX_ENTRIES} files and folders")
            is_folder = entry.is_dir(follow_symlinks=False)
            listed.append((entry.name, _LINK if entry.is_symlink() else _FOLDER if is_folder else _FILE))
    return sorted(listed)


def _selected(models_path: str, manifest_file: ManifestFile) -> Mapping[str, Any]:
    """The manifest of a file, or of a list of manifests the one that Ollama runs on Linux."""
    path = manifest_file.path
    manifest = _read_manifest(manifest_file)
    if manifest.get("mediaType") != _LIST_MEDIA_TYPE:
        return manifest
    children = manifest.get("manifests")
    for runner in _RUNNERS:
        for child in children if isinstance(children, list) else []:
            if isinstance(child, dict) and str(child.get("runner", "")).lower() == runner:
                return _read_blob(_blob_path(models_path, child, path)) if "digest" in child else child
    raise UnplannableError(
        "it has no variant for llama.cpp, and the memory of other engines is not predicted"
    )


def _blob_path(models_path: str, entry: Mapping[str, Any], path: str) -> str:
    return os.path.join(models_path, "blobs", blob_name(entry, path))


def _config(models_path: str, manifest: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    entry = manifest.get("config")
    if not isinstance(entry, dict):
        raise ModelError(f"{path} is no manifest: config is {kind_of(entry)}, expected a mapping")
    return _read_blob(_blob_path(models_path, entry, path))


def _read_manifest(manifest_file: ManifestFile) -> dict[str, Any]:
    """Raises: ModelError."""
    if not manifest_file.blob:
        return _read_json(
            manifest_file.path, lambda: open_below(manifest_file.models_path, manifest_file.parts)
        )
    blob = os.path.join(manifest_file.models_path, "blobs", manifest_file.blob)
    return _read_json(blob, lambda: open_regular(blob, follow_link=True), manifest_file.blob)


def _read_blob(path: str) -> dict[str, Any]:
    """A JSON mapping from a blob; blobs may be links, to a disk of their own for example.

    Raises: ModelError.
    """
    return _read_json(path, lambda: open_regular(path, follow_link=True))


def _read_json(path: str, opened: Callable[[], BinaryIO], blob: str = "") -> dict[str, Any]:
    """A JSON mapping from a file. What the file holds is in no message: it may be another than the one that belongs there.

    blob: what its content must be the digest of.

    Raises: ModelError.
    """
    try:
        with opened() as file:
            content = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if not content:
        raise ModelError(f"{path} is empty, as a pull that was interrupted leaves it")
    if len(content) > MAX_JSON_BYTES:
        raise ModelError(f"{path} is longer than {MAX_JSON_BYTES} bytes, which no manifest needs")
    if blob and blob != f"sha256-{hashlib.sha256(content).hexdigest()}":
        raise ModelError(f"{path} is another file than its name says: pull the model again")
    try:
        value = read_json(content)
    except TooManyItems as error:
        raise ModelError(f"{path} is longer than a manifest: {error}") from error
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds {kind_of(value)}, expected a mapping")
    return value
