# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows as tests/data/engine_memory*.csv has them, of what the probe said: sizes from accounts and from the engine's log."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from probe import Loaded, Outcome, Point

MIB = 1 << 20
# "llama_context:      CUDA0 compute buffer size =   123.45 MiB"; at the context's end "is" and four digits.
SIZE = re.compile(r"^\S+:\s+(\S+)\s+(model|KV|RS|compute|output) buffer size (=|is)\s+([\d.]+) MiB")
ASSIGNED = re.compile(r"layer\s+(\d+) assigned to device (\w+)(?:, is_swa = (\d))?")
# "graph splits = 2", and from v0.5.0 on "graph: nodes = 990, splits = 2".
SPLITS = re.compile(r"splits = (\d+)")
PIPELINED = "pipeline parallelism enabled"
COPIES = 4

Row = dict[str, Any]


@dataclass
class Logged:
    """What a log says of buffers, in MiB by device and kind: model, full, swa, rs, compute, output."""

    mib: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    splits: int = 0
    has_flash_attention: bool | None = None
    is_pipelined: bool = False
    layers: dict[int, str] = field(default_factory=dict)
    swa_layers: set[int] = field(default_factory=set)

    def on_host(self, kind: str) -> float:
        """Memory of the host, pinned or not."""
        return sum(mib for (device, what), mib in self.mib.items() if what == kind and not re.match(r"CUDA\d", device))


def read_log(text: str) -> Logged:
    """Read the lines that tell of buffers, layers, and how the graph is run."""
    logged, cache, exact = Logged(), "full", {}
    for line in text.splitlines():
        if "creating non-SWA KV cache" in line:
            cache = "full"
        elif "creating     SWA KV cache" in line:
            cache = "swa"
        if "Flash Attention" in line or "flash_attn " in line:
            logged.has_flash_attention = "enabled" in line or "set to enabled" in line
        logged.is_pipelined = logged.is_pipelined or PIPELINED in line
        if splits := SPLITS.search(line):
            logged.splits = int(splits[1])
        if assigned := ASSIGNED.search(line):
            logged.layers[int(assigned[1])] = assigned[2]
            if assigned[3] == "1":
                logged.swa_layers.add(int(assigned[1]))
        if not (size := SIZE.match(line)):
            continue
        device, kind, verb, mib = size[1], size[2], size[3], float(size[4])
        if verb == "is":
            exact[device, "compute"] = mib
        elif kind == "compute":
            logged.mib[device, kind] = mib  # reserved again and again: the last one holds
        else:
            logged.mib[device, {"KV": cache, "RS": "rs"}.get(kind, kind)] += mib
    logged.mib.update(exact)
    return logged


def mib(size: float) -> float:
    """Bytes as the tables give them."""
    return round(size / MIB, 4)


def of_run(header: Mapping[str, Any], point: Point) -> Row:
    """What a row says of how the engine was started."""
    return {
        "model": header["name"],
        "arch": header["metadata"]["general.architecture"],
        "ctx": point.context,
        "parallel": point.parallel,
        "kv_type": point.cache_type,
        "fa": point.flash_attention,
        "ubatch": point.ubatch,
    }


def allocated(lines: Mapping[str, Any], device: int, before: str, after: str) -> int:
    """Bytes that a device gave out between two moments, pools of temporaries left out."""
    return int(lines[after][device]["allocated"]) - int(lines[before][device]["allocated"])


def one_gpu_row(header: Mapping[str, Any], point: Point, loaded: Loaded, outcome: Outcome) -> Row:
    """A row of engine_memory.csv; a row of a run that did not start has its status and the complaint only."""
    row = {
        **of_run(header, point),
        "quant": header.get("quantization", ""),
        "file_bytes": header.get("file_bytes", ""),
        "backend": "cuda",
        "status": outcome.status,
        "error": outcome.error,
    }
    if outcome.status != "ok":
        return row
    logged, of_model = read_log(outcome.log), read_log(loaded.lines["log"])
    weights = allocated(loaded.lines, 0, "before", "model")
    held = allocated(outcome.lines, 0, "before", "context")
    compute = logged.mib["CUDA0", "compute"]
    on_host = {
        "model_host_mib": of_model.on_host("model"),
        "compute_host_mib": logged.on_host("compute"),
        "output_mib": logged.on_host("output"),
    }
    return {
        **row,
        **{column: round(size, 4) for column, size in on_host.items()},
        "fa_resolved": int(bool(logged.has_flash_attention)),
        "n_ctx_alloc": outcome.lines["cells"],
        "model_mib": mib(weights),
        **caches(logged, "CUDA0"),
        "kv_mib": round(held / MIB - compute, 4),
        "compute_mib": compute,
        "total_gpu_mib": mib(weights + held),
        "total_host_mib": round(sum(on_host.values()), 4),
        "graph_splits": logged.splits,
    }


def caches(logged: Logged, device: str) -> Row:
    """The kinds of cache on a device, to the two decimals that the log has."""
    return {f"kv_{kind}_mib": round(logged.mib[device, kind], 2) for kind in ("full", "swa", "rs")}


def several_gpus_rows(
    header: Mapping[str, Any], point: Point, loaded: Loaded, outcome: Outcome, run: Row
) -> list[Row]:
    """The rows of engine_memory_multi_gpu.csv of one run, a row for each device; `run` has run_id, mode and the memory."""
    same = {**of_run(header, point), **run, "status": outcome.status, "error": outcome.error}
    if outcome.status != "ok":
        return [same]
    logged, of_model = read_log(outcome.log), read_log(loaded.lines["log"])
    block_count = max(of_model.layers, default=0)
    rows = []
    for device in range(len(outcome.lines["context"])):
        name = f"CUDA{device}"
        layers = sorted(layer for layer, where in of_model.layers.items() if where == name and layer != block_count)
        weights = allocated(loaded.lines, device, "before", "model")
        held = allocated(outcome.lines, device, "before", "context")
        rows.append(
            {
                **same,
                "fa_resolved": int(bool(logged.has_flash_attention)),
                "device": device,
                "layers": len(layers),
                "layer_first": layers[0] if layers else "",
                "layer_last": layers[-1] if layers else "",
                "swa_layers": sum(layer in of_model.swa_layers for layer in layers),
                "has_output": int(of_model.layers.get(block_count) == name),
                "model_mib": mib(weights),
                **caches(logged, name),
                "compute_mib": logged.mib[name, "compute"],
                "total_mib": mib(weights + held),
                "pipeline": int(logged.is_pipelined),
                "n_copies": COPIES if logged.is_pipelined else 1,
                "pipeline_retry": 0,
                "graph_splits": logged.splits,
                "host_model_mib": round(of_model.on_host("model"), 4),
                "host_kv_mib": round(logged.on_host("full") + logged.on_host("swa") + logged.on_host("rs"), 4),
                "host_compute_mib": round(logged.on_host("compute"), 4),
                "output_mib": round(logged.on_host("output"), 4),
            }
        )
    return rows
