# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models from the store on disk: manifests, config and parameter blobs, and the GGUF header.

A reader of its own, so that the collection's reader and the stand-in do not prove each other.
Source: Ollama server/manifest.go (layout), the GGUF specification of ggml (docs/gguf.md).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

MEDIA_TYPE = "application/vnd.ollama.image."
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_FLOAT32, _STRING, _ARRAY = 6, 8, 9
_KEPT_ARRAY_LENGTH = 4096
_TENSOR_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 4: "MXFP4", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1",
    10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64",
    28: "F64", 30: "BF16", 39: "MXFP4",
}  # fmt: skip
# Source: Ollama v0.33.0-rc2 types/model/name.go (isValidPart, isValidLen).
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}\Z")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z")
_CLOUD_TAG = re.compile(r"(?:.+-)?cloud\Z")
DEFAULT_TEMPLATE = "{{ .Prompt }}"


@dataclass(frozen=True)
class Gguf:
    """Keys and tensors of one GGUF file; arrays too long to matter are given as None."""

    keys: Mapping[str, Any]
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]

    @property
    def architecture(self) -> str:
        return str(self.keys.get("general.architecture", ""))

    def number(self, name: str, default: int = 0) -> int:
        """An architecture's number; of a per-layer array the largest."""
        value = self.keys.get(f"{self.architecture}.{name}", default)
        if isinstance(value, list):
            return max((int(item) for item in value), default=default)
        return default if value is None else int(value)

    def layers(self, name: str, default: int = 0) -> list[int]:
        """An architecture's number for every layer."""
        count = self.number("block_count")
        value = self.keys.get(f"{self.architecture}.{name}", default)
        if isinstance(value, list):
            return [int(item) for item in value[:count]]
        return [default if value is None else int(value)] * count

    @property
    def parameter_count(self) -> int:
        total = 0
        for _name, _type, shape in self.tensors:
            elements = 1
            for dimension in shape:
                elements *= dimension
            total += elements
        return total


@dataclass(frozen=True)
class Model:
    """One tag of the store."""

    name: str
    digest: str
    size_bytes: int
    modified_ns: int
    config: Mapping[str, Any]
    parameters: Mapping[str, Any]
    template: str
    system: str
    blob: Path | None
    projector: Path | None
    gguf: Gguf = field(repr=False)
    projector_gguf: Gguf | None = field(repr=False, default=None)
    adapter: Path | None = None
    parent: str = ""
    licenses: tuple[str, ...] = ()
    messages: tuple[Mapping[str, str], ...] = ()

    @property
    def remote_host(self) -> str:
        """Where a model runs that does not run here."""
        return str(self.config.get("remote_host", ""))

    @property
    def remote_model(self) -> str:
        return str(self.config.get("remote_model", ""))

    @property
    def capabilities(self) -> list[str]:
        if self.blob is None:
            return []
        if f"{self.gguf.architecture}.pooling_type" in self.gguf.keys:
            return ["embedding"]
        vision = (
            self.projector is not None or f"{self.gguf.architecture}.vision.block_count" in self.gguf.keys
        )
        return ["completion", "vision"] if vision else ["completion"]

    @property
    def details(self) -> dict[str, Any]:
        """As /api/ps gives them; /api/show and /api/tags name the parent too."""
        families = self.config.get("model_families")
        return {
            "parent_model": "",
            "format": self.config.get("model_format", "gguf"),
            "family": self.config.get("model_family", ""),
            "families": families if families is None else list(families),
            "parameter_size": self.config.get("model_type", ""),
            "quantization_level": self.config.get("file_type", ""),
        }

    @property
    def blob_bytes(self) -> int:
        return self.blob.stat().st_size if self.blob else 0

    @property
    def projector_bytes(self) -> int:
        return self.projector.stat().st_size if self.projector else 0


