# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models by name, from those that the collection ships, and by file: a GGUF, its header, or what hosts tell of theirs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import GgufError, read_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import (
    DEFAULT_TAG,
    name_key,
    short_name,
)

SHIPPED = Path(__file__).parents[2] / "roles" / "ollama_plan" / "files" / "models.jsonl"
# A header of 256 GPU layers has 200 kB; the models of a host a few MB.
MOST_FILE_BYTES = 64 << 20
MOST_NAMED = 64
_MOST_NEAR = 4
# What Ollama's library gives for a name without a tag, of the models that are shipped.
# Source: Ollama README.md, the table of models (v0.3.14: gemma2, phi3; v0.6.2: gemma3, llama3.x, mistral, phi4); of the others
# `ollama list` of machines that have both names under one ID, or in one size.
LATEST = {
    "gemma2": "9b",
    "gemma3": "4b",
    "gemma4": "e4b",
    "gpt-oss": "20b",
    "llama3.1": "8b",
    "llama3.2": "3b",
    "llama3.3": "70b",
    "mistral": "7b",
    "mixtral": "8x7b",
    "phi3": "3.8b",
    "phi4": "14b",
    "qwen2.5": "7b",
    "qwen2.5-coder": "7b",
    "qwen3": "8b",
    "qwen3.5": "9b",
}


class Models(NamedTuple):
    """Descriptions as `ollama_plan` takes models, and what is to be known of some of them, one sentence each."""

    descriptions: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, Mapping[str, Any]]:
    """The rows of the models that the collection ships, by name."""
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    return {row["name"]: row for row in map(json.loads, lines)}


def models_named(given: Any) -> Models:
    """The models that names and files stand for, given as a list or as a text with commas.

    Raises: ValueError in one sentence with near names, where one is not known, or a file is none of a model.
    """
    entries = given.split(",") if isinstance(given, str) else given
    if not isinstance(entries, (list, tuple)) or not any(str(entry).strip() for entry in entries):
        raise ValueError(
            "say which models: models='qwen2.5:14b,gemma3:4b', or the files of headers or models"
        )
    if len(entries) > MOST_NAMED:
        raise ValueError(f"{len(entries)} models are named, at most {MOST_NAMED} are read")
    descriptions: list[Mapping[str, Any]] = []
    notes = []
    for entry in (str(entry).strip() for entry in entries):
        if entry.lower().endswith((".json", ".gguf")):
            descriptions += _of_file(Path(entry).expanduser())
            continue
        row, taken_for = _row(entry)
        if taken_for:
            notes.append(taken_for)
        descriptions.append(row.get("shape") or {"name": row["name"], "numbers": row["numbers"]})
        if row["note"]:
            notes.append(f"{row['name']}: {row['note']}")
    keys = [name_key(str(model["name"])) for model in descriptions]
    for model, key in zip(descriptions, keys):
        if keys.count(key) > 1:
            raise ValueError(f"model {model['name']!r} is named twice; name it once")
    return Models(tuple(descriptions), tuple(notes))


def _row(name: str) -> tuple[Mapping[str, Any], str]:
    """The row of a name, and for what the name was taken where it leaves its tag to Ollama."""
    if not name:
        raise ValueError("models has nothing between two commas; write it as 'qwen2.5:14b,gemma3:4b'")
    known = {name_key(one): row for one, row in shipped().items()}
    family, _colon, tag = name_key(name).rpartition(":")
    row = known.get(f"{family}:{tag}")
    if row is not None:
        return row, ""
    if tag == DEFAULT_TAG and family in LATEST:
        meant = f"{family}:{LATEST[family]}"
        return known[meant], f"{name} is taken for {meant}, which Ollama's library gives for it; another size has to be named"
    sizes = [one for one in shipped() if one.partition(":")[0] == family]
    near = difflib.get_close_matches(name.lower(), shipped(), n=_MOST_NEAR, cutoff=0.5)
    hint = f", of {family} there are {', '.join(sizes)}" if sizes else f", near it are {', '.join(near)}" if near else ""
    raise ValueError(
        f"no model is known as {name!r}{hint}; of others give a file: the .gguf itself, or what ollama_model_info told of it "
        "(docs/planning_before_buying.md)"
    )


def _of_file(path: Path) -> list[Mapping[str, Any]]:
    """The models of a file: one of its own, or the list of a host's.

    Raises: ValueError where it cannot be read, or tells of no model.
    """
    try:
        if path.suffix.lower() == ".gguf":
            return [{"name": short_name(path.stem), "header": read_header(str(path))}]
        if path.stat().st_size > MOST_FILE_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes, at most {MOST_FILE_BYTES} are read")
        told = json.loads(path.read_text(encoding="utf-8"))
    except GgufError as error:
        # It names the file by itself.
        raise ValueError(f"the model file {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"the model file {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    found = [_described(one, path) for one in (told if isinstance(told, list) else [told])]
    if not found:
        raise ValueError(f"the model file {path} tells of no model")
    return found


def _described(told: Any, path: Path) -> Mapping[str, Any]:
    if isinstance(told, Mapping) and {"metadata", "tensors"} <= set(told):
        return {"name": short_name(str(told.get("name") or path.stem)), "header": told}
    if isinstance(told, Mapping) and told.get("name") and {"layers", "header", "numbers"} & set(told):
        return told
    raise ValueError(
        f"the model file {path} tells of no model: it needs the mapping of a GGUF header (metadata, tensors, file_bytes), or "
        "what ollama_model_info returned"
    )
