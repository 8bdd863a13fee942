# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts and models are called in the file of a router, which takes fewer characters: no two names become one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping

# What HAProxy takes in names of backends and servers. Source: its manual, "Proxy names"; invalid_char() in src/tools.c, 2.8.
_TAKEN = "A-Za-z0-9._:-"
_DIGEST = re.compile(r"__[0-9a-f]{8,}\Z")
_LEAST_DIGITS, _MOST_DIGITS = 8, 64


def plain_names(names: Collection[str], stand_ins: Mapping[str, str]) -> dict[str, str]:
    """A plain name for each, which depends on no other name; distinct, also for who does not tell upper from lower case.

    `stand_ins`: what stands for a character. A name that cannot be read back from that alone ends with a part of its digest.
    """
    digits = _LEAST_DIGITS
    found = {name: _plain(name, stand_ins, digits) for name in names}
    # Beginnings of digests are only equal where somebody has looked for such names.
    while len({plain.lower() for plain in found.values()}) < len({name.lower() for name in found}) and digits < _MOST_DIGITS:
        digits *= 2
        found = {name: _plain(name, stand_ins, digits) for name in names}
    return found


def _plain(name: str, stand_ins: Mapping[str, str], digits: int) -> str:
    table: dict[str, str | int | None] = {**stand_ins}
    plain = read_back = re.sub(f"[^{_TAKEN}]", "_", name.translate(str.maketrans(table)))
    for character, stand_in in stand_ins.items():
        read_back = read_back.replace(stand_in, character)
    if name and read_back == name and not _DIGEST.search(name):
        return plain
    return f"{plain}__{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:digits]}"
