# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file and line sets a unit's variable, and which one wins."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    NAME_PATTERN,
    parse_assignments,
    parse_environment_file,
    split_words,
)

FRAGMENT = "fragment"
DROP_IN = "drop-in"
ENVIRONMENT_FILE = "environment file"
END_OF_LINE = re.compile(r"(\r\n|\n\r|[\n\r\0])")
# Source: systemd v252 src/basic/parse-util.c, parse_boolean; another value is passed over.
_YES = frozenset(("1", "yes", "y", "true", "t", "on"))
_NO = frozenset(("0", "no", "n", "false", "f", "off"))
_BYTE_ORDER_MARK = re.compile("^\ufeff", re.MULTILINE)


@dataclass(frozen=True)
class UnitFile:
    """A unit's fragment or drop-in: its path, its kind and its text."""

    path: str
    kind: str
    text: str


@dataclass(frozen=True)
class Directive:
    """One `Key=Value` of a unit file's [Service] section; `line` counts from 1, `last_line` where it is continued."""

    key: str
    value: str
    line: int
    last_line: int


@dataclass(frozen=True)
class Origin:
    """A place that sets a variable: file, line from 1, kind of file, and the value it sets."""

    file: str
    line: int
    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Variable:
    """A variable, the place that wins, and the places it overrides in the order systemd reads them."""

    name: str
    origin: Origin
    overridden: tuple[Origin, ...] = ()


@dataclass(frozen=True)
class EnvironmentFileReference:
    """An `EnvironmentFile=` setting: path or pattern, and who refers to it."""

    pattern: str
    file: str
    line: int


@dataclass(frozen=True)
class Removal:
    """An `UnsetEnvironment=` entry: a name, or an assignment that is removed only with that value."""

    entry: str
    file: str
    line: int


@dataclass(frozen=True)
class Reset:
    """An empty `Environment=` or `EnvironmentFile=`, which takes back all that was set by its key before."""

    key: str
    file: str
    line: int
    taken: tuple[str, ...]


@dataclass(frozen=True)
class UnitEnvironment:
    """What a unit's files make of its environment, before the files named by `EnvironmentFile=` are read.

    `resets`: with the files whose settings they take back.
    """

    assignments: Mapping[str, tuple[Origin, ...]]
    environment_files: tuple[EnvironmentFileReference, ...]
    removals: tuple[Removal, ...]
    resets: tuple[Reset, ...] = ()


@dataclass(frozen=True)
class Conflict:
    """A variable of ours that another file would decide; `message` says which and what to remove."""

    name: str
    file: str
    line: int
    message: str


def service_settings(text: str) -> list[Directive]:
    """The settings of the [Service] sections, continued lines joined."""
    return [directive for section, directive in _settings(text) if section == "Service"]


def misplaced(files: Iterable[UnitFile]) -> list[str]:
    """One sentence for each file that sets variables where systemd passes them over, outside of [Service].

    Sections of others, as those of podman's generator, begin with X-. Source: ollama issue 4771; systemd.unit(5).
    """
    found = []
    for file in files:
        outside = [
            (section, directive)
            for section, directive in _settings(file.text)
            if section != "Service" and not section.startswith("X-")
            if directive.key in ("Environment", "EnvironmentFile") and directive.value
        ]
        for section, directive in outside[:1]:
            where = f"in [{section}]" if section else "before any section"
            found.append(
                f"{file.path}:{directive.line} sets {directive.key}= {where}, where systemd passes it over: "
                "put it under a line [Service]"
            )
    return found


def hiding_devices(files: Iterable[UnitFile]) -> list[str]:
    """One sentence where the unit hides all devices, GPUs among them, from the service. Source: nixpkgs issue 331069."""
    last = None
    for file in files:
        for directive in service_settings(file.text):
            if directive.key == "PrivateDevices" and directive.value.lower() in _YES | _NO:
                last = (file.path, directive)
    if last is None or last[1].value.lower() in _NO:
        return []
    path, found = last
    return [
        f"{path}:{found.line} sets PrivateDevices={found.value}, which hides every GPU from Ollama: set it to no to use them"
    ]


def _settings(text: str) -> list[tuple[str, Directive]]:
    """All settings with the section that each stands in, empty before the first, continued lines joined.

    Source: systemd v252 src/shared/conf-parser.c (config_parse, parse_line): a comment line inside a
    continued one is skipped, the backslash of a continued line counts as a space, the end of the file ends it, one byte
    order mark is skipped; src/basic/fileio.c (read_line_full): what ends a line.
    """
    settings: list[tuple[str, Directive]] = []
    text = _BYTE_ORDER_MARK.sub("", text, count=1)
    section = ""
    pending: list[str] = []
    pending_line = 0
    for number, raw in enumerate([*END_OF_LINE.split(text)[::2], ""], start=1):
        if raw.lstrip(" \t")[:1] in ("#", ";"):
            continue
        first = pending_line or number
        if _continues(raw):
            pending.append(raw[:-1] + " ")
            pending_line = first
            continue
        line = "".join([*pending, raw]).strip(" \t\n\r")
        pending, pending_line = [], 0
        if line.startswith("["):
            section = line[1:-1] if line.endswith("]") else ""
            continue
        key, separator, value = line.partition("=")
        if separator:
            settings.append((section, Directive(key.strip(" \t"), value.strip(" \t"), first, number)))
    return settings


