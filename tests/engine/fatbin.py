# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Empties a CUDA library of the code for other cards, so that what is left of it compresses to a part of its size.

Every container of .nv_fatbin holds an entry per architecture. The code of unwanted entries becomes zeros, their headers stay:
the driver chooses by the headers, and everything lies where it lay.
Layout: as found in libggml-cuda.so of CUDA 13 and told by `cuobjdump --list-elf --list-ptx` on it; NVIDIA documents none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAGIC = 0xBA55ED50
CONTAINER = struct.Struct("<IHHQ")  # magic, version, bytes of the header, bytes of the entries
ENTRY = struct.Struct("<HHIQIIHHI")  # kind, -, bytes of the header, bytes of the code, ..., architecture at last
PTX, SASS = 1, 2


class Entry(NamedTuple):
    """Code for one architecture (86: compute capability 8.6): compiled, or PTX that the driver compiles."""

    kind: int
    architecture: int
    code_start: int
    code_end: int


def entries(library: bytes | bytearray) -> Iterator[Entry]:
    """Every entry of every container."""
    at = library.find(MAGIC.to_bytes(4, "little"))
    while at >= 0:
        _unused, _unused, header_bytes, size = CONTAINER.unpack_from(library, at)
        end, at = at + header_bytes + size, at + header_bytes
        while at + ENTRY.size <= end:
            kind, _version, header_bytes, code_bytes, *_others, architecture = ENTRY.unpack_from(library, at)
            if kind not in (PTX, SASS):
                break
            start = at + header_bytes
            at = start + code_bytes
            yield Entry(kind, architecture, start, at)
        at = library.find(MAGIC.to_bytes(4, "little"), end)


def wanted(found: list[Entry], architecture: int) -> tuple[int, int]:
    """Which kind and architecture a card takes: compiled for it or an older minor of its generation, else the newest PTX.

    Raises: ValueError where the library has no code for such a card.
    """
    generation = architecture // 10
    compiled = {
        one.architecture
        for one in found
        if one.kind == SASS and one.architecture // 10 == generation and one.architecture <= architecture
    }
    if compiled:
        return SASS, max(compiled)
    ptx = {one.architecture for one in found if one.kind == PTX and one.architecture <= architecture}
    if not ptx:
        raise ValueError(f"no code for compute capability {generation}.{architecture % 10} in this library")
    return PTX, max(ptx)


def stripped(library: bytes, architecture: int) -> bytes:
    """The library with code for one card only."""
    found = list(entries(library))
    kind, chosen = wanted(found, architecture)
    kept = bytearray(library)
    for one in found:
        if (one.kind, one.architecture) != (kind, chosen):
            kept[one.code_start : one.code_end] = bytes(one.code_end - one.code_start)
    return bytes(kept)
