# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark was measured on, and whether this still holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import name_key


@dataclass(frozen=True)
class Gpu:
    """A GPU by name and UUID; without UUID it stands for any GPU of the name."""

    name: str
    uuid: str | None = None


@dataclass(frozen=True)
class Conditions:
    """What throughput depends on: GPUs, driver, Ollama, models with their blobs, context length, KV cache."""

    gpus: tuple[Gpu, ...]
    driver_version: str | None
    ollama_version: str | None
    models: Mapping[str, str]
    context_length: int
    kv_cache_type: str

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "gpus": [asdict(gpu) for gpu in self.gpus], "models": dict(self.models)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Conditions:
        """Read back what `to_dict` gave.

        Raises: ValueError naming the key that is missing or of the wrong type.
        """
        _check(data, "gpus", list)
        _check(data, "models", Mapping)
        _check(data, "context_length", int)
        _check(data, "kv_cache_type", str)
        gpus = []
        for gpu in data["gpus"]:
            if not isinstance(gpu, Mapping) or not isinstance(gpu.get("name"), str):
                raise ValueError(f"the conditions' gpus must be mappings with a name, found {gpu!r:.80}")
            uuid = gpu.get("uuid") or None
            if uuid is not None and not isinstance(uuid, str):
                raise ValueError(f"the conditions' gpus must have texts as uuid, found {uuid!r:.80}")
            gpus.append(Gpu(gpu["name"], uuid))
        return cls(
            gpus=tuple(gpus),
            driver_version=data.get("driver_version"),
            ollama_version=data.get("ollama_version"),
            models={str(name): str(digest) for name, digest in data["models"].items()},
            context_length=data["context_length"],
            kv_cache_type=data["kv_cache_type"],
        )


def _check(data: Mapping[str, Any], key: str, kind: type) -> None:
    if not isinstance(data.get(key), kind) or isinstance(data.get(key), bool):
        raise ValueError(f"the conditions have {data.get(key)!r:.80} as {key}, expected {kind.__name__}")


def conditions_of(
    facts: Mapping[str, Any],
    models: Iterable[Mapping[str, Any]],
    names: Iterable[str],
    *,
    ollama_version: str,
    context_length: int,
    kv_cache_type: str,
) -> Conditions:
    """The conditions of a host, from its facts `gpufleet_gpu` and the models installed there.

    `names`: the models that matter.
    """
    wanted = {name_key(name) for name in names}
    return Conditions(
        gpus=tuple(
            Gpu(str(gpu.get("name")), str(gpu["uuid"]) if gpu.get("uuid") else None)
            for gpu in facts.get("devices", ())
        ),
        driver_version=facts.get("driver_version"),
        ollama_version=ollama_version,
        models={
            str(model["name"]): str(model.get("digest") or "")
            for model in models
            if name_key(str(model.get("name"))) in wanted
        },
        context_length=context_length,
        kv_cache_type=kv_cache_type,
    )


def of_any_such_host(conditions: Conditions) -> Conditions:
    """The same for every host with GPUs of these names."""
    gpus = tuple(Gpu(gpu.name) for gpu in conditions.gpus)
    return Conditions(**{**vars(conditions), "gpus": gpus})


def why_not(measured: Conditions, now: Conditions) -> list[str]:
    """Everything that no longer is as it was measured, one clause each; empty where all holds."""
    reasons = _gpus(measured.gpus, now.gpus)
    for what, before, after in (
        ("the driver was", measured.driver_version, now.driver_version),
        ("Ollama was", measured.ollama_version, now.ollama_version),
        ("the KV cache was", measured.kv_cache_type, now.kv_cache_type),
        ("the context length was", measured.context_length, now.context_length),
    ):
        if before != after:
            reasons.append(f"{what} {before}, now it is {after}")
    for name, digest in now.models.items():
        if name not in measured.models:
            reasons.append(f"{name} is planned and was not measured")
        elif measured.models[name] != digest:
            reasons.append(f"{name} has changed ({_short(measured.models[name])}, now {_short(digest)})")
    return reasons


def _gpus(measured: Iterable[Gpu], now: Iterable[Gpu]) -> list[str]:
    before, after = list(measured), list(now)
    lost = [gpu for gpu in before if gpu.uuid and gpu.uuid not in {one.uuid for one in after}]
    if lost:
        return [f"GPU {gpu.uuid} ({gpu.name}) is not there" for gpu in lost]
    if Counter(gpu.name for gpu in before) != Counter(gpu.name for gpu in after):
        return [f"the GPUs were {_names(before)}, now they are {_names(after)}"]
    return []


def _names(gpus: Iterable[Gpu]) -> str:
    counted = Counter(gpu.name for gpu in gpus)
    return ", ".join(f"{count} x {name}" for name, count in sorted(counted.items())) or "none"


def _short(digest: str) -> str:
    return digest[:19] or "unknown"