def full_name(name: str) -> tuple[str, str, str, str]:
    """Host, namespace, model and tag of a name as a user types it. Raises: ValueError."""
    rest = name.strip()
    rest = rest.split("://", 1)[1] if "://" in rest else rest
    head, separator, tag = rest.rpartition(":")
    if separator and "/" not in tag:
        rest = head
    else:
        tag = "latest"
    rest, _slash, model = rest.rpartition("/")
    host, _slash, namespace = rest.rpartition("/")
    missing = name.strip().startswith("/") or "//" in rest + "/" + model
    host, namespace = host or "registry.ollama.ai", namespace or "library"
    valid = _HOST.match(host) and _NAMESPACE.match(namespace) and _PART.match(model) and _PART.match(tag)
    if missing or not valid:
        raise ValueError(name)
    return host, namespace, model, tag


def is_cloud(name: str) -> bool:
    """Whether Ollama asks its cloud for a model of that name. Source: Ollama v0.33.0-rc2 server/cloud_proxy.go."""
    try:
        return _CLOUD_TAG.match(full_name(name)[3]) is not None
    except ValueError:
        return False


def short_name(host: str, namespace: str, model: str, tag: str) -> str:
    """The name as Ollama lists it."""
    prefix = "" if host == "registry.ollama.ai" else f"{host}/"
    prefix += "" if namespace == "library" and not prefix else f"{namespace}/"
    return f"{prefix}{model}:{tag}"


