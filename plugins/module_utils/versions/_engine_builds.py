# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which builds of the engine there are: llama.cpp's server, as Ollama 0.30 and later start it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class EngineBuild:
    """A build of llama.cpp, whose numbers only grow."""

    number: int

    def __str__(self) -> str:
        return f"b{self.number}"


# What Ollama v0.33.0-rc2 pins: the memory rules were read in its source and measured with it.
B10488 = EngineBuild(10488)

NEWEST_BUILD = B10488
