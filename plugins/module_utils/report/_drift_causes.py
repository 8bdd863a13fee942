# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the differences that a verification found, layer by layer, to one cause for each variable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

LAYERS = ("file", "unit", "process", "server", "model")

OTHER_FILE = "other file"
NOT_APPLIED = "not applied"
FILE_EDITED = "file edited"
PLAN_CHANGED = "plan changed"
NOT_RELOADED = "not reloaded"
STALE_PROCESS = "stale process"
READ_OTHERWISE = "read otherwise"
NOT_RUNNING = "not running"
NOT_AS_PLANNED = "not as planned"
REFUSED = "refused"
GPU_GONE = "gpu gone"
GPU_DROPPED = "gpu dropped"
CHANGED_SINCE = "changed since"
# As the comparison on the host names them.
FORMER_NAME = "former name"
EXPOSED = "exposed secret"
# What a run of site.yml makes right by itself, whatever else it finds.
MENDED_BY_SITE = frozenset(
    (
        *(NOT_APPLIED, PLAN_CHANGED, FILE_EDITED, NOT_RELOADED, STALE_PROCESS),
        *(FORMER_NAME, EXPOSED, CHANGED_SINCE),
    )
)

_SENTENCES = {
    NOT_APPLIED: "our drop-in does not have it: the plan was not applied here",
    FILE_EDITED: "our drop-in was changed by hand since this collection wrote it",
    PLAN_CHANGED: (
        "our drop-in has another value: the plan has changed since it was applied (hardware, models or settings)"
    ),
}
# Where the file is right, the comparison on the host has found the reason, and says it in the words of site.yml.
_LAYER_OF = {STALE_PROCESS: "process", NOT_RELOADED: "unit", READ_OTHERWISE: "server"}


@dataclass(frozen=True)
class Drift:
    """One variable (or, with an empty name, the service or a model) that is not as planned, and why.

    `found`: layer to the value there, None for absent, only for the layers that differ.
    """

    variable: str
    wanted: str | None
    found: dict[str, str | None]
    cause: str
    message: str

    @property
    def difference(self) -> str:
        """Found and wanted in a few words: `1 in process and server, wanted 3`."""
        if not self.found:
            return ""
        layers_of: dict[str, list[str]] = {}
        for layer, value in self.found.items():
            layers_of.setdefault(shown(value), []).append(layer)
        found = ", ".join(f"{value} in {_listed(layers)}" for value, layers in layers_of.items())
        return f"{found}, wanted {shown_wanted(self.wanted, self.found)}"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "difference": self.difference}


def explain(
    differences: Iterable[Mapping[str, Any]],
    conflicts: Iterable[Mapping[str, Any]],
    refusals: Iterable[str] = (),
    file_edited: bool | None = None,
) -> tuple[Drift, ...]:
    """One drift for each variable in the order found, then those that are about none.

    differences: `differences` of `ollama_verify_result` (layer, variable, found, wanted, message, cause).
    conflicts: its `conflicts` (variable, message), each names the file that decides a variable.
    refusals: its `refusals`, for which `site.yml` changes nothing here. file_edited: its `file_edited`.
    """
    decided_elsewhere = {str(one["variable"]): str(one["message"]) for one in conflicts}
    refused = dict.fromkeys(str(one) for one in refusals)
    differences = list(differences)
    edited = _edited(differences, file_edited)
    by_variable: dict[str, list[Mapping[str, Any]]] = {}
    without_variable = []
    for difference in differences:
        if difference["variable"] and difference["layer"] in LAYERS[:4]:
            by_variable.setdefault(str(difference["variable"]), []).append(difference)
        elif str(difference["message"]) not in refused:
            without_variable.append(_without_variable(difference))
    drifts = [
        _of_variable(name, group, decided_elsewhere.pop(name, None), name in edited)
        for name, group in by_variable.items()
    ]
    # A file that will win at the next start is drift to be, even while every layer still is as planned.
    drifts += [Drift(name, None, {}, OTHER_FILE, message) for name, message in decided_elsewhere.items()]
    return (*(Drift("", None, {}, REFUSED, message) for message in refused), *drifts, *without_variable)


