# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model's manifest says, in the store of a host and in a registry alike: its layers, and the model they make.

Source: ollama v0.33.0-rc2, manifest/manifest.go, server/images.go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._fields import is_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import shown
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import GgufError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    SAFETENSORS,
    SIDE_FILES,
    InstalledModel,
    ModelError,
    UnplannableError,
)

MAX_LAYERS = 20000
_LAYER_PREFIX = "application/vnd.ollama.image."
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


@dataclass(frozen=True)
class Layer:
    """One layer of a manifest; the digest is also its file's name in a store."""

    kind: str
    digest: str
    size_bytes: int

    def path(self, models_path: str) -> str:
        return os.path.join(models_path, "blobs", self.digest)

    def check(self, models_path: str, name: str) -> None:
        """Raises: ModelError where the store does not hold the layer's file in its full size."""
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


def layers_of(manifest: Mapping[str, Any], where: str) -> list[Layer]:
    """The layers of a manifest; `where`: what is called no manifest if it is none.

    Raises: ModelError.
    """
    # Ollama writes the manifest of a model that runs in its cloud with `"layers":null`.
    entries = [] if manifest.get("layers") is None else manifest["layers"]
    if not isinstance(entries, list) or len(entries) > MAX_LAYERS:
        raise ModelError(f"{where} is no manifest: layers is {kind_of(entries)}, expected a list")
    return [layer_of(entry, where) for entry in entries]


def layer_of(entry: Any, where: str) -> Layer:
    """One entry of a manifest.

    Raises: ModelError.
    """
    if not isinstance(entry, dict):
        raise ModelError(f"{where} is no manifest: a layer is {kind_of(entry)}, expected a mapping")
    size_bytes: Any = entry.get("size")
    if not is_number(size_bytes):
        raise ModelError(f"{where} is no manifest: the size of a layer is {kind_of(size_bytes)}")
    media_type = str(entry.get("mediaType", ""))
    kind = media_type[len(_LAYER_PREFIX) :] if media_type.startswith(_LAYER_PREFIX) else media_type
    return Layer(kind, blob_name(entry, where), int(size_bytes))


def blob_name(entry: Mapping[str, Any], where: str) -> str:
    """The name of the file that an entry stands for.

    Raises: ModelError.
    """
    match = _DIGEST.fullmatch(str(entry.get("digest")))
    if match is None:
        raise ModelError(f"{where} is no manifest: {kind_of(entry.get('digest'))} is no sha256 digest")
    return f"sha256-{match[1].lower()}"


def model_of(
    name: str,
    layers: Sequence[Layer],
    config: Mapping[str, Any],
    where: str,
    header_of: Callable[[Sequence[Layer]], dict[str, Any]],
    json_of: Callable[[Layer], Mapping[str, Any]],
) -> InstalledModel:
    """The model that layers make.

    header_of: reads the GGUF header of a model's or a projector's files. json_of: reads a layer of parameters.
    Raises: ModelError.
    """
    models = [layer for layer in layers if layer.kind == "model"]
    if not models:
        raise ModelError(f"{where} names no model layer: pull {name} again")
    projector = next((layer for layer in layers if layer.kind == "projector"), None)
    try:
        header = header_of(models)
        projector_header = header_of([projector]) if projector else {"metadata": {}}
    except GgufError as error:
        raise ModelError(f"model {name}: {error}") from error
    parameters: dict[str, Any] = {}
    for layer in layers:
        if layer.kind == "params":
            parameters.update(json_of(layer))
    return InstalledModel(
        name=name,
        digest=models[-1].digest,
        family=_text(config, "model_family"),
        quantization=_text(config, "file_type"),
        header=header,
        projector_bytes=_size(layers, "projector"),
        adapter_bytes=_size(layers, "adapter"),
        draft_bytes=_size(layers, "draft"),
        parameters=parameters,
        projector_metadata=projector_header["metadata"],
        side_files=tuple(layer.digest for kind in SIDE_FILES for layer in layers if layer.kind == kind),
    )


def refuse_unplannable(config: Mapping[str, Any], layers: Sequence[Layer]) -> None:
    """Raises: UnplannableError for a model whose memory is not predicted."""
    if config.get("remote_host"):
        raise UnplannableError(f"it runs at {shown(_text(config, 'remote_host'))} and takes no memory here")
    if config.get("model_format") == "safetensors" or any(layer.kind == "tensor" for layer in layers):
        raise UnplannableError(SAFETENSORS)


def kind_of(value: Any) -> str:
    """What a value is, without what it holds."""
    if isinstance(value, (str, list)):
        return f"a {'text' if isinstance(value, str) else 'list'} of {len(value)}"
    return "nothing" if value is None else f"a value of the kind {type(value).__name__}"


def _size(layers: Sequence[Layer], kind: str) -> int:
    return sum(layer.size_bytes for layer in layers if layer.kind == kind)


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    return value if isinstance(value, str) else ""
