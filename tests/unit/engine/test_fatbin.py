# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A CUDA library keeps the code for one card only, and everything lies where it lay."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

Program = Callable[[str], ModuleType]

PTX, SASS = 1, 2
CODES = [(PTX, 75), (PTX, 80), (SASS, 86), (SASS, 89), (PTX, 90), (SASS, 120)]
CODE_BYTES = 40


@pytest.fixture
def fatbin(program: Program) -> ModuleType:
    return program("fatbin")


@pytest.fixture
def library(fatbin: ModuleType) -> bytes:
    """Two containers between other bytes; the code of an entry is its architecture, again and again."""
    container = b""
    for kind, architecture in CODES:
        header = fatbin.ENTRY.pack(kind, 0, 64, CODE_BYTES, CODE_BYTES, 0, 1, 8, architecture)
        container += header.ljust(64, b"\0") + bytes([architecture]) * CODE_BYTES
    container = fatbin.CONTAINER.pack(fatbin.MAGIC, 1, 16, len(container)) + container
    return b"before" + container + b"between" + container + b"after"


def test_entries_are_read_from_every_container(fatbin: ModuleType, library: bytes) -> None:
    found = list(fatbin.entries(library))
    assert [(one.kind, one.architecture) for one in found] == CODES * 2
    assert all(
        library[one.code_start : one.code_end] == bytes([one.architecture]) * CODE_BYTES for one in found
    )


@pytest.mark.parametrize(
    ("card", "chosen"),
    [
        (86, (SASS, 86)),
        (87, (SASS, 86)),
        (89, (SASS, 89)),
        (90, (PTX, 90)),
        (103, (PTX, 90)),
        (80, (PTX, 80)),
        (75, (PTX, 75)),
        (121, (SASS, 120)),
    ],
)
def test_a_card_takes_what_is_compiled_for_its_generation_or_the_newest_ptx(
    fatbin: ModuleType, library: bytes, card: int, chosen: tuple[int, int]
) -> None:
    assert fatbin.wanted(list(fatbin.entries(library)), card) == chosen
    left = fatbin.stripped(library, card)
    assert len(left) == len(library)
    assert [(one.kind, one.architecture) for one in fatbin.entries(left)] == CODES * 2
    full = {
        (one.kind, one.architecture) for one in fatbin.entries(left) if any(left[one.code_start : one.code_end])
    }
    assert full == {chosen}


def test_a_card_older_than_all_code_is_named(fatbin: ModuleType, library: bytes) -> None:
    with pytest.raises(ValueError, match=r"no code for compute capability 6\.1 in this library"):
        fatbin.stripped(library, 61)
