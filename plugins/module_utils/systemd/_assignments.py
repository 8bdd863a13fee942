# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment assignments as systemd writes and reads them: pure text in, pure text out.

Three notations meet here: `Environment=` lines of unit files, the `Environment` property that
`systemctl show` prints, and the files named by `EnvironmentFile=`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import MASK

# Source: systemd v252 src/basic/env-util.c (env_name_is_valid).
NAME_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# One string of an environment block, with its final NUL. Source: Linux include/uapi/linux/binfmts.h
# (MAX_ARG_STRLEN = 32 pages of 4096 bytes); execve(2) fails with E2BIG above it.
ASSIGNMENT_LIMIT_BYTES = 131072

_BACKSLASH_LETTERS = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "s": " ",
}  # fmt: skip
_HEXADECIMAL_ESCAPES = {"x": 2, "u": 4, "U": 8}
_WHITESPACE = " \t\n\r"


class Assignment(NamedTuple):
    """One variable and its value, both as the process would see them."""

    name: str
    value: str


def value_text(name: str, value: object) -> str:
    """The text that a value from YAML has in an environment: `true`, `3`, `5m`.

    Raises: ValueError when the value is neither text, a number nor a boolean.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(
        f"{told_name(name)}: an environment value must be text, a number or a boolean, not {type(value).__name__}"
    )


def told_name(name: str) -> str:
    """A variable's name as it may be told: what stands behind a `=` was meant as a value, and may be a secret."""
    before, separator, _value = name.partition("=")
    return f"{before}={MASK}" if separator else name


def name_refusal(name: str) -> str | None:
    """The sentence that says why no variable can have this name; None when one can."""
    if NAME_PATTERN.match(name):
        return None
    return (
        f"{told_name(name)!r} is not a name that systemd accepts for an environment variable: "
        "use letters, digits and underscores, and no digit first"
    )


def refusal(name: str, value: str) -> str | None:
    """The sentence that says why systemd cannot carry an assignment; None when it can.

    Source: systemd v252 src/basic/env-util.c (env_assignment_is_valid), src/basic/utf8.c
    (unichar_is_valid); v247 of the same file refuses control characters other than the tab.
    """
    refused = name_refusal(name)
    if refused:
        return refused
    if MASK in value:
        return (
            f"{name}: the value is masked, because a plan holds no secrets: give your own, as in "
            "ollama_plan.environment | combine(ollama_plan_operator_environment)"
        )
    for character in value:
        reason = _character_refusal(ord(character))
        if reason:
            return f"{name}: the value holds {reason}, which systemd does not carry: remove it"
    if len(f"{name}={value}".encode()) + 1 > ASSIGNMENT_LIMIT_BYTES:
        return (
            f"{name}: the value is longer than the {ASSIGNMENT_LIMIT_BYTES} bytes Linux passes to a process"
        )
    return None


def _character_refusal(code: int) -> str | None:
    if code == 0x0A:
        return "a newline"
    if code == 0:
        return "a NUL character"
    if (code < 0x20 and code != 0x09) or code == 0x7F:
        return f"the control character U+{code:04X}"
    if 0xD800 <= code <= 0xDFFF:
        return f"the surrogate U+{code:04X} (bytes that are not UTF-8)"
    if 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE:
        return f"the noncharacter U+{code:04X}"
    return None


def quote_assignment(name: str, value: str) -> str:
    """The right-hand side of `Environment=` in a unit file for one variable.

    Raises: ValueError when systemd cannot carry the assignment; the sentence names the variable and the
    reason.
    """
    reason = refusal(name, value)
    if reason:
        raise ValueError(reason)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{name}={escaped}"'


def environment_lines(environment: Mapping[str, object]) -> list[str]:
    """The `Environment=` lines of a drop-in, one for each variable, sorted by name.

    Raises: ValueError when a variable cannot be carried; the sentence names it.
    """
    return [
        f"Environment={quote_assignment(name, value_text(name, environment[name]))}"
        for name in sorted(environment, key=str)
    ]


def parse_assignments(text: str) -> list[Assignment]:
    """The assignments of one `Environment=` right-hand side, in order, as systemd takes them.

    Words that systemd ignores (no `=`, bad name) are left out, and so is everything from the first
    word on that is not well-formed. `%%` becomes `%`; other specifiers stay as they are written.

    Source: systemd v252 src/core/load-fragment.c (config_parse_environ), src/basic/extract-word.c.
    """
    found = []
    for word in split_words(text):
        name, separator, value = word.replace("%%", "%").partition("=")
        if separator and NAME_PATTERN.match(name):
            found.append(Assignment(name, value))
    return found


def split_words(text: str) -> Iterator[str]:
    """The words of a unit file's right-hand side, unquoted and unescaped, up to the first malformed one."""
    with contextlib.suppress(_MalformedError):
        yield from _unit_file_words(text)


def is_well_formed(text: str) -> bool:
    """Whether every word of a unit file's right-hand side can be read and is an assignment."""
    try:
        parts = [word.partition("=") for word in _unit_file_words(text)]
    except _MalformedError:
        return False
    return all(separator and NAME_PATTERN.match(name) for name, separator, _value in parts)


class _MalformedError(ValueError):
    """The rest of a line cannot be split into words."""


