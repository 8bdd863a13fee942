# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How sizes are counted, rounded up and written: bytes for machines, GiB and MiB for people."""

from __future__ import annotations

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# What of a disk stays free when models are pulled, unless somebody says otherwise.
KEEP_FREE_BYTES = GIB


def padded(count: int, multiple: int) -> int:
    """The count rounded up to a multiple."""
    return -(-count // multiple) * multiple


def gib(size_bytes: int) -> str:
    """A size in GiB, as `9.1 GiB`."""
    return f"{gib_number(size_bytes)} GiB"


def gib_above(size_bytes: int) -> str:
    """A size in whole GiB that is no less, as `10 GiB`."""
    return f"{-(-size_bytes // GIB)} GiB"


def gib_number(size_bytes: int) -> str:
    """A size in GiB for a column that says so, as `9.1`."""
    return f"{size_bytes / GIB:.1f}"


def gib_or_mib(size_bytes: int) -> str:
    """A size in GiB, below one GiB in MiB, as `9.1 GiB` or `457 MiB`."""
    return gib(size_bytes) if size_bytes >= GIB else f"{size_bytes / MIB:.0f} MiB"


def whole_mib(size_bytes: int) -> str:
    """A size in MiB that is no less, as `458 MiB`."""
    return f"{-(-size_bytes // MIB)} MiB"
