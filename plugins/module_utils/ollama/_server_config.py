# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment as Ollama itself parsed it: its `server config` line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import as_printed

_LINE = re.compile(r'msg="server config" env="(?P<map>map\[(?:[^"\\]|\\.)*\])"')
# Go prints a map as name:value pairs in the order of the names. A value in brackets may hold spaces.
_NAME = re.compile(r"(?:^| )(?P<name>[A-Z][A-Z0-9_]*|https?_proxy|no_proxy):(?!//)")
_ESCAPE = re.compile(
    r"\\(?:x(?P<byte>[0-9a-f]{2})|u(?P<short>[0-9a-f]{4})|U(?P<long>[0-9a-f]{8})|(?P<one>.))", re.DOTALL
)
_LARGEST_CHARACTER = 0x10FFFF
_SHORT_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def find_server_config(messages: Iterable[str]) -> dict[str, str] | None:
    """The settings in the last `server config` line among the messages; None when there is no such line."""
    found = None
    for message in messages:
        match = _LINE.search(message)
        if match:
            found = parse_map(unquoted(match.group("map")))
    return found


def unquoted(text: str) -> str:
    """A text that Go has quoted, without its quotes. Source: Go src/strconv/quote.go (Quote), in which slog writes its values."""
    return _ESCAPE.sub(_character, text)


def _character(escape: re.Match[str]) -> str:
    if escape["byte"]:
        return bytes.fromhex(escape["byte"]).decode("utf-8", "surrogateescape")
    code = escape["short"] or escape["long"]
    if code:
        number = int(code, 16)
        return chr(number) if number <= _LARGEST_CHARACTER else escape[0]
    return _SHORT_ESCAPES.get(escape["one"], escape["one"])


def parse_map(text: str) -> dict[str, str]:
    """The pairs of a printed Go map `map[NAME:value NAME:value]`."""
    inner = text[len("map[") : -1]
    values: dict[str, str] = {}
    closing = _closing_brackets(inner)
    match = _NAME.search(inner)
    while match:
        value, end = _value(inner, match.end(), closing)
        values[match.group("name")] = value
        match = _NAME.search(inner, end)
    return values


def _closing_brackets(text: str) -> dict[int, int]:
    """Where the bracket is closed that opens at a position; found for all at once, however many are never closed."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for match in re.finditer(r"[\[\]]", text):
        if match.group() == "[":
            opened.append(match.start())
        elif opened:
            closing[opened.pop()] = match.start()
    return closing


def _value(inner: str, start: int, closing: Mapping[int, int]) -> tuple[str, int]:
    if start in closing:
        end = closing[start] + 1
        return inner[start:end], end
    following = _NAME.search(inner, start)
    end = following.start() if following else len(inner)
    return inner[start:end], end


def unparsed(server_config: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The settings Ollama took for something else than wanted: name -> (found, wanted), as it prints them."""
    differing = {}
    for name, value in wanted.items():
        expected = as_printed(name, value)
        if expected is not None and name in server_config and server_config[name] != expected:
            differing[name] = (server_config[name], expected)
    return differing