def _unit_file_words(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        if text[position] in _WHITESPACE:
            position += 1
        else:
            word, position = _unit_file_word(text, position)
            yield word


def _unit_file_word(text: str, position: int) -> tuple[str, int]:
    parts: list[str] = []
    quote = ""
    while position < len(text):
        character = text[position]
        if character == "\\":
            part, position = _unescape(text, position + 1)
            parts.append(part)
            continue
        position += 1
        if quote:
            if character == quote:
                quote = ""
            else:
                parts.append(character)
        elif character in "\"'":
            quote = character
        elif character in _WHITESPACE:
            return _join(parts), position
        else:
            parts.append(character)
    if quote:
        raise _MalformedError
    return _join(parts), position


def _unescape(text: str, position: int) -> tuple[str, int]:
    """One C escape, the backslash already read; a single byte comes back as a surrogate escape."""
    if position >= len(text):
        raise _MalformedError
    letter = text[position]
    if letter in _BACKSLASH_LETTERS:
        return _BACKSLASH_LETTERS[letter], position + 1
    if letter in _HEXADECIMAL_ESCAPES:
        start, digits, base = position + 1, _HEXADECIMAL_ESCAPES[letter], 16
    elif letter in "01234567":
        start, digits, base = position, 3, 8
    else:
        raise _MalformedError
    digits_text = text[start : start + digits]
    if len(digits_text) < digits or not re.fullmatch("[0-7]+" if base == 8 else "[0-9A-Fa-f]+", digits_text):
        raise _MalformedError
    code = int(digits_text, base)
    is_byte = letter not in "uU"
    if code == 0 or code > (0xFF if is_byte else 0x10FFFF) or 0xD800 <= code <= 0xDFFF:
        raise _MalformedError
    if is_byte and code >= 0x80:
        return chr(0xDC00 + code), start + digits
    return chr(code), start + digits


def _join(parts: list[str]) -> str:
    """Joins characters and surrogate-escaped bytes into text; bytes that are UTF-8 become characters."""
    return "".join(parts).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def parse_shown_environment(text: str) -> list[Assignment]:
    r"""The assignments of the `Environment` property as `systemctl show` prints it.

    Source: systemd v252 src/basic/escape.c (shell_maybe_quote): a word that needs it stands in double
    quotes, with `\`, `"`, `$` and the backtick behind a backslash and control characters as C escapes.

    Raises: ValueError when the text is not what `systemctl show` prints.
    """
    found = []
    for word in _shown_words(text):
        name, separator, value = word.partition("=")
        if not separator:
            raise ValueError(f"systemctl show printed the word {name!r}, which is no assignment")
        found.append(Assignment(name, value))
    return found


def _shown_words(text: str) -> Iterator[str]:
    text = f"{text} "  # every word ends with one
    position = 0
    while position < len(text):
        if text[position] == " ":
            position += 1
        elif text[position] == '"':
            word, position = _shown_quoted_word(text, position + 1)
            yield word
        else:
            end = text.index(" ", position)
            yield text[position:end]
            position = end


def _shown_quoted_word(text: str, position: int) -> tuple[str, int]:
    parts: list[str] = []
    while position < len(text):
        character = text[position]
        position += 1
        if character == '"':
            return _join(parts), position
        if character != "\\":
            parts.append(character)
        elif text[position : position + 1] in ("$", "`"):
            parts.append(text[position])
            position += 1
        else:
            try:
                part, position = _unescape(text, position)
            except _MalformedError:
                break
            parts.append(part)
    raise ValueError("systemctl show printed a quoted word that does not end")


def parse_environment_file(text: str) -> list[tuple[int, Assignment]]:
    """The assignments of an `EnvironmentFile=`, each with the line (from 1) it begins on.

    Source: systemd v252 src/basic/env-file.c (parse_env_file_internal); a backslash at the end of a
    comment line continues it before v254 and does not from then on: here it does not.
    """
    found: list[tuple[int, Assignment]] = []
    position, line = 0, 1
    while position < len(text):
        start_line = line
        if text[position] in _WHITESPACE:
            line += text[position] == "\n"
            position += 1
            continue
        if text[position] in "#;":
            position = _line_end(text, position)
            continue
        end = position
        while end < len(text) and text[end] not in "=\n\r":
            end += 1
        name = text[position:end].strip(_WHITESPACE)
        if end >= len(text) or text[end] != "=":
            position = end
            continue
        value, position = _environment_file_value(text, end + 1)
        line += text.count("\n", end, position)
        if NAME_PATTERN.match(name):
            found.append((start_line, Assignment(name, value)))
    return found


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _environment_file_value(text: str, position: int) -> tuple[str, int]:
    """A value from behind the `=` to the newline that ends it (not consumed)."""
    value: list[str] = []
    kept = 0  # length of the value up to its last character that is not unquoted trailing white space
    in_value = False
    quote = ""
    while position < len(text):
        character = text[position]
        following = text[position + 1 : position + 2]
        if quote == "'":
            if character == "'":
                quote = ""
            else:
                value.append(character)
            kept = len(value)
        elif quote:
            if character == '"':
                quote = ""
            elif character == "\\":
                position += 1
                if following in '"\\`$':
                    value.append(following)
                elif following != "\n":
                    value.extend(("\\", following))
            else:
                value.append(character)
            kept = len(value)
        elif character in "\n\r":
            break
        elif character == "\\":
            position += 1
            if following and following not in "\n\r":
                value.append(following)
            kept = len(value)
            in_value = True
        elif character in "\"'" and not in_value:
            quote = character
        elif character in _WHITESPACE:
            if in_value:
                value.append(character)
        else:
            value.append(character)
            kept = len(value)
            in_value = True
        position += 1
    return "".join(value[:kept]), position


def parse_process_environment(content: bytes) -> dict[str, str]:
    """The variables of `/proc/PID/environ`; bytes that are not UTF-8 become surrogate escapes."""
    variables: dict[str, str] = {}
    for entry in content.split(b"\0"):
        name, separator, value = entry.partition(b"=")
        if separator and name:
            variables.setdefault(
                name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
            )
    return variables
