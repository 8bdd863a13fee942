# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the environment that is wanted differs from what file, unit and process have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import (
    Conflict,
    Variable,
    secret_file,
    secret_file_setting,
    service_settings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import variables_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import MASK, masked

FILE = "file"
UNIT = "unit"
PROCESS = "process"
SERVER = "server"

# Why something differs, where the layer and the values do not tell.
FORMER_NAME = "former name"
EXPOSED = "exposed secret"
NOT_TAKEN = "set at start"


@dataclass(frozen=True)
class Difference:
    """A variable that a layer has otherwise than wanted; None stands for absent, secrets are masked.

    `cause`: why, where the layer and the values do not tell.
    """

    layer: str
    variable: str
    found: str | None
    wanted: str | None
    message: str
    cause: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def file_differences(path: str, found: Mapping[str, str], wanted: Mapping[str, str]) -> list[Difference]:
    """Where our drop-in on disk sets other variables than wanted."""
    return _differences(
        FILE, f"{path} sets", found, wanted, sorted({*found, *wanted}), "it is to be written again"
    )


def added_settings(path: str, text: str) -> list[Difference]:
    """What our drop-in on disk sets beside variables: somebody else has written it there. Values are not shown."""
    return [
        Difference(
            FILE,
            "",
            setting.key,
            None,
            f"{path}:{setting.line} sets {setting.key}, which is not ours: the file is to be written again; "
            "what you want to keep belongs into a drop-in of your own",
        )
        for setting in service_settings(text)
        if setting.key != "Environment" and f"{setting.key}={setting.value}" != secret_file_setting(path)
    ]


def readable_secrets(path: str, dropin: str, *, exposed: bool) -> list[Difference]:
    """Secrets that others than root can read: set in our drop-in itself, or in its environment file by its mode."""
    found = [name for name, value in variables_of(dropin).items() if masked(name, value) != value]
    reason = "it is to be written again, so that its secrets are in a file that its owner alone may read"
    differences = [
        Difference(FILE, name, MASK, MASK, f"{path} sets {name} for all to read: {reason}", EXPOSED)
        for name in found
    ]
    if exposed:
        place = secret_file(path)
        differences.append(
            Difference(
                FILE,
                "",
                "readable",
                "private",
                f"{place} can be read by others than its owner: {reason}",
                EXPOSED,
            )
        )
    return differences


def under_other_names(path: str, old: Iterable[str]) -> list[Difference]:
    """Our drop-ins of before its name was changed, which are in force as long as they lie there."""
    return [
        Difference(
            FILE,
            "",
            other,
            None,
            f"{other} was written by gpufleet.ollama before our drop-in was to be {path}, and is still in force: "
            "it is to be removed",
            FORMER_NAME,
        )
        for other in old
    ]


def unit_differences(
    unit: str,
    shown: Mapping[str, str],
    wanted: Mapping[str, str],
    need_daemon_reload: bool,
    conflicts: Sequence[Conflict] = (),
) -> list[Difference]:
    """Where systemd holds other values for the unit than wanted (`systemctl show`).

    A file or a setting that decides a variable is the reason; then files that were not read. systemd up to 252 does not
    notice the first drop-in of a unit that it has loaded.
    """
    reason = "systemctl daemon-reload is needed"
    if not need_daemon_reload:
        reason = (
            "no file that was found says so, and systemd knows of none that it has not read; it does not notice a unit's first "
            f"drop-in, so try systemctl daemon-reload; if that does not help, 'systemctl cat {unit}' names the file"
        )
    reasons = {conflict.name: conflict.message for conflict in conflicts}
    found = _differences(UNIT, f"systemd holds for {unit}", shown, wanted, sorted(wanted), reason, reasons)
    if need_daemon_reload:
        message = (
            f"systemd has not read the files of {unit} since they changed: systemctl daemon-reload is needed"
        )
        found.append(Difference(UNIT, "", "NeedDaemonReload=yes", "NeedDaemonReload=no", message))
    return found


