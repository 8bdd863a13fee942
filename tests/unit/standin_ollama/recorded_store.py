# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store of the real server that answered tests/data/captures/real_cpu/calls, made from what it said of it.

Headers are real and weights are holes; blobs have the digests that were recorded, config and manifests byte for byte.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from gguf_writer import write_gguf

MEDIA_TYPE = "application/vnd.ollama.image."
REAL_FOLDER = "/usr/share/ollama/.ollama/models"
LLAMA = ("0f5cb55e732d876d758f60cbfdf9822365c67f15619a4b27c82b3f952043b54f", 370592)
# Name: digest and size of the weights.
WEIGHTS = {
    "tiny-llama": LLAMA,
    "mid-llama": ("4f8acdc96103c1fd6ed8576d69e256ff6658c367f79efeebe947cc0002a403f6", 50907872),
    "tiny-qwen3": ("f90d0eb7b8a1a010530d72649295d74ddd2536976f7b8dc1b836e6eeb63656c1", 1260096),
    "tiny-qwen2": ("cc1450a220a0318973284afbdda87fe4c310c198731cb5020b0616fc2aae8d70", 868960),
    "tiny-bert": ("f67ad9204857fc9e8832e5d155c86ad6eaed54a7682f9ce2ffe552b4a8ff6aed", 673056),
    "gemma3:270m": ("a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", 253113024),
    "tiny-vision": LLAMA,
    "tiny-lora": LLAMA,
}
PROJECTOR = ("27e23383f071a23354b46dd0b13d33b01927665e011f2422175f67f5c72b04fd", 234816)
ADAPTER = ("6a7415877a779f862bd53b5498160975dbd64aac63691b58b7dcc78565ccd577", 8960)
GIVEN_LLAMA = "152cf4191603e6112ce1fd10fda98789fbbdb23d870d6b7d04fbf7be62860864"
GIVEN_MID_LLAMA = "4d7fd665cb2e2fafb6e5662eaa1bf6b96e1bf2de52e2b2821fb6265fdb83ef85"


def calls(captures: Path, group: str) -> list[dict[str, Any]]:
    """The recorded calls of one sitting, in order."""
    lines = (captures / "real_cpu" / "calls" / f"{group}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def lay_out(store: Path, captures: Path) -> None:
    """Write the store."""
    shown = {
        call["body"]["model"].removesuffix(":latest"): json.loads(call["reply"])
        for call in calls(captures, "replies")
        if call["name"].startswith("show_verbose_") and "reply" in call
    }
    with gzip.open(captures / "base" / "show_verbose.json.gz") as file:
        shown["gemma3:270m"] = json.load(file)
    (store / "blobs").mkdir(parents=True)
    for name, (digest, size) in WEIGHTS.items():
        details = shown[name]["details"]
        _write_header(_blob(store, digest), shown[name]["model_info"], _tensors(shown[name]), size)
        config = _config(
            details["family"], details["parameter_size"], details["quantization_level"]
        )
        layers = [_layer("model", digest, size)]
        if name == "tiny-vision":
            information = shown[name]["projector_info"]
            tensors = [["all", "F16", [information["general.parameter_count"]]]]
            _write_header(_blob(store, PROJECTOR[0]), information, tensors, PROJECTOR[1])
            layers.append({**_layer("projector", *PROJECTOR), "from": "tiny-mmproj.gguf"})
        if name == "tiny-lora":
            _write_header(_blob(store, ADAPTER[0]), {"general.architecture": "llama"}, [], ADAPTER[1])
            params = b'{"num_ctx":2048}\n'
            layers.append({**_layer("adapter", *ADAPTER), "from": "tiny-lora.gguf"})
            layers.append(_layer("params", _text(store, params), len(params)))
        _manifest(store, name, config, layers)
    # The files as they were given to /api/create, which Ollama writes anew.
    for given, made in ((GIVEN_LLAMA, WEIGHTS["tiny-llama"]), (GIVEN_MID_LLAMA, WEIGHTS["mid-llama"])):
        _blob(store, given).hardlink_to(_blob(store, made[0]))


def _tensors(shown: dict[str, Any]) -> list[list[Any]]:
    return [[tensor["name"], tensor["type"], tensor["shape"]] for tensor in shown["tensors"]]


def _write_header(path: Path, information: dict[str, Any], tensors: list[list[Any]], size: int) -> None:
    # JSON does not tell 10000.0 from 10000.
    metadata = {
        key: float(value) if key.endswith("freq_base") else value
        for key, value in information.items()
        if key != "general.parameter_count"
    }
    write_gguf(path, {"metadata": metadata, "tensors": tensors}, file_bytes=size)


def _config(family: str, parameters: str, quantization: str) -> bytes:
    return (
        f'{{"model_format":"gguf","model_family":"{family}","model_families":["{family}"],'
        f'"model_type":"{parameters}","file_type":"{quantization}","architecture":"amd64","os":"linux"}}\n'
    ).encode()


def _layer(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": MEDIA_TYPE + kind, "digest": f"sha256:{digest}", "size": size}


def _text(store: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    _blob(store, digest).write_bytes(content)
    return digest


def _blob(store: Path, digest: str) -> Path:
    return store / "blobs" / f"sha256-{digest}"


def _manifest(store: Path, name: str, config: bytes, layers: list[dict[str, Any]]) -> None:
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": f"sha256:{_text(store, config)}",
            "size": len(config),
        },
        "layers": layers,
    }
    model, _colon, tag = name.partition(":")
    path = store / "manifests" / "registry.ollama.ai" / "library" / model / (tag or "latest")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest, separators=(",", ":")) + "\n")