class Store:
    """The models folder, read anew at every request as Ollama does; headers are read once per blob."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._headers: dict[tuple[str, int, int], Gguf] = {}

    def names(self) -> Iterator[tuple[str, str, str, str]]:
        """Every name that has a manifest."""
        root = self.folder / "manifests"
        for path in sorted(root.glob("*/*/*/*")):
            if path.is_file():
                host, namespace, model, tag = path.relative_to(root).parts
                yield host, namespace, model, tag

    def models(self) -> list[Model]:
        """Every readable model, the newest first."""
        found = []
        for host, namespace, model, tag in self.names():
            try:
                found.append(self._model(host, namespace, model, tag))
            except (OSError, ValueError, KeyError, struct.error):
                continue
        return sorted(found, key=lambda model: -model.modified_ns)

    def existing(self, name: str) -> tuple[str, str, str, str]:
        """The name in the letters of the installed models, which do not tell upper from lower case. Raises: ValueError.

        Source: Ollama v0.33.0-rc2 server/routes.go (getExistingName).
        """
        asked = list(full_name(name))
        for installed in self.names():
            asked = [own if own.lower() == part.lower() else part for own, part in zip(installed, asked)]
        host, namespace, model, tag = asked
        return host, namespace, model, tag

    def model(self, name: str) -> Model | None:
        """The model of that name, or None where there is no manifest. Raises: ValueError where it can be no name."""
        host, namespace, model, tag = self.existing(name)
        try:
            return self._model(host, namespace, model, tag)
        except FileNotFoundError:
            return None

    def manifest(self, host: str, namespace: str, model: str, tag: str) -> Path:
        """Where the manifest of a name lies."""
        return self.folder / "manifests" / host / namespace / model / tag

    def _model(self, host: str, namespace: str, model: str, tag: str) -> Model:
        path = self.manifest(host, namespace, model, tag)
        raw = path.read_bytes()
        manifest = json.loads(raw)
        listed = manifest["layers"] or []
        layers = {layer["mediaType"]: layer for layer in listed}
        weights = next((layer for layer in listed if layer["mediaType"] == MEDIA_TYPE + "model"), {})
        blob = self.blob(weights["digest"]) if weights else None
        projector, adapter = (
            self.blob(layers[MEDIA_TYPE + kind]["digest"]) if MEDIA_TYPE + kind in layers else None
            for kind in ("projector", "adapter")
        )
        config = json.loads(self.blob(manifest["config"]["digest"]).read_bytes())
        if blob is None and not config.get("remote_host"):
            raise ValueError(f"{path} names no weights")
        return Model(
            name=short_name(host, namespace, model, tag),
            digest=hashlib.sha256(raw).hexdigest(),
            size_bytes=sum(layer["size"] for layer in listed) + manifest["config"]["size"],
            modified_ns=path.stat().st_mtime_ns,
            config=config,
            parameters=json.loads(self._text(layers.get(MEDIA_TYPE + "params")) or "{}"),
            template=self._text(layers.get(MEDIA_TYPE + "template")) or DEFAULT_TEMPLATE,
            system=self._text(layers.get(MEDIA_TYPE + "system")),
            blob=blob,
            projector=projector,
            gguf=self._header(blob) if blob else Gguf({}, ()),
            projector_gguf=self._header(projector) if projector else None,
            adapter=adapter,
            parent=weights.get("from", ""),
            licenses=tuple(
                self._text(layer) for layer in listed if layer["mediaType"] == MEDIA_TYPE + "license"
            ),
            messages=tuple(json.loads(self._text(layers.get(MEDIA_TYPE + "messages")) or "[]")),
        )

    def blob(self, digest: str) -> Path:
        """Where the blob of a digest lies."""
        return self.folder / "blobs" / digest.replace(":", "-")

    def _text(self, layer: Mapping[str, Any] | None) -> str:
        return self.blob(layer["digest"]).read_text(encoding="utf-8") if layer else ""

    def _header(self, blob: Path) -> Gguf:
        status = os.stat(blob)
        key = (str(blob), status.st_mtime_ns, status.st_size)
        if key not in self._headers:
            with open(blob, "rb") as file:
                self._headers[key] = read_gguf(file)
        return self._headers[key]


def whole_header(blob: Path) -> Gguf:
    """The header with arrays of any length. Raises: OSError, ValueError."""
    with open(blob, "rb") as file:
        return read_gguf(file, sys.maxsize)


def read_gguf(file: BinaryIO, longest_array: int = _KEPT_ARRAY_LENGTH) -> Gguf:
    """Read the header of a little-endian GGUF file of version 2 or 3. Raises: ValueError."""
    if file.read(4) != b"GGUF":
        raise ValueError("not a GGUF file")
    _version, tensor_count, key_count = struct.unpack("<IQQ", file.read(20))
    keys = {}
    for _number in range(key_count):
        name = _string(file)
        (kind,) = struct.unpack("<I", file.read(4))
        keys[name] = _value(file, kind, longest_array)
    tensors = []
    for _number in range(tensor_count):
        name = _string(file)
        (dimensions,) = struct.unpack("<I", file.read(4))
        shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
        kind, _offset = struct.unpack("<IQ", file.read(12))
        tensors.append((name, _TENSOR_TYPES.get(kind, str(kind)), shape))
    return Gguf(keys, tuple(tensors))


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    return file.read(length).decode("utf-8", "replace")


def _shortest_float32(value: float) -> float:
    """The number Go shows for a float32: the shortest that reads back as the same one."""
    for digits in range(6, 9):
        shorter = float(f"{value:.{digits}g}")
        if struct.pack("<f", shorter) == struct.pack("<f", value):
            return shorter
    return value


def _value(file: BinaryIO, kind: int, longest_array: int) -> Any:
    if kind == _FLOAT32:
        return _shortest_float32(struct.unpack("<f", file.read(4))[0])
    if kind in _SCALARS:
        return struct.unpack(_SCALARS[kind], file.read(struct.calcsize(_SCALARS[kind])))[0]
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        raise ValueError(f"GGUF value type {kind} is unknown")
    element, count = struct.unpack("<IQ", file.read(12))
    if element in _SCALARS and count > longest_array:
        file.seek(count * struct.calcsize(_SCALARS[element]), os.SEEK_CUR)
        return None
    values = [_value(file, element, longest_array) for _number in range(count)]
    return values if count <= longest_array else None