def process_differences(
    unit: str,
    process: Mapping[str, str],
    wanted: Mapping[str, str],
    dropped: Mapping[str, str | None],
    conflicts: Sequence[Conflict],
    started_since: str = "",
) -> list[Difference]:
    """Where the running process has other values than wanted.

    `dropped`: variables our drop-in set before and no longer sets, each with the value that the unit's
    other files give it (None: none).
    `started_since`: where the process was started since the files and systemd have what is wanted, what it was started by.
    """
    expected: dict[str, str | None] = {**dropped, **wanted}
    reasons = {conflict.name: conflict.message for conflict in conflicts}
    reason = "it was started before the drop-in took effect and must be restarted"
    if started_since:
        reason = (
            f"it was started after the drop-in was written, so what starts it sets another value ({started_since}), or "
            "systemd had not read the drop-in then; if a restart does not help, remove the setting there"
        )
    found = _differences(PROCESS, f"{unit} runs with", process, expected, sorted(expected), reason, reasons)
    return [replace(one, cause=NOT_TAKEN) for one in found] if started_since else found


def activity_differences(
    unit: str, active_state: str, refusals: Sequence[str], because: str = ""
) -> list[Difference]:
    """A service that is to be active and is not; a reason for which it cannot be managed says more than its state.

    `because`: why it cannot run, or is not run, where that was seen.
    """
    if active_state == "active":
        return []
    state = f"{unit} is {active_state}, wanted active"
    message = refusals[0] if refusals else f"{state}: {because}" if because else state
    return [Difference(PROCESS, "", active_state, "active", message)]


def _differences(
    layer: str,
    subject: str,
    found: Mapping[str, str],
    wanted: Mapping[str, str | None],
    names: Iterable[str],
    default_reason: str,
    reasons: Mapping[str, str] | None = None,
) -> list[Difference]:
    differences = []
    for name in names:
        has, wants = found.get(name), wanted.get(name)
        if has == wants:
            continue
        shown_has = None if has is None else masked(name, has)
        shown_wants = None if wants is None else masked(name, wants)
        reason = (reasons or {}).get(name, default_reason)
        other = "another value" if shown_has == shown_wants else _value(shown_wants)
        message = f"{subject} {_phrase(name, shown_has)}, wanted {other}: {reason}"
        differences.append(Difference(layer, name, shown_has, shown_wants, message))
    return differences


def _phrase(name: str, value: str | None) -> str:
    return f"no {name}" if value is None else f"{name}={value}"


def _value(value: str | None) -> str:
    return "none" if value is None else value if value else "an empty value"


def dropped_variables(
    before: Iterable[Mapping[str, str]],
    wanted: Mapping[str, str],
    resolved: Mapping[str, Variable],
    manager_environment: Mapping[str, str],
) -> dict[str, str | None]:
    """The variables that versions of our drop-in set before and that are no longer wanted.

    The value is what the process should have instead: from the unit's other files, from the manager, or none.
    """
    names = {name for version in before for name in version if name not in wanted}
    return {
        name: resolved[name].origin.value if name in resolved else manager_environment.get(name)
        for name in sorted(names)
    }


def server_differences(
    unit: str,
    differing: Mapping[str, tuple[str, str]],
    process: Mapping[str, str] | None = None,
    wanted: Mapping[str, str] | None = None,
    misread: Mapping[str, str] | None = None,
) -> list[Difference]:
    """Where Ollama parsed a value otherwise than wanted: name -> (found, wanted), as Ollama prints them.

    `process`, `wanted`: the environment of the process, where it is known, and the one that it should have. `misread`: of
    values that Ollama does not parse, how.
    """
    return [
        Difference(
            SERVER,
            name,
            masked(name, found),
            masked(name, should),
            f"Ollama in {unit} took {_phrase(name, masked(name, found))}, wanted {masked(name, should)}: "
            + _why_taken(name, process, wanted or {}, misread or {}),
        )
        for name, (found, should) in sorted(differing.items())
    ]


def _why_taken(
    name: str, process: Mapping[str, str] | None, wanted: Mapping[str, str], misread: Mapping[str, str]
) -> str:
    if process is None:
        return "it did not parse the value as meant, or the process was started before it was set"
    if process.get(name) != wanted.get(name):
        return "its process does not have the value that is wanted"
    return (
        misread.get(name) or "its process has the value that is wanted, and Ollama made something else of it"
    )
