# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret values of our drop-in, in a file beside it that its owner alone may read.

`systemctl show` tells every user of a host what `Environment=` sets, whatever the mode of the file, and what
`LoadCredential=` loads comes as a file, which Ollama does not read. An `EnvironmentFile=` is read by the service
manager itself, before it becomes the unit's user, and its values are shown to nobody.

Both files are one text wherever a drop-in is compared, kept or taken back, so that they always belong together:
the drop-in, and behind it the environment file. Only reading and writing knows of two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    NAME_PATTERN,
    is_well_formed,
    parse_environment_file,
    refusal,
    split_words,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import (
    DROP_IN,
    END_OF_LINE,
    Directive,
    UnitFile,
    secret_file_setting,
    service_settings,
    unit_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import cut_at_secret, masked

MARKER = "# Written by gpufleet.ollama, which replaces this file: put your own settings in another drop-in."
# Stands between the two files where they are one text.
BOUNDARY = "# Secret values, in a file that its owner alone may read:"


def joined(dropin: str, secret_file: str | None) -> str:
    """The one text of a drop-in and of its environment file (None: it has none)."""
    if secret_file is None:
        return dropin
    newline = "" if dropin.endswith("\n") else "\n"
    return f"{dropin}{newline}{BOUNDARY}\n{secret_file}"


def halves(text: str) -> tuple[str, str | None]:
    """The drop-in and its environment file, None where it has none."""
    dropin, boundary, secret_file = text.rpartition(f"{BOUNDARY}\n")
    return (dropin, secret_file) if boundary else (text, None)


def refers_to_secret_file(dropin: str, path: str) -> bool:
    """Whether the drop-in at `path` names the environment file beside it."""
    setting = secret_file_setting(path)
    return any(f"{found.key}={found.value}" == setting for found in service_settings(dropin))


def variables_of(text: str | None) -> dict[str, str]:
    """The variables that our drop-in sets, those of its environment file included."""
    if text is None:
        return {}
    dropin, secret_file = halves(text)
    assignments = unit_environment([UnitFile("", DROP_IN, dropin)]).assignments
    found = {name: origins[-1].value for name, origins in assignments.items()}
    found.update(assignment for _line, assignment in parse_environment_file(secret_file or ""))
    return found


def parted(text: str, path: str) -> str:
    """The drop-in's text with the secrets of its `Environment=` lines moved to the environment file.

    Raises: ValueError when a secret cannot be moved; the sentence names the variable, or the line, and what
    to do.
    """
    dropin, secret_file = halves(text)
    secrets: dict[str, str] = {}
    moved: list[tuple[Directive, list[str]]] = []
    for setting in service_settings(dropin):
        if setting.key != "Environment":
            continue
        if not setting.value:
            secrets.clear()
        kept = []
        words = list(split_words(setting.value))
        for word in words:
            name, value = _assignment(word)
            if name and masked(name, value) != value:
                if "%" in word.replace("%%", ""):
                    raise ValueError(
                        f"{name}: the value holds a specifier (%), which systemd does not expand in a secret: "
                        "write its value, or %% for a percent sign"
                    )
                secrets[name] = value
            else:
                secrets.pop(name, None)
                kept.append(word)
        if not is_well_formed(setting.value) and cut_at_secret(setting.value) != setting.value:
            raise ValueError(
                f"line {setting.line} of the drop-in is not well-formed and holds a secret: "
                "check its quotes, and write each variable as its own Environment= line"
            )
        if len(kept) < len(words):
            moved.append((setting, kept))
    # systemd reads the file behind all lines: neither they nor an empty one take back what it sets.
    secrets.update(assignment for _line, assignment in parse_environment_file(secret_file or ""))
    for name, value in secrets.items():
        _check(name, value)
    if not secrets:  # what was moved is set again behind it, or taken back
        return _without(dropin, moved, "")
    reference = "" if refers_to_secret_file(dropin, path) else secret_file_setting(path)
    return joined(_without(dropin, moved, reference), _environment_file(secrets))


def _assignment(word: str) -> tuple[str, str]:
    name, separator, value = word.partition("=")
    return (name, value.replace("%%", "%")) if separator and NAME_PATTERN.match(name) else ("", "")


def _check(name: str, value: str) -> None:
    reason = refusal(name, value)
    if reason:
        raise ValueError(reason)


def _without(dropin: str, moved: list[tuple[Directive, list[str]]], reference: str) -> str:
    """The drop-in with only those words of the settings that were kept, and with the reference in the first one's place."""
    parts = END_OF_LINE.split(dropin)
    lines: list[str | None] = [line + end for line, end in zip(parts[::2], [*parts[1::2], ""])]
    for setting, kept in moved:
        instead = [f"Environment={' '.join(map(_quoted, kept))}"] if kept else []
        instead += [reference] if reference else []
        reference = ""
        lines[setting.line - 1 : setting.last_line] = [None] * (setting.last_line - setting.line + 1)
        lines[setting.line - 1] = "".join(f"{line}\n" for line in instead)
    return "".join(line for line in lines if line is not None)


def _quoted(word: str) -> str:
    """A word of a unit file, whose specifiers stay."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _environment_file(secrets: Mapping[str, str]) -> str:
    return "\n".join([MARKER, *_environment_lines(secrets)]) + "\n"


def _environment_lines(secrets: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(secrets):
        # Source: systemd v252 src/basic/env-file.c, DOUBLE_QUOTE_VALUE_ESCAPE.
        escaped = "".join(f"\\{letter}" if letter in '"\\`$' else letter for letter in secrets[name])
        yield f'{name}="{escaped}"'
