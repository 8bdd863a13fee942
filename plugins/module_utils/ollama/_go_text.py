# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers, booleans and durations as Go's standard library reads and prints them."""

from __future__ import annotations

import re

# Source: Go src/strconv/atob.go.
TRUE_TEXTS = frozenset(("1", "t", "T", "TRUE", "true", "True"))
FALSE_TEXTS = frozenset(("0", "f", "F", "FALSE", "false", "False"))
# Source: Go src/time/format.go (unitMap); both micro signs are accepted.
_UNIT_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION_PART = re.compile("([0-9]*)(?:\\.([0-9]*))?(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
# More digits than these say more than 64 bits of nanoseconds, or less than one nanosecond of an hour.
_WHOLE_DIGITS, _FRACTION_DIGITS = 19, 18
INT64_MAX = (1 << 63) - 1
UINT64_MAX = (1 << 64) - 1


def parse_uint(text: str) -> int | None:
    """An unsigned 64-bit number in base 10 (`strconv.ParseUint`); None when it does not parse."""
    if not re.fullmatch("0*[0-9]{1,20}", text):
        return None
    value = int(text.lstrip("0") or "0")
    return value if value <= UINT64_MAX else None


def parse_int(text: str) -> int | None:
    """A signed 64-bit number in base 10 (`strconv.ParseInt`); None when it does not parse."""
    if not re.fullmatch("[+-]?0*[0-9]{1,19}", text):
        return None
    sign = -1 if text[0] == "-" else 1
    value = sign * int(text.lstrip("+-0") or "0")
    return value if -INT64_MAX - 1 <= value <= INT64_MAX else None


def parse_bool(text: str) -> bool | None:
    """A boolean (`strconv.ParseBool`); None when it does not parse."""
    return True if text in TRUE_TEXTS else False if text in FALSE_TEXTS else None


def parse_duration_ns(text: str) -> int | None:
    """A duration in nanoseconds (`time.ParseDuration`); None when it does not parse.

    Source: Go src/time/format.go (ParseDuration).
    """
    sign = -1 if text[:1] == "-" else 1
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total = 0
    position = 0
    while position < len(rest):
        part = _DURATION_PART.match(rest, position)
        if part is None or not (part.group(1) or part.group(2)):
            return None
        unit = _UNIT_NANOSECONDS[part.group(3)]
        # Digits that Go reads and that change nothing: noughts in front, and parts of less than a nanosecond behind.
        whole, fraction = part.group(1).lstrip("0") or "0", (part.group(2) or "")[:_FRACTION_DIGITS]
        if len(whole) > _WHOLE_DIGITS:
            return None
        total += int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        position = part.end()
    if not rest or total > INT64_MAX:
        return None
    return sign * total


def duration_text(nanoseconds: int) -> str:
    """A duration as Go prints it: `5m0s`, `1.5s`, `250ms`, `0s`.

    Source: Go src/time/time.go (Duration.String).
    """
    if nanoseconds == 0:
        return "0s"
    sign = "-" if nanoseconds < 0 else ""
    rest = abs(nanoseconds)
    for unit, size in (("ns", 1), ("\u00b5s", 1_000), ("ms", 1_000_000)):
        if rest < size * 1000:
            return f"{sign}{_decimal(rest, size)}{unit}"
    hours, rest = divmod(rest, _UNIT_NANOSECONDS["h"])
    minutes, rest = divmod(rest, _UNIT_NANOSECONDS["m"])
    seconds = f"{_decimal(rest, _UNIT_NANOSECONDS['s'])}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    fraction = str(rest).zfill(len(str(size)) - 1).rstrip("0") if rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)
