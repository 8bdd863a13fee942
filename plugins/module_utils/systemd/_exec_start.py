# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command of a unit makes of the variables that systemd gives it.

`ExecStart=` comes after every file: `env NAME=value`, a shell's line or a script may set a variable again. A program
of another kind is not looked into.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    NAME_PATTERN,
    split_words,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import (
    Conflict,
    UnitFile,
    service_settings,
)

_SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh", "ksh"))
# Options of shells that take the next word with them.
_SHELL_WITH_WORD = frozenset(("-o", "+o", "-O", "+O", "--rcfile", "--init-file"))
# Programs that start another one, which they name behind options and numbers of their own.
_LAUNCHERS = frozenset(
    (
        *("nice", "ionice", "chrt", "taskset", "numactl", "stdbuf", "setpriv", "setsid", "timeout", "time"),
        *("sudo", "runuser", "systemd-inhibit", "nohup", "chroot", "unshare", "prlimit", "choom"),
    )
)
# Options of env(1) that take the next word with them.
_ENV_WITH_WORD = frozenset(("-C", "--chdir", "-u", "--unset"))
_ENV_SPLIT = ("-S", "--split-string")
_ASSIGNED = re.compile(r"(?:^|[\s;&|({\"'])([A-Za-z_][A-Za-z0-9_]*)=([^\n;&|]*)")
_SOURCED = re.compile(r"(?:^|[\s;&|({])(?:source|\.)\s+[\"']?(?P<path>/[^\s;&|\"')]{1,4096})")
_UNSET = re.compile(r"(?:^|[\s;&|({])unset\s+(?:-v\s+)?([A-Za-z_][A-Za-z0-9_ ]*)")
# Before the path of an ExecStart=; systemd.service(5), "Special executable prefixes".
_PREFIXES = "@-:+!|"


@dataclass(frozen=True)
class Command:
    """One `ExecStart=` that counts: its words, and where it stands."""

    words: tuple[str, ...]
    file: str
    line: int


@dataclass(frozen=True)
class Effect:
    """A variable that a command sets or, where `removes`, takes away; of an empty name, every variable."""

    name: str
    removes: bool
    file: str
    line: int


def commands(files: Sequence[UnitFile]) -> list[Command]:
    """The commands that start the service, in systemd's order; an empty setting takes those before it back."""
    found: list[Command] = []
    for file in files:
        for setting in service_settings(file.text):
            if setting.key != "ExecStart":
                continue
            if not setting.value:
                found.clear()
                continue
            words = tuple(split_words(setting.value.lstrip(_PREFIXES)))
            found.append(Command(words, file.path, setting.line))
    return found


def scripts(started: Sequence[Command]) -> list[str]:
    """The paths of what may be scripts among what the commands start."""
    paths = [script for command in started for script in [_script(_behind_env(command.words)[1])] if script]
    return list(dict.fromkeys(paths))


def sourced(started: Sequence[Command], texts: Mapping[str, str]) -> list[str]:
    """The paths of the files that the shells and scripts among what the commands start read in."""
    lines = [line for command in started for line in lines_of(command, texts)]
    return list(dict.fromkeys(path for line in lines for path in _read_in(line)))


def program_of(command: Command) -> str:
    """The program that a command starts in the end, behind env, nice and their like; empty where it names none."""
    words = _behind_env(command.words)[1]
    return words[0] if words else ""


def lines_of(command: Command, texts: Mapping[str, str]) -> list[str]:
    """The lines of a shell that a command gives it or that stand in a script; `texts` as in `decisions`."""
    words = _behind_env(command.words)[1]
    line = _shell_line(words)
    script = texts.get(_script(words), "")
    return [*([line] if line is not None else []), *script.split("\n")]


def decisions(started: Sequence[Command], texts: Mapping[str, str]) -> list[Effect]:
    """What the commands make of variables; `texts`: the scripts among what they start and what these read in, by path."""
    found: list[Effect] = []
    for command in started:
        by_env, words = _behind_env(command.words)
        found += [Effect(name, removes, command.file, command.line) for name, removes in by_env]
        line = _shell_line(words)
        if line is not None:
            found += [Effect(name, gone, command.file, command.line) for name, gone in _in_line(line)]
            found += _of_sourced(line, texts)
        script = _script(words)
        if script in texts:
            for number, line in enumerate(texts[script].split("\n"), start=1):
                found += [Effect(name, gone, script, number) for name, gone in _in_line(line)]
                found += _of_sourced(line, texts)
    return found


