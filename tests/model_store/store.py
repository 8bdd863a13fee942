# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lays out a model store as Ollama does, with sparse GGUF files in place of the weights.

python tests/model_store/store.py --into DIR gemma3:4b llama3.1:8b
python tests/model_store/store.py --into DIR llama3.1:8b \\
    --alias chat:8k=llama3.1:8b --params chat:8k='{"num_ctx": 8192}'
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from gguf_writer import header_bytes, tensor_data_bytes, write_gguf
from published import published

HEADERS = Path(__file__).resolve().parents[1] / "data" / "headers"
REGISTRY = "registry.ollama.ai"
MEDIA_TYPE = "application/vnd.ollama.image."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, required=True, help="the store, what OLLAMA_MODELS names")
    parser.add_argument("--headers", type=Path, default=HEADERS, help="folder of header JSON files")
    parser.add_argument(
        "--alias", action="append", default=[], metavar="NAME=MODEL", help="a second tag on a blob"
    )
    parser.add_argument(
        "--params", action="append", default=[], metavar="NAME=JSON", help="Modelfile parameters"
    )
    parser.add_argument(
        "--published", action="store_true", help="files in the form that Ollama publishes (gemma3, gpt-oss)"
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="model:tag, as header files are named")
    arguments = parser.parse_args()

    aliases = dict(pair.split("=", 1) for pair in arguments.alias)
    params = {name: json.loads(text) for name, text in (pair.split("=", 1) for pair in arguments.params)}
    for name in [*arguments.models, *aliases]:
        header = load_header(aliases.get(name, name), arguments.headers)
        if arguments.published:
            header = published(header)
        add_model(arguments.into, name, header, params=params.get(name))
        print(f"{name}: {header['file_bytes']} bytes")


def load_header(model: str, folder: Path = HEADERS, *, tokens: int | None = None) -> dict[str, Any]:
    """The header JSON of a model; with `tokens`, its vocabulary cut to that many, for tests in a hurry."""
    header: dict[str, Any] = json.loads((folder / (model.replace(":", "_") + ".json")).read_text())
    if tokens is not None:
        for key, value in header["metadata"].items():
            if isinstance(value, dict):
                header["metadata"][key] = {"array_length": tokens}
        header["file_bytes"] = len(header_bytes(header)) + tensor_data_bytes(header["tensors"])
    return header


def add_model(
    store: Path,
    name: str,
    header: dict[str, Any],
    *,
    params: dict[str, Any] | None = None,
    projector: dict[str, Any] | None = None,
    adapter: dict[str, Any] | None = None,
    template: str = "{{ .Prompt }}",
    system: str = "",
    model_format: str = "gguf",
    family: str | None = None,
) -> Path:
    """Add one model and return its manifest's path. Two names with the same header share one blob."""
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    layers = [_gguf_layer(store, "model", header)]
    if projector is not None:
        layers.append(_gguf_layer(store, "projector", projector))
    if adapter is not None:
        layers.append(_gguf_layer(store, "adapter", adapter))
    layers.append(_layer(store, "template", template.encode()))
    if system:
        layers.append(_layer(store, "system", system.encode()))
    if params is not None:
        layers.append(_layer(store, "params", json.dumps(params).encode()))

    architecture = header["metadata"]["general.architecture"]
    config = {
        "model_format": model_format,
        "model_family": family or architecture,
        "model_families": [family or architecture],
        "model_type": "",
        "file_type": header.get("quantization", ""),
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": _layer(store, None, json.dumps(config).encode()),
        "layers": layers,
    }
    path = manifest_path(store, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))
    return path


def manifest_path(store: Path, name: str) -> Path:
    model, _colon, tag = name.partition(":")
    parts = model.split("/")
    host_and_namespace = [REGISTRY, "library"][: 3 - len(parts)]
    return store.joinpath("manifests", *host_and_namespace, *parts, tag or "latest")


def blob_path(store: Path, digest: str) -> Path:
    return store / "blobs" / digest.replace(":", "-")


def _layer(store: Path, kind: str | None, content: bytes) -> dict[str, Any]:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    blob_path(store, digest).write_bytes(content)
    media_type = MEDIA_TYPE + kind if kind else "application/vnd.docker.container.image.v1+json"
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _gguf_layer(store: Path, kind: str, header: dict[str, Any]) -> dict[str, Any]:
    """Write a blob named by its header and size: hashing the hole behind them would take minutes."""
    head = header_bytes(header)
    size = max(len(head) + tensor_data_bytes(header["tensors"]), header.get("file_bytes") or 0)
    digest = "sha256:" + hashlib.sha256(head + str(size).encode()).hexdigest()
    path = blob_path(store, digest)
    if not path.exists():
        write_gguf(path, header, file_bytes=size)
    return {"mediaType": MEDIA_TYPE + kind, "digest": digest, "size": size}


if __name__ == "__main__":
    main()
