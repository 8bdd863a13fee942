# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which builds of the engine there are, which of them were measured, and which build a version of Ollama pins."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Tuple

Release = Tuple[int, int, int]

# llama.cpp's own releases by the number of the nearest build on the package index, whose llama.h is the same.
TAGS = {"v0.4.0": 10941, "v0.5.0": 11218}
_BUILD = re.compile(r"^b(\d{1,9})$")


@dataclass(frozen=True, order=True)
class EngineBuild:
    """A build of llama.cpp, whose numbers only grow.

    tag: the release that it is, where it is one. is_read: False for the build that stands for one that nobody has read.
    """

    number: int
    is_read: bool = True
    tag: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.tag or f"b{self.number}"


def parse_build(text: str) -> EngineBuild:
    """The build that a text such as `b10488` or `v0.5.0` names.

    Raises: ValueError when it names none.
    """
    if text in TAGS:
        return EngineBuild(TAGS[text], tag=text)
    match = _BUILD.match(text)
    if match is None:
        known = ", ".join(TAGS)
        raise ValueError(f"'{text:.80}' is no build of llama.cpp; expected e.g. b10488 or one of {known}.")
    return EngineBuild(int(match.group(1)))


class Standing(Enum):
    """How far the rules of a build are known."""

    MEASURED = "measured"
    INHERITED = "inherited"
    ESTIMATE = "estimate"


# Builds of which rows of the headers in tests/data were measured, all of them found as the rules foretell them.
# b10970 stands for b10969, and b10865 for b10864: they are one commit later, and these are what Ollama pins.
B10488 = EngineBuild(10488)
MEASURED = (
    EngineBuild(10068),
    EngineBuild(10361),
    B10488,
    EngineBuild(10630),
    EngineBuild(10760),
    EngineBuild(10865),
    parse_build("v0.4.0"),
    EngineBuild(10970),
    parse_build("v0.5.0"),
    EngineBuild(11434),
)
NEWEST_MEASURED = MEASURED[-1]
ONE_COMMIT_LATER = {10864: 10865, 10969: 10970}


def neighbours(build: EngineBuild) -> tuple[EngineBuild | None, EngineBuild | None]:
    """The measured builds at or before this one, and after it; None where there is none."""
    number = ONE_COMMIT_LATER.get(build.number, build.number)
    after = bisect_right([one.number for one in MEASURED], number)
    return (MEASURED[after - 1] if after else None), (MEASURED[after] if after < len(MEASURED) else None)


@dataclass(frozen=True)
class Pin:
    """The engine that Ollama pins from a release on.

    source: where that is said; empty where it is only the nearest build known.
    """

    since: Release
    build: EngineBuild
    source: str


def _read(since: Release, number: int) -> Pin:
    return Pin(since, EngineBuild(number), "LLAMA_CPP_VERSION in the source of the release")


def _unread(since: Release, build: EngineBuild) -> Pin:
    return Pin(since, replace(build, is_read=False), "")


# Source: ollama LLAMA_CPP_VERSION at the tags v0.30.0 to v0.33.0-rc2, and its pull requests 18003 (b10630), 18199
# (b10760), 18317 (b10864) and 18446 (b10969), of which it is not known in which release they first were. Users say of
# 0.34.2 that it has b10760.
PINS = (
    _read((0, 30, 0), 9452),
    _read((0, 30, 1), 9479),
    _read((0, 30, 4), 9493),
    _read((0, 30, 5), 9509),
    _read((0, 30, 9), 9626),
    _read((0, 30, 10), 9672),
    _read((0, 30, 11), 9781),
    _read((0, 31, 0), 9840),
    _read((0, 31, 2), 9888),
    _read((0, 32, 2), 10069),
    _read((0, 32, 3), 10091),
    _read((0, 32, 6), 10242),
    _read((0, 32, 8), 10353),
    _read((0, 32, 10), 10380),
    _read((0, 32, 14), 10434),
    _read((0, 32, 15), 10488),
    Pin((0, 33, 0), B10488, "LLAMA_CPP_VERSION in the source of its release candidate 0.33.0-rc2"),
    _unread((0, 33, 1), B10488),
    Pin((0, 34, 2), EngineBuild(10760), "what users say of that release"),
    _unread((0, 34, 3), NEWEST_MEASURED),
)


def pin_of(release: Release) -> Pin | None:
    """The engine of a release; None before 0.30, which had another."""
    reached = [pin for pin in PINS if release >= pin.since]
    return reached[-1] if reached else None