def conflicts(decided: Iterable[Effect], wanted: Iterable[str]) -> list[Conflict]:
    """The wanted variables that a command decides, each with what to remove."""
    names = sorted(wanted)
    found: dict[str, Conflict] = {}
    for decision in decided:
        for name in [decision.name] if decision.name else names:
            if name in names:
                does = "takes away" if decision.removes else "sets"
                message = (
                    f"{decision.file}:{decision.line} {does} {name} itself, after every drop-in, when it starts Ollama "
                    "(ExecStart): remove it there"
                )
                found[name] = Conflict(name, decision.file, decision.line, message)
    return [found[name] for name in sorted(found)]


def _behind_env(words: Sequence[str]) -> tuple[list[tuple[str, bool]], Sequence[str]]:
    """What `env` sets and removes in front of a program, and the words from the program on."""
    found: list[tuple[str, bool]] = []
    words = _behind_launchers(words)
    while words and posixpath.basename(words[0]) == "env":
        words = words[1:]
        while words:
            word = words[0]
            name, separator, value = word.partition("=")
            split = _split_string(words)
            if split is not None:
                words = split
                continue
            if word in ("-", "-i", "--ignore-environment"):
                found.append(("", True))
            elif word in _ENV_WITH_WORD:
                found += [(words[1], True)] if word in ("-u", "--unset") and len(words) > 1 else []
                words = words[1:]
            elif name == "--unset" and separator:
                found.append((value, True))
            elif word.startswith("-u"):
                found.append((word[2:], True))
            elif separator and NAME_PATTERN.match(name):
                found += [] if _refers(value, name) else [(name, False)]
            elif not word.startswith("-"):
                break
            words = words[1:]
        words = _behind_launchers(words)
    return found, words


def _split_string(words: Sequence[str]) -> Sequence[str] | None:
    """The words behind `env -S`, which makes several of one; None where that is not the next option."""
    word = words[0]
    if word in _ENV_SPLIT:
        return [*split_words(words[1]), *words[2:]] if len(words) > 1 else []
    for option in ("-S", "--split-string="):
        if word.startswith(option):
            return [*split_words(word[len(option) :]), *words[1:]]
    return None


def _behind_launchers(words: Sequence[str]) -> Sequence[str]:
    """The words from the program on that `nice`, `taskset` and their like start."""
    while words and posixpath.basename(words[0]) in _LAUNCHERS:
        words = words[1:]
        while words and not _is_program(words[0]):
            words = words[1:]
    return words


def _is_program(word: str) -> bool:
    return word.startswith("/") or word in _LAUNCHERS or word in _SHELLS or word == "env"


def _shell_line(words: Sequence[str]) -> str | None:
    """The line that a shell is given by -c, alone or among other letters; None where there is none."""
    if not _is_shell(words):
        return None
    words = list(words[1:])
    has_line = False
    while words and words[0][:1] in ("-", "+"):
        option = words.pop(0)
        if option in _SHELL_WITH_WORD:
            del words[:1]
        has_line = has_line or (option[0] == "-" and option[1:2] != "-" and "c" in option)
    return words[0] if has_line and words else None


def _is_shell(words: Sequence[str]) -> bool:
    return bool(words) and posixpath.basename(words[0]) in _SHELLS


def _script(words: Sequence[str]) -> str:
    """The path of what may be a script; empty where there is none."""
    if _is_shell(words):
        if _shell_line(words) is not None:
            return ""
        words = [word for word in words[1:] if not word.startswith("-")]
    return words[0] if words and words[0].startswith("/") else ""


def _in_line(line: str) -> Iterator[tuple[str, bool]]:
    if line.lstrip().startswith("#"):
        return
    for found in _ASSIGNED.finditer(line):
        if not _refers(found[2], found[1]):
            yield found[1], False
    for found in _UNSET.finditer(line):
        for name in found[1].split():
            yield name, True


def _read_in(line: str) -> list[str]:
    return [] if line.lstrip().startswith("#") else [match["path"] for match in _SOURCED.finditer(line)]


def _of_sourced(line: str, texts: Mapping[str, str]) -> Iterator[Effect]:
    """What the files make of variables that a line reads in; what they read in themselves is not looked at."""
    for path in _read_in(line):
        for number, read in enumerate(texts.get(path, "").split("\n"), start=1):
            for name, gone in _in_line(read):
                yield Effect(name, gone, path, number)


def _refers(value: str, name: str) -> bool:
    """Whether a value is made of the variable itself, and so keeps what it was given."""
    return re.search(rf"\$\{{?{name}(?![A-Za-z0-9_])", value) is not None
