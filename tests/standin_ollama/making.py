# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models that are made, copied and deleted: blobs and manifests, with the words that Ollama says meanwhile.

Not stood in for: conversion, quantising, and that Ollama writes a GGUF file anew, so that its layer has another digest
than the file that was given. Source: the replies in tests/data/captures/real_cpu/calls/create.jsonl.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import gotext
from .store import MEDIA_TYPE, Gguf, Model, Store, full_name, read_gguf, short_name

DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 7: "Q8_0", 15: "Q4_K_M", 14: "Q4_K_S", 17: "Q5_K_M", 18: "Q6_K"}
Layer = dict[str, Any]


class Failed(Exception):
    """What a stream ends with, or a reply that is no stream says."""


def status(text: str) -> dict[str, str]:
    """One line of a stream."""
    return {"status": text}


def create(store: Store, data: Mapping[str, Any], base: Model | None) -> Iterator[dict[str, Any]]:
    """Make a model out of files or of the model ``base``. Raises: Failed."""
    host, namespace, model, tag = store.existing(str(data["model"]))
    if data.get("remote_host"):
        config = {
            "model_format": "", "model_family": "", "model_families": None, "model_type": "", "file_type": "",
            "remote_host": data["remote_host"], "remote_model": data["from"],
        }  # fmt: skip
        yield from _write(store, (host, namespace, model, tag), config, None)
        return
    said: list[str] = []
    adapters: list[Layer] = []
    for name, digest in (data.get("adapters") or {}).items():
        yield status("parsing GGUF")
        _gguf(store, digest)
        adapters.append(_layer(store, "adapter", digest, source=name))
    if base is not None:
        kept = _layers(store, base)
        kept[0] = {**kept[0], "from": base.name}
        config = {name: value for name, value in base.config.items() if name not in ("architecture", "os", "rootfs")}
        weights = [layer for layer in kept if _kind(layer) in ("model", "projector", "adapter")]
    else:
        kept, weights = [], []
        config = {}
        for name, digest in data["files"].items():
            yield status("parsing GGUF")
            header = _gguf(store, digest)
            if header.architecture == "clip":
                weights.append(_layer(store, "projector", digest, source=name))
            else:
                weights.insert(0, _layer(store, "model", digest))
                config = _config(header)
        yield status("verifying conversion")
    weights += adapters
    said += [f"using existing layer {layer['digest']}" for layer in weights]
    layers = [*weights, *_texts(store, data, base, kept, said)]
    yield from map(status, said)
    yield from _write(store, (host, namespace, model, tag), config, layers)


def _write(
    store: Store, name: Sequence[str], config: Mapping[str, Any], layers: Sequence[Layer] | None
) -> Iterator[dict[str, Any]]:
    text = _lines({**config, "architecture": "amd64", "os": "linux"})
    digest = _keep(store, text)[0]
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": {"mediaType": _CONFIG_TYPE, "digest": digest, "size": len(text)},
        "layers": layers,
    }
    yield status("writing manifest")
    write_manifest(store, name, _lines(manifest))
    yield status("success")


def write_manifest(store: Store, name: Sequence[str], text: bytes) -> None:
    """Give the bytes of a manifest a name."""
    host, namespace, model, tag = name
    path = store.manifest(host, namespace, model, tag)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)


def _texts(
    store: Store, data: Mapping[str, Any], base: Model | None, kept: Sequence[Layer], said: list[str]
) -> list[Layer]:
    """The layers that are no GGUF files: the new ones, and those of the base that none replaces."""
    licenses = data.get("license") or []
    parameters = {**(base.parameters if base else {}), **(data.get("parameters") or {})}
    contents: dict[str, list[bytes]] = {
        "template": [str(data["template"]).encode()] if data.get("template") else [],
        "system": [str(data["system"]).encode()] if data.get("system") else [],
        "license": [text.encode() for text in ([licenses] if isinstance(licenses, str) else licenses)],
        "params": [_lines(dict(sorted(parameters.items())))] if data.get("parameters") else [],
        "messages": [_lines(data["messages"])] if data.get("messages") else [],
    }
    layers: list[Layer] = []
    for kind, texts in contents.items():
        if not texts:
            layers += [layer for layer in kept if _kind(layer) == kind]
        for text in texts:
            digest, is_new = _keep(store, text)
            said.append(f"{'creating new' if is_new else 'using existing'} layer {digest}")
            layers.append(_layer(store, kind, digest))
    return layers


