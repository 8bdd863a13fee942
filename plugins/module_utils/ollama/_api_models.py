# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads installed models out of the replies of a running server.

Source: ollama v0.33.0-rc2, server/routes.go (GetModelInfo), server/images.go (Model.String).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, shown
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import MAX_KEPT_NUMBERS
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    SAFETENSORS,
    SIDE_FILES,
    InstalledModel,
    ModelError,
    UnplannableError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import short_name

# GGUF keys that hold floats; JSON makes 1000000.0 a whole number of them.
# Source: llama.cpp b10488, src/llama-arch.cpp, LLM_KV_NAMES.
_FLOAT_KEY = re.compile(
    r"\.(?:\w*epsilon|freq_base(?:_swa)?|\w*scale|scale_linear|factor|attn_factor|yarn_\w+"
    r"|\w*softcapping|clamp_kqv|max_alibi_bias)$"
)
# Keys of whole arrays that no planning needs: the vocabulary and what describes the file.
_UNUSED_KEYS = ("tokenizer.", "general.")
# Source: ollama v0.33.0-rc2, fs/ggml/type.go, TensorType.String.
_UNNAMED_TYPE = "unknown"
_BLOB_NAME = re.compile(r"sha256[:-]([0-9a-fA-F]{64})$")


def read_model(api: Api, tag: Mapping[str, Any]) -> InstalledModel:
    """One installed model, as `tag` (an entry of /api/tags) and /api/show tell of it.

    Raises: ModelError, UnplannableError, ApiError.
    """
    name = short_name(str(tag.get("name") or tag.get("model")))
    details = _mapping(tag, "details")
    if tag.get("remote_host"):
        raise UnplannableError(f"it runs at {shown(tag['remote_host'])} and takes no memory here")
    if details.get("format") == "safetensors":
        raise UnplannableError(SAFETENSORS)
    show = api.show(name)
    if _lacks_arrays(_mapping(show, "model_info")):
        show = api.show(name, verbose=True)
    files = _files(show)
    sizes = {kind: sum(_file_bytes(path) for path in paths) for kind, paths in files.items()}
    model_path = files["model"][0] if files["model"] else ""
    file_bytes = _file_bytes(model_path)
    return InstalledModel(
        name=name,
        digest=_blob_name(model_path),
        family=shown(details.get("family") or ""),
        quantization=shown(details.get("quantization_level") or ""),
        header={
            "file_bytes": file_bytes or _estimated_bytes(name, tag, show),
            "quantization": "",
            "metadata": _metadata(_mapping(show, "model_info")),
            "tensors": _tensors(name, show),
        },
        projector_bytes=sizes["projector"],
        adapter_bytes=sizes["adapter"],
        draft_bytes=sizes["draft"],
        parameters=parse_parameters(str(show.get("parameters") or "")),
        note="" if file_bytes else f"model {name}: its files cannot be seen, so their sizes are estimated",
        projector_metadata=_metadata(_mapping(show, "projector_info")),
        side_files=tuple(_blob_name(path) or path for kind in SIDE_FILES for path in files[kind]),
    )


def parse_parameters(text: str) -> dict[str, Any]:
    """The Modelfile parameters out of the lines of /api/show; a repeated one (stop) keeps its last value."""
    parameters: dict[str, Any] = {}
    for line in text.splitlines():
        name, _space, value = line.strip().partition(" ")
        if name:
            parameters[name] = _number(value.strip())
    return parameters


def _number(text: str) -> Any:
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    return text


def _mapping(reply: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = reply.get(key)
    return value if isinstance(value, dict) else {}


def _lacks_arrays(model_info: Mapping[str, Any]) -> bool:
    """Whether an array that planning may need was left out; without `verbose` all but short ones are."""
    return any(value in (None, []) for key, value in model_info.items() if not key.startswith(_UNUSED_KEYS))


def _metadata(model_info: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as the GGUF reader gives it."""
    metadata: dict[str, Any] = {}
    for key, value in model_info.items():
        if isinstance(value, list) and (len(value) > MAX_KEPT_NUMBERS or key.startswith("tokenizer.")):
            metadata[key] = {"array_length": len(value)}
        elif isinstance(value, int) and not isinstance(value, bool) and _FLOAT_KEY.search(key):
            metadata[key] = float(value)
        elif value is not None:
            metadata[key] = value
    return metadata


def _tensors(name: str, show: Mapping[str, Any]) -> list[list[Any]]:
    tensors = show.get("tensors")
    if not isinstance(tensors, list) or not tensors:
        raise ModelError(f"model {name}: the API does not list its tensors; read the store on disk instead")
    try:
        read = [[tensor["name"], tensor["type"], list(tensor["shape"])] for tensor in tensors]
    except (TypeError, KeyError) as error:
        raise ModelError(f"model {name}: the API lists a tensor without name, type and shape") from error
    if any(type_name == _UNNAMED_TYPE for _name, type_name, _shape in read):
        raise ModelError(
            f"model {name}: the API does not name the type of its tensors (a quantization that Ollama "
            "only passes on); read the store on disk instead"
        )
    return read


def _files(show: Mapping[str, Any]) -> dict[str, list[str]]:
    """Paths of the model's files, as its Modelfile names them: the first FROM is the model."""
    files: dict[str, list[str]] = {"model": [], "projector": [], "adapter": [], "draft": []}
    for line in str(show.get("modelfile") or "").splitlines():
        command, _space, path = line.partition(" ")
        if command == "FROM":
            files["projector" if files["model"] else "model"].append(path)
        elif command in ("ADAPTER", "DRAFT"):
            files[command.lower()].append(path)
        elif line and not line.startswith("#"):
            break  # files come first; what follows are texts of the model's author
    return files


def _file_bytes(path: str) -> int:
    try:
        found = os.stat(path) if os.path.isabs(path) else None
    except (OSError, ValueError):  # a name that no file can have
        return 0
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else 0


def _blob_name(path: str) -> str:
    match = _BLOB_NAME.search(path)
    return f"sha256-{match[1].lower()}" if match else ""


def _estimated_bytes(name: str, tag: Mapping[str, Any], show: Mapping[str, Any]) -> int:
    """Size of the model's blob where it cannot be seen: the model's whole size without its known texts."""
    whole = tag.get("size")
    if isinstance(whole, bool) or not isinstance(whole, int):
        raise ModelError(f"model {name}: the API does not tell its size; read the store on disk instead")
    texts = sum(len(str(show.get(key) or "").encode()) for key in ("template", "system", "license"))
    return max(0, whole - texts)
