# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small files of /proc and /sys, read with a bound."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

PROC = Path("/proc")
SYS = Path("/sys")

# What is read here are files of a few KiB and the beginning of command lines. Python makes room for all that it may read,
# which for hundreds of processes takes longer than the reading.
MAXIMUM_BYTES = 1 << 16


@dataclass(frozen=True)
class SystemMemory:
    """Memory of the host in bytes, None where /proc/meminfo does not say."""

    total_bytes: int | None = None
    available_bytes: int | None = None


def read_bytes(path: Path) -> bytes | None:
    """The beginning of a file, at most 64 KiB; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAXIMUM_BYTES)
    except OSError:
        return None


def read_text(path: Path) -> str | None:
    """The beginning of a file as text without surrounding space; None where it cannot be read."""
    data = read_bytes(path)
    return None if data is None else data.decode("utf-8", "replace").strip()


def read_int(path: Path) -> int | None:
    """A file that holds one number, decimal or 0x; None where it holds anything else."""
    return to_int(read_text(path))


def to_int(text: str | None) -> int | None:
    """A whole number, decimal or 0x, of at most 64 bits; None for anything else."""
    if text is None or not re.fullmatch(r"[0-9]{1,20}|0x[0-9a-fA-F]{1,16}", text):
        return None
    value = int(text, 16 if text.startswith("0x") else 10)
    return value if value < 1 << 64 else None


def system_memory(proc: Path = PROC) -> SystemMemory:
    """What /proc/meminfo says of the host's memory."""
    return parse_meminfo(read_text(proc / "meminfo") or "")


def parse_meminfo(text: str) -> SystemMemory:
    """MemTotal and MemAvailable of the text of /proc/meminfo, which counts in KiB."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+([0-9]{1,16}) kB$", text, re.MULTILINE))
    kib = {name: int(value) for name, value in found.items()}
    total, available = kib.get("MemTotal"), kib.get("MemAvailable")
    return SystemMemory(
        total_bytes=None if total is None else total * 1024,
        available_bytes=None if available is None else available * 1024,
    )
