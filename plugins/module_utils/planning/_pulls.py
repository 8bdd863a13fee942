# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which wanted models a host has yet to pull, and what a plan makes of what their registry tells of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib_or_mib
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import (
    name_key,
    pin_of,
    short_name,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._gathered import names_of

_PRESENT = "present"


def to_look_up(options: Mapping[str, Any], read: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models that are to be had and that nobody has seen on the host as they are pinned, as `ollama_model` takes them.

    They are the wanted ones; where none is wanted, those of `pull_models`, which otherwise say only where a wanted one comes
    from. `read`: what `ollama_host_info` returned, without `models` where it was not to look.
    """
    if not options["pull"] or not options["gather"]:
        return []
    sources = {name_key(one["name"]): one for one in map(_source, options["pull_models"]) if one}
    asked = names_of(options["wanted"]) or [
        one["name"] for one in sources.values() if one.get("state", _PRESENT) == _PRESENT
    ]
    found = read.get("models") or {}
    here = {
        name_key(str(one.get("name", ""))) for part in ("models", "unplannable") for one in found.get(part) or ()
    }
    ids = {name_key(name): digest for name, digest in (found.get("ids") or {}).items()}
    lacking = {
        key: name
        for key, name in ((name_key(name), name) for name in asked)
        if key not in here or (key in ids and _is_another(ids[key], sources.get(key, {})))
    }
    return [{**sources.get(key, {}), "name": name, "state": _PRESENT} for key, name in lacking.items()]


def _is_another(installed_id: str, source: Mapping[str, Any]) -> bool:
    """Whether another model is installed than is pinned. Of a file the pin is the file's, and what was made of it stays."""
    digest = str(source.get("digest") or "")
    pin = pin_of(digest)
    return bool(digest) and not source.get("file") and not (pin and installed_id.startswith(pin))


def _source(model: Any) -> dict[str, Any]:
    """An entry of `pull_models`, of which one may be a name alone; nothing where it is none, which the pull refuses."""
    if isinstance(model, str):
        return {"name": model}
    return dict(model) if isinstance(model, Mapping) and isinstance(model.get("name"), str) else {}


@dataclass(frozen=True)
class Pulls:
    """What a host has yet to pull before a plan for it can be applied.

    models: as `ollama_model` takes them, pinned to what was looked at. told: what comes, its size, and whether the disk has
    room, a line each. warnings: what the plan says of it. failures: why no plan can be made for it. no_room: why it does not fit.
    """

    models: tuple[dict[str, Any], ...] = ()
    told: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    no_room: str = ""

    def to_dict(self) -> dict[str, Any]:
        """What `ollama_plan` returns of it; empty where nothing is to come."""
        return {"models": list(self.models), "told": list(self.told)} if self.models else {}


def pulls_of(asked: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]) -> Pulls:
    """What has to be pulled, of the models that `ollama_model` was asked to look up, by its answer."""
    if answer.get("failed"):
        return Pulls(failures=(str(answer.get("msg")),))
    sources = {name_key(one["name"]): one for one in asked}
    described = {name_key(str(one.get("name"))) for one in answer["descriptions"]}
    coming = [model for model in answer["models"] if model["action"] and name_key(model["name"]) in sources]
    no_room = answer["no_room"]
    room = no_room or (
        f"the disk of {answer['models_path']} has room: {gib_or_mib(answer['needed_bytes'])} are to come, "
        f"{gib_or_mib(answer['free_bytes'])} are free"
    )
    sizes = [f", {gib_or_mib(model['size_bytes'])}" if model["size_bytes"] else "" for model in coming]
    names = [short_name(model["name"]) for model in coming]
    return Pulls(
        models=tuple(_pinned(sources[name_key(model["name"])], model) for model in coming),
        told=(*(f"to pull: {name}{size}" for name, size in zip(names, sizes)), *([room] if coming else [])),
        warnings=(
            *(f"{name} has yet to be pulled{size}: planned by the header of what is to come" for name, size in zip(names, sizes)),
            *([no_room] if no_room else []),
        ),
        failures=tuple(
            f"model '{name}' is wanted and has yet to be pulled, and cannot be planned before: {model['note']}; pull it with "
            "the role ollama_pull first"
            for name, model in zip(names, coming)
            if name_key(name) not in described
        ),
        no_room=no_room,
    )


def _pinned(source: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """A model as it was looked at, though its tag be moved until it is pulled. Of a file the pin is the file's own digest."""
    digest = source.get("digest") or ("" if source.get("file") else model["digest"])
    return {**source, "name": short_name(model["name"]), "state": _PRESENT, "digest": digest}
