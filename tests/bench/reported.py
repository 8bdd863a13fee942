# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the memory rules of Ollama 0.10.0 to 0.24 against what users reported of those versions."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import _collection
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._layout import lay_out
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._memory_formula import (
    MINIMUM_GPU_BYTES,
    BelievedMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._memory_go_engine import (
    believed_memory,
    runs_in_go_engine,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._placement import SchedulerGpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._versions import (
    OLDEST_KNOWN,
    Era,
    parse,
    rules,
)

GIB = 1 << 30
MIB = 1 << 20
BYTES_OF_UNIT = {"GB": 10**9, "GiB": GIB, "MiB": MIB}
TOLERANCE_PERCENT = 10.0

# What a row leaves open, by its id: the version where it gives none or a range, its header by other names.
VERSIONS = {
    "1": "0.12.0",
    "2": "0.12.0",
    # The size of the graph doubles with the slots only from 0.11.5 on.
    "4": "0.11.8",
    "5": "0.11.8",
    "7": "0.11.8",
    "20": "0.11.0",
    "23": "0.11.10",
    "34": "0.12.2",
    "35": "0.23.0",
    "52": "0.14.3",
}
HEADERS = {"35": "qwen2.5_7b"}
# gemma3:4b is pulled with its vision tower, which the headers at hand leave out.
GEMMA3_TOWER_BYTES = int(811.8 * MIB)
PROJECTORS = {"gemma3:4b": GEMMA3_TOWER_BYTES}
H100_NVL = SchedulerGpu(0, 94 * GIB, int(93.1 * GIB))
GPUS = {"7": (H100_NVL,) * 4}
REASONS = {
    "43": "no header of qwen3:30b-a3b is at hand",
    "44": "measured by the driver, other processes included; no header of qwen3:30b-a3b is at hand",
    "46": "measured by the driver, other processes included; no header of qwen3:30b-a3b is at hand",
}


@dataclass(frozen=True)
class Finding:
    """A reported row and what the rules give for it, in bytes; `reason` where they give nothing."""

    number: str
    model: str
    version: str
    metric: str
    reported_bytes: float
    ours_bytes: float
    reason: str = ""

    @property
    def error_percent(self) -> float:
        return 100.0 * (self.ours_bytes / self.reported_bytes - 1)


def findings(rows: Iterable[Mapping[str, str]], headers: Path) -> list[Finding]:
    """All rows, with the error or with the reason why there is none."""
    return [finding(row, headers) for row in rows]


def finding(row: Mapping[str, str], headers: Path) -> Finding:
    """One row held against the rules of its version."""
    version = VERSIONS.get(row["id"]) or row["ollama_version"].split("-dev")[0].replace(".x", ".0")
    reported = float(row["value"]) * BYTES_OF_UNIT[row["unit"]] if row["value"] else 0.0
    header = headers / f"{HEADERS.get(row['id'], row['model'].replace(':', '_'))}.json"
    reason = _reason(row, version, header)
    if reason:
        return Finding(row["id"], row["model"], version, row["metric"], reported, 0.0, reason)
    shape = shape_from_header(
        json.loads(header.read_text()), name=row["model"], projector_bytes=PROJECTORS.get(row["model"], 0)
    )
    flash = {"on": "on", "off": "off"}.get(row["flash_attn"], "auto")
    memory = believed_memory(
        shape,
        context_length=int(row["ctx_per_slot"]),
        parallel=int(row["parallel"]),
        batch=512,
        kv_cache_type=row["kv_type"],
        flash_attention=flash,
        version=parse(version),
    )
    return Finding(
        row["id"], row["model"], version, row["metric"], reported, _ours(row, shape, memory, version)
    )


def _reason(row: Mapping[str, str], version: str, header: Path) -> str:
    """Why a row cannot be compared; empty where it can."""
    if row["engine_era"] in ("B", "C"):
        return f"older than {'.'.join(str(part) for part in OLDEST_KNOWN)}, so it is refused"
    if row["engine_era"].startswith("F"):
        return "llama-server, see tests/bench/accuracy.py"
    if row["id"] in REASONS:
        return REASONS[row["id"]]
    if not header.exists():
        return f"no header of {row['model']} is at hand"
    if rules(version).era is Era.LLAMA_SERVER:
        return "llama-server, see tests/bench/accuracy.py"
    return ""


def _ours(row: Mapping[str, str], shape: ModelShape, memory: BelievedMemory, version: str) -> float:
    """The size that the row's source shows: with or without what Ollama sets aside, and the host's part."""
    if row["id"] in GPUS:
        gpus = GPUS[row["id"]]
        free = [gpu.free_bytes for gpu in gpus]
        layout = lay_out(memory, gpus, free, num_gpu=-1, overhead_bytes=0, spread=False, is_go_engine=False)
        return float(sum(layout.bytes_each))
    if row["metric"] == "log_required_full":
        return float(memory.required_bytes)
    shown = memory.required_bytes - MINIMUM_GPU_BYTES - memory.buffer_bytes
    if runs_in_go_engine(shape, parse(version)):
        shown += memory.host_bytes
    return float(shown)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    data = _collection.DATA
    parser.add_argument("--rows", type=Path, default=data / "ollama_reported.csv")
    parser.add_argument("--headers", type=Path, default=data / "headers")
    arguments = parser.parse_args()
    with arguments.rows.open(newline="") as lines:
        found = findings(csv.DictReader(lines), arguments.headers)
    compared = [one for one in found if not one.reason]
    print(f"{'row':>4} {'model':32} {'version':10} {'metric':18} {'reported':>10} {'ours':>10} {'error':>8}")
    for one in found:
        line = f"{one.number:>4} {one.model[:32]:32} {one.version[:10]:10} {one.metric:18}"
        if one.reason:
            print(f"{line} not compared: {one.reason}")
        else:
            sizes = f"{one.reported_bytes / GIB:9.2f}G {one.ours_bytes / GIB:9.2f}G"
            print(f"{line} {sizes} {one.error_percent:+7.1f}%")
    worst = max((abs(one.error_percent) for one in compared), default=0.0)
    within = sum(abs(one.error_percent) <= TOLERANCE_PERCENT for one in compared)
    print(f"rows={len(found)} compared={len(compared)} within_10_pct={within} worst_error_pct={worst:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
