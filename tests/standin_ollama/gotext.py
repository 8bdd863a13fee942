# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How Go writes and reads what Ollama shows: durations, JSON, log lines, sizes for people."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any

NANOSECONDS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
# Source: Go src/log/slog/level.go.
LEVELS = {"DEBUG": -4, "INFO": 0, "WARN": 4, "ERROR": 8}
FOREVER_NS = 2**63 - 1
_NUMBER_AND_UNIT = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_NEEDS_QUOTES = re.compile(r'[\s"=]|[^\x20-\x7e]')
_SHORT_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
    "\v": "\\v",
}  # fmt: skip
_write_lock = threading.Lock()


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration such as ``1h30m`` or ``-1s``.

    Raises: ValueError with Go's own words.
    """
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text[1:] if text[:1] == "+" else text)
    if rest == "0":
        return 0
    parts = list(_NUMBER_AND_UNIT.finditer(rest))
    if not rest or "".join(part.group(0) for part in parts) != rest:
        missing_unit = re.fullmatch(r"[\d.]+", rest) is not None
        kind = "missing unit in" if missing_unit else "invalid"
        raise ValueError(f'time: {kind} duration "{text}"')
    return sign * sum(int(float(part.group(1)) * NANOSECONDS[part.group(2)]) for part in parts)


def format_duration(nanoseconds: int) -> str:
    """A duration as Go prints it, ``5m0s`` for instance."""
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1000), ("ms", 10**6)):
        if nanoseconds < size * 1000:
            return f"{_trim(nanoseconds, size)}{unit}"
    hours, rest = divmod(nanoseconds, NANOSECONDS["h"])
    minutes, rest = divmod(rest, NANOSECONDS["m"])
    seconds = f"{_trim(rest, 10**9)}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _trim(value: int, size: int) -> str:
    whole, part = divmod(value, size)
    digits = str(part).zfill(len(str(size)) - 1).rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


def parse_bool(text: str) -> bool:
    """Go's strconv.ParseBool. Raises: ValueError."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(text)


def to_json(value: Any) -> str:
    """JSON in the form of Go's encoder: compact, with ``<``, ``>`` and ``&`` escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 with nanoseconds, UTC, without trailing zeros; Go's year 2319 where it means 'never'."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + digits + "Z"


def human_size(size_bytes: int) -> str:
    """Bytes as Ollama's HumanBytes2 prints them, ``23.5 GiB`` for instance."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"


def log_line(level: str, source: str, message: str, **fields: Any) -> str:
    """One line as Go's slog text handler writes it."""
    now = time.time()
    stamp = (
        datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        + f".{int(now * 1000) % 1000:03d}Z"
    )
    pairs = [("time", stamp), ("level", level), ("source", source), ("msg", message), *fields.items()]
    return " ".join(f"{key}={_quote(value)}" for key, value in pairs)


def _quote(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return quote(text) if text == "" or _NEEDS_QUOTES.search(text) else text


def quote(text: str) -> str:
    """Go's strconv.Quote. Source: Go src/strconv/quote.go."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if character == " " or (character.isprintable() and code != 0x7F):
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Level:
    """The least level that is written: OLLAMA_DEBUG sets it."""

    least = 0


def set_level(name: str) -> None:
    """Take a level as ``server config`` shows it: INFO, DEBUG, DEBUG-4, WARN, ERROR+2."""
    base = next(known for known in LEVELS if name.startswith(known))
    Level.least = LEVELS[base] + int(name[len(base) :] or 0)


def log(level: str, source: str, message: str, **fields: Any) -> None:
    """Write one log line to standard error, where the journal takes it."""
    if LEVELS[level] >= Level.least:
        write(log_line(level, source, message, **fields))


def write(line: str) -> None:
    """Write one whole line to standard error."""
    with _write_lock:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