def secret_file(dropin_path: str) -> str:
    """Where the secret values of our drop-in lie: beside it, under a name that systemd takes for no drop-in."""
    return f"{dropin_path[: -len('.conf')]}.env"


def secret_file_setting(dropin_path: str) -> str:
    """The line of our drop-in that has systemd read the secret values.

    systemd takes the path for a pattern behind its specifiers. Source: systemd v252 src/core/load-fragment.c
    (config_parse_unit_env_file), src/core/execute.c (exec_context_load_environment).
    """
    escaped = re.sub(r"([\\*?\[])", r"\\\1", secret_file(dropin_path)).replace("%", "%%")
    return f"EnvironmentFile={escaped}"


def _continues(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def expand_unit_specifiers(text: str, unit: str) -> str:
    """The text with the specifiers that the unit's name decides expanded: `%n`, `%N`, `%p`, `%i`, `%%`.

    Others stay as written. Source: systemd.unit(5), Specifiers.
    """
    stem = unit.rpartition(".")[0]
    prefix, _at, instance = stem.partition("@")
    values = {"n": unit, "N": stem, "p": prefix, "i": instance, "%": "%"}
    parts = []
    position = 0
    while position < len(text):
        letter = text[position + 1 : position + 2]
        if text[position] == "%" and letter in values:
            parts.append(values[letter])
            position += 2
        else:
            parts.append(text[position])
            position += 1
    return "".join(parts)


def unit_environment(files: Iterable[UnitFile], unit: str = "") -> UnitEnvironment:
    """What the files make of a unit's environment, read in the order given (systemd's: later wins)."""
    assignments: dict[str, list[Origin]] = {}
    references: list[EnvironmentFileReference] = []
    removals: list[Removal] = []
    resets: list[Reset] = []
    for file in files:
        for setting in service_settings(file.text):
            if setting.key == "Environment":
                if not setting.value:
                    taken = {origin.file for origins in assignments.values() for origin in origins}
                    resets.append(Reset(setting.key, file.path, setting.line, tuple(sorted(taken))))
                    assignments.clear()
                for name, value in parse_assignments(setting.value):
                    assignments.setdefault(name, []).append(Origin(file.path, setting.line, file.kind, value))
            elif setting.key == "EnvironmentFile":
                if not setting.value:
                    taken = {reference.file for reference in references}
                    resets.append(Reset(setting.key, file.path, setting.line, tuple(sorted(taken))))
                    references.clear()
                else:
                    pattern = expand_unit_specifiers(setting.value, unit)
                    references.append(EnvironmentFileReference(pattern.lstrip("-"), file.path, setting.line))
            elif setting.key == "UnsetEnvironment":
                if not setting.value:
                    removals.clear()
                removals.extend(
                    Removal(word, file.path, setting.line)
                    for word in split_words(setting.value)
                    if NAME_PATTERN.match(word.partition("=")[0])
                )
    return UnitEnvironment(
        {name: tuple(origins) for name, origins in assignments.items()},
        tuple(references),
        tuple(removals),
        tuple(resets),
    )


def variables(
    environment: UnitEnvironment, environment_files: Sequence[tuple[str, str]]
) -> dict[str, Variable]:
    """Every variable the unit's process is given by its files, with the place that wins.

    `environment_files`: path and text of the files that exist, in the order systemd reads them; they
    win over `Environment=`, and `UnsetEnvironment=` over both.
    Source: systemd v252 src/core/execute.c (exec_child, accum_env and strv_env_delete).
    """
    origins = {name: list(places) for name, places in environment.assignments.items()}
    for path, text in environment_files:
        for line, (name, value) in parse_environment_file(text):
            origins.setdefault(name, []).append(Origin(path, line, ENVIRONMENT_FILE, value))
    resolved = {name: Variable(name, places[-1], tuple(places[:-1])) for name, places in origins.items()}
    for removal in environment.removals:
        name, separator, value = removal.entry.partition("=")
        if name in resolved and (not separator or resolved[name].origin.value == value):
            del resolved[name]
    return resolved


def with_dropin(files: Sequence[UnitFile], path: str, text: str | None) -> list[UnitFile]:
    """The unit's files as they will be with our drop-in at `path` (None: without it), in systemd's order."""
    others = [file for file in files if file.path != path]
    if text is None:
        return others
    # A file of the same name in a directory that comes later is masked by ours.
    others = [
        file
        for file in others
        if file.kind != DROP_IN or posixpath.basename(file.path) != posixpath.basename(path)
    ]
    fragments = [file for file in others if file.kind != DROP_IN]
    dropins = [file for file in others if file.kind == DROP_IN]
    dropins.append(UnitFile(path, DROP_IN, text))
    return fragments + sorted(dropins, key=lambda file: posixpath.basename(file.path))


def conflicts(
    environment: UnitEnvironment,
    resolved: Mapping[str, Variable],
    dropin_path: str,
    wanted: Iterable[str],
    of_other_runs: Collection[str] = (),
) -> list[Conflict]:
    """The wanted variables that another file than ours decides, each with what to remove.

    `of_other_runs`: drop-ins that this collection wrote under other names.
    """
    found = []
    for name in sorted(wanted):
        variable = resolved.get(name)
        if variable is None:
            found += _taken_away(name, environment, dropin_path)
        elif variable.origin.file not in (dropin_path, secret_file(dropin_path)):
            mine = variable.origin.file in of_other_runs
            found.append(
                _held(name, variable.origin) if mine else _overruled(name, variable.origin, dropin_path)
            )
    return found


def _taken_away(name: str, environment: UnitEnvironment, dropin_path: str) -> list[Conflict]:
    """Who takes a variable away, if our drop-in has set it: the first that removes it, else the last that empties all."""
    removals = (one for one in environment.removals if one.entry.partition("=")[0] == name)
    removal = next(removals, None)
    if removal:
        message = (
            f"{removal.file}:{removal.line} removes {name} again (UnsetEnvironment={removal.entry}): "
            f"remove that entry"
        )
        return [Conflict(name, removal.file, removal.line, message)]
    resets = (one for one in reversed(environment.resets) if dropin_path in one.taken)
    reset = next(resets, None)
    return [_emptied(name, reset, dropin_path)] if reset else []


def _emptied(name: str, reset: Reset, dropin_path: str) -> Conflict:
    message = (
        f"{reset.file}:{reset.line} empties {reset.key}= after our drop-in {posixpath.basename(dropin_path)} and so "
        f"takes {name} away: remove that line or give our drop-in a name that sorts after "
        f"{posixpath.basename(reset.file)}"
    )
    return Conflict(name, reset.file, reset.line, message)


def _held(name: str, origin: Origin) -> Conflict:
    dropin = f"{posixpath.splitext(origin.file)[0]}.conf"
    message = (
        f"{origin} sets {name}, and another run of gpufleet.ollama wrote that file, as a benchmark does while it "
        f"measures: wait until that run has ended, or remove {dropin} if it was killed"
    )
    return Conflict(name, origin.file, origin.line, message)


def _overruled(name: str, origin: Origin, dropin_path: str) -> Conflict:
    if origin.kind == ENVIRONMENT_FILE:
        why = f"{origin} sets {name}, and an EnvironmentFile wins over every drop-in: remove that line"
    else:
        why = (
            f"{origin} sets {name} after our drop-in {posixpath.basename(dropin_path)}: "
            f"remove that line or give our drop-in a name that sorts after {posixpath.basename(origin.file)}"
        )
    return Conflict(name, origin.file, origin.line, why)


def overrides(resolved: Mapping[str, Variable], dropin_path: str) -> list[str]:
    """Sentences that report which drop-ins of others ours overrides, without touching them."""
    return [
        f"our drop-in overrides {name} set in {place}"
        for name, variable in sorted(resolved.items())
        if variable.origin.file in (dropin_path, secret_file(dropin_path))
        for place in variable.overridden
        if place.kind == DROP_IN and place.file != dropin_path
    ]


def dropin_directories(unit: str, aliases: Sequence[str], unit_path: Sequence[str]) -> list[str]:
    """The directories systemd searches for a unit's drop-ins, the one whose file wins a name first.

    For each name of the unit and each directory of the unit path: `name.d`, the template's, those of the
    prefixes that end in a dash; then the type's (`service.d`).
    Source: systemd v252 src/shared/dropin.c (unit_file_process_dir, unit_file_find_dropin_paths).
    """
    found: list[str] = []
    for name in (unit, *aliases):
        variants = _dropin_names(name)
        found.extend(posixpath.join(root, f"{variant}.d") for root in unit_path for variant in variants)
    kind = unit.rpartition(".")[2]
    found.extend(posixpath.join(root, f"{kind}.d") for root in unit_path)
    return list(dict.fromkeys(found))


def _dropin_names(name: str) -> list[str]:
    stem, _dot, suffix = name.rpartition(".")
    prefix, at, instance = stem.partition("@")
    names = [name]
    if at and instance:
        names.extend(_dropin_names(f"{prefix}@.{suffix}"))
    shortened = prefix.rstrip("-").rpartition("-")[0].rstrip("-")
    if shortened:
        names.extend(_dropin_names(f"{shortened}-{at}{instance}.{suffix}"))
    return names


def dropins_in_order(listings: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """The paths of the drop-ins that count, in the order systemd reads them.

    `listings`: each directory with its file names, as `dropin_directories` orders them. Of two files of
    one name the first directory's counts; files are read sorted by name.
    Source: systemd v252 src/basic/conf-files.c (conf_files_list_strv).
    """
    chosen: dict[str, str] = {}
    for directory, names in listings:
        for name in names:
            if name.endswith(".conf"):
                chosen.setdefault(name, posixpath.join(directory, name))
    return [chosen[name] for name in sorted(chosen)]