def _lines(value: Any) -> bytes:
    return gotext.to_json(value).encode() + b"\n"


def _kind(layer: Layer) -> str:
    return str(layer["mediaType"]).replace(MEDIA_TYPE, "")


def _layers(store: Store, model: Model) -> list[Layer]:
    manifest = json.loads(store.manifest(*full_name(model.name)).read_bytes())
    layers: list[Layer] = manifest["layers"]
    return layers


def _layer(store: Store, kind: str, digest: str, source: str = "") -> Layer:
    size = store.blob(digest).stat().st_size
    layer: Layer = {"mediaType": MEDIA_TYPE + kind, "digest": digest, "size": size}
    return {**layer, "from": source} if source else layer


def _gguf(store: Store, digest: str) -> Gguf:
    if not DIGEST.match(digest):
        raise Failed("invalid digest format")
    path = store.blob(digest)
    try:
        with open(path, "rb") as file:
            return read_gguf(file)
    except FileNotFoundError:
        raise Failed(f"open {path}: no such file or directory") from None
    except ValueError:
        raise Failed("supplied file was not in GGUF format") from None
    except struct.error:
        raise Failed("unexpected EOF") from None


def _config(header: Gguf) -> dict[str, Any]:
    family = header.architecture
    return {
        "model_format": "gguf",
        "model_family": family,
        "model_families": [family],
        "model_type": human_number(header.parameter_count),
        "file_type": _FILE_TYPES.get(int(header.keys.get("general.file_type", 0)), "unknown"),
    }


def human_number(number: int) -> str:
    """Source: Ollama v0.33.0-rc2 format/format.go (HumanNumber)."""
    for unit, factor in (("B", 10**9), ("M", 10**6)):
        if number >= factor:
            value = number / factor
            return f"{value:.0f}{unit}" if value == int(value) and unit == "B" else f"{value:.{2 if unit == 'M' else 1}f}{unit}"
    return f"{number // 1000}K" if number >= 1000 else str(number)


def _keep(store: Store, content: bytes) -> tuple[str, bool]:
    """Keep a text as a blob: its digest, and whether it is new."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = store.blob(digest)
    is_new = not path.exists()
    if is_new:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return digest, is_new


def keep_blob(store: Store, digest: str, content: bytes) -> bool:
    """Keep a blob under the digest that it is to have: whether it is new. Raises: Failed."""
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != digest:
        raise Failed(f'digest mismatch, expected "{digest}", got "{found}"')
    return _keep(store, content)[1]


def copy(store: Store, source: str, destination: str) -> None:
    """Give a model a second name. Raises: FileNotFoundError, ValueError."""
    text = store.manifest(*store.existing(source)).read_bytes()
    write_manifest(store, store.existing(destination), text)


def delete(store: Store, name: str) -> None:
    """Remove a name, and the blobs that no other name needs. Raises: FileNotFoundError, ValueError."""
    path = store.manifest(*store.existing(name))
    own = digests(path)
    os.remove(path)
    needed = {digest for other in store.names() for digest in digests(store.manifest(*other))}
    for digest in own - needed:
        store.blob(digest).unlink(missing_ok=True)


def digests_of(manifest: Mapping[str, Any]) -> set[str]:
    """The digests of all files that a manifest names."""
    return {entry["digest"] for entry in (manifest["config"], *(manifest["layers"] or ()))}


def digests(manifest: Path) -> set[str]:
    """The digests of all files that a manifest names; none of one that is not there or damaged."""
    try:
        return digests_of(json.loads(manifest.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def shown_name(name: str) -> str:
    """The name in its shortest form. Raises: ValueError."""
    return short_name(*full_name(name))
