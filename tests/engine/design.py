# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which runs of a model are measured: those of the tables, for a model that they do not know a small design of its own."""

from __future__ import annotations

import csv
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _checkout
from probe import Device, Point

ONE_GPU_TABLE = _checkout.DATA / "engine_memory.csv"
SEVERAL_GPUS_TABLE = _checkout.DATA / "engine_memory_multi_gpu.csv"
# With these every rule is met: a whole and a partial ubatch per slot, one slot and many, each kind of attention.
CONTEXTS = (4096, 32768)
SLOTS_AND_UBATCH = ((1, 512), (3, 1024), (4, 512), (8, 2048))
KINDS = (("f16", "auto"), ("q8_0", "auto"), ("f16", "off"))
EMBEDDING_SLOTS_AND_UBATCH = ((1, 512), (1, 1024))
MEMORY_GIB = ("24+24", "24+24+24+24")
# The tables' other modes turn pipelining off by options that Ollama does not give.
MODES = ("default", "single")
EMBEDDERS = ("bert", "nomic-bert")
GIB_IN_MIB = 1024


@dataclass(frozen=True)
class Memory:
    """Total and free memory of each device of a run, in GiB, as the tables spell it."""

    total: str
    free: str = ""

    def devices(self) -> tuple[Device, ...]:
        """The simulated GPUs."""
        totals = self.total.split("+")
        free = (self.free or self.total).split("+")
        return tuple(
            Device(float(one) * GIB_IN_MIB, float(left) * GIB_IN_MIB) for one, left in zip(totals, free)
        )


def is_embedder(header: Mapping[str, Any]) -> bool:
    """Whether the engine is started for embeddings: encoders, and decoders with a kind of pooling."""
    metadata = header["metadata"]
    architecture = metadata["general.architecture"]
    return architecture in EMBEDDERS or f"{architecture}.pooling_type" in metadata


def default_points(header: Mapping[str, Any]) -> list[Point]:
    """The small design."""
    if is_embedder(header):
        most = int(header["metadata"][f"{header['metadata']['general.architecture']}.context_length"])
        pairs = itertools.product((min(512, most), min(4096, most)), EMBEDDING_SLOTS_AND_UBATCH)
        return [Point(context, slots, ubatch, is_embedding=True) for context, (slots, ubatch) in pairs]
    return [
        Point(context, slots, ubatch, cache_type, flash_attention)
        for context, (slots, ubatch), (cache_type, flash_attention) in itertools.product(
            CONTEXTS, SLOTS_AND_UBATCH, KINDS
        )
    ]


def point_of(row: Mapping[str, str], header: Mapping[str, Any]) -> Point:
    """How a row of a table was started."""
    return Point(
        int(row["ctx"]), int(row["parallel"]), int(row["ubatch"]), row["kv_type"], row["fa"], is_embedder(header)
    )


def read(table: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def one_gpu_points(
    header: Mapping[str, Any], rows: Iterable[Mapping[str, str]], every: int = 1
) -> list[Point]:
    """The points of a model on one GPU, each `every`th of them; 0: none."""
    if not every:
        return []
    known = [point_of(row, header) for row in rows if row["model"] == header["name"] and row["backend"] == "cuda"]
    return (list(dict.fromkeys(known)) or default_points(header))[::every]


def several_gpus_points(
    header: Mapping[str, Any], rows: Iterable[Mapping[str, str]], every: int = 1
) -> dict[tuple[str, Memory], list[Point]]:
    """The points of a model on several GPUs by mode and memory, each `every`th of them; 0: none."""
    if not every:
        return {}
    known: dict[tuple[str, Memory], dict[Point, None]] = defaultdict(dict)
    for row in rows:
        if row["model"] == header["name"] and row["mode"] in MODES:
            memory = Memory(row["gpu_mem_gib"], row["gpu_free_gib"])
            known[row["mode"], memory][point_of(row, header)] = None
    if not known and not is_embedder(header):
        known = {("default", Memory(total)): dict.fromkeys(default_points(header)) for total in MEMORY_GIB}
    return {key: kept for key, points in known.items() if (kept := list(points)[::every])}