def _edited(differences: Sequence[Mapping[str, Any]], file_edited: bool | None) -> set[str]:
    """The variables that somebody changed in our drop-in by hand."""
    in_file = {str(one["variable"]): one["found"] for one in differences if one["layer"] == "file"}
    if file_edited is not None:
        return set(in_file) if file_edited else set()
    # What was written is not known. A process that has another value than the file was started before the edit.
    if any(one["layer"] == "process" and not one["variable"] for one in differences):
        return set()
    in_process = {str(one["variable"]): one["found"] for one in differences if one["layer"] == "process"}
    return {name for name, value in in_file.items() if name not in in_process or in_process[name] != value}


def gone(gpu: str) -> Drift:
    """A GPU that the plan was applied for and that the host no longer has."""
    message = (
        f"{gpu}, which the plan was applied for, is gone: repair it, or run site.yml with ollama_plan_on_gpu_fault=exclude "
        "to go on without it"
    )
    return Drift("", None, {}, GPU_GONE, message)


def changed_since(sentence: str) -> Drift:
    """What is not as it was when the plan was applied, as Ollama's version."""
    return Drift("", None, {}, CHANGED_SINCE, sentence)


def dropped(gpu: Mapping[str, Any]) -> Drift:
    """A GPU of the host that the running server does not use."""
    return Drift("", None, {}, GPU_DROPPED, f"{gpu['message']}; when that is repaired, restart the service and run site.yml")


def _without_variable(difference: Mapping[str, Any]) -> Drift:
    layer = str(difference["layer"])
    cause = {"file": FILE_EDITED, "process": NOT_RUNNING, "unit": NOT_RELOADED}.get(layer, NOT_AS_PLANNED)
    found = {layer: _text(difference["found"])}
    return Drift(
        str(difference["variable"]),
        _text(difference["wanted"]),
        found,
        str(difference.get("cause") or cause),
        str(difference["message"]),
    )


def _of_variable(
    name: str, group: Sequence[Mapping[str, Any]], conflict: str | None, file_edited: bool
) -> Drift:
    found = {str(one["layer"]): _text(one["found"]) for one in group}
    wanted = _text(group[0]["wanted"])
    if conflict:
        return Drift(name, wanted, found, OTHER_FILE, conflict)
    for difference in group:
        if difference.get("cause"):
            return Drift(name, wanted, found, str(difference["cause"]), str(difference["message"]))
    cause = _cause(found, file_edited)
    said = {str(one["layer"]): str(one["message"]) for one in group}
    message = said[_LAYER_OF[cause]] if cause in _LAYER_OF else _SENTENCES[cause]
    return Drift(name, wanted, found, cause, message)


def _cause(found: Mapping[str, str | None], file_edited: bool) -> str:
    if "file" in found:
        if file_edited:
            return FILE_EDITED
        return NOT_APPLIED if found["file"] is None else PLAN_CHANGED
    if "process" in found:
        return STALE_PROCESS
    return NOT_RELOADED if "unit" in found else READ_OTHERWISE


def nearest(found: Mapping[str, str | None]) -> str | None:
    """Of the layers that differ, what is in the one that comes nearest to what runs."""
    return next((found[layer] for layer in ("process", "unit", "file", "server", "model") if layer in found), None)


def shown(value: str | None) -> str:
    """A value for a reader; there need not be one."""
    return "none" if value is None else value or "an empty value"


def shown_wanted(wanted: str | None, found: Mapping[str, str | None]) -> str:
    """What is wanted, for a reader of what was found: of two secrets that differ both are masked alike."""
    return "another value" if wanted in found.values() else shown(wanted)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
