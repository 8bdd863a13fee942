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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import _collection
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    MINIMUM_GPU_BYTES,
    BelievedMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._which_rule import (
    believed_memory,
    runs_in_go_engine,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._from_numbers import (
    header_from_numbers,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._layout_before_0_30 import lay_out
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import SchedulerGpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import ROWS, Era, rules
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import parse

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
    "38": "0.30.0",
    "52": "0.14.3",
    "55": "0.24.0",
}
HEADERS = {"35": "qwen2.5_7b"}
# Models without a header at hand, by their published numbers.
QWEN3_30B = {
    "architecture": "qwen3moe",
    "block_count": 48,
    "embedding_length": 2048,
    "feed_forward_length": 6144,
    "head_count": 32,
    "head_count_kv": 4,
    "key_length": 128,
    "value_length": 128,
    "context_length": 262144,
    "vocabulary_size": 151936,
    "expert_count": 128,
    "expert_used_count": 8,
    "expert_feed_forward_length": 768,
    "quantization": "Q8_0",
}
GEMMA3_12B = {
    "architecture": "gemma3",
    "block_count": 48,
    "embedding_length": 3840,
    "feed_forward_length": 15360,
    "head_count": 16,
    "head_count_kv": 8,
    "key_length": 256,
    "value_length": 256,
    "context_length": 131072,
    "vocabulary_size": 262144,
    "sliding_window": 1024,
    "tied_output": True,
}
DEVSTRAL = {
    "architecture": "mistral3",
    "block_count": 40,
    "embedding_length": 5120,
    "feed_forward_length": 32768,
    "head_count": 32,
    "head_count_kv": 8,
    "key_length": 128,
    "value_length": 128,
    "context_length": 262144,
    "vocabulary_size": 131072,
    "quantization": "F16",
}
NUMBERS = {"20": GEMMA3_12B, "34": QWEN3_30B, "43": QWEN3_30B, "46": QWEN3_30B, "55": DEVSTRAL}
# gpt-oss:120b is gpt-oss:20b with more layers and more experts.
GPT_OSS, GPT_OSS_LARGE_ROW = "gpt-oss_20b", "23"
GPT_OSS_LAYERS, GPT_OSS_EXPERTS, GPT_OSS_KINDS, GPT_OSS_EXPERTS_OF_20B = 36, 128, 2, 32
# gemma3 is pulled with its vision tower, which the headers at hand leave out.
GEMMA3_TOWER_BYTES = int(811.8 * MIB)
SEPARATE_PROJECTORS = {"gemma3:4b": GEMMA3_TOWER_BYTES}
INLINE_PROJECTORS = {"gemma3:12b": GEMMA3_TOWER_BYTES}
H100_NVL = SchedulerGpu(0, 94 * GIB, int(93.1 * GIB))
L40S = SchedulerGpu(0, 45 * GIB, int(44.5 * GIB))
GPUS = {"7": (H100_NVL,) * 4, "43": (L40S,) * 2}
# Of llama-server with all layers on a GPU; on Metal or ROCm, whose compute buffers are larger.
LLAMA_SERVER_ROWS = ("38",)
REASONS = {
    "37": "15 of 33 layers on the GPU; llama-server, see tests/bench/accuracy.py",
    "40": "neither the model nor flash attention is certain; llama-server, see tests/bench/accuracy.py",
    "41": "not of Ollama; llama-server, see tests/bench/accuracy.py",
    "44": "by the driver, nearly half of what Ollama of that version counts (row 43), which the rules foretell",
    "47": "numbers of granite4.1:30b are not published in a form at hand",
    "49": "numbers of gemma4:31b are not at hand",
    "52": "this version kept an uncompressed cache for glm-4.7-flash, which no rule here covers",
    "53": "by the driver, other processes included; numbers of qwen3.6:27b are not at hand",
    "56": "numbers of gemma4:31b are not at hand",
    "64": "its projector fell to the CPU unseen; llama-server, see tests/bench/accuracy.py",
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
    header = _header(row, headers)
    reason = _reason(row, version, header)
    if header is None or reason:
        return Finding(row["id"], row["model"], version, row["metric"], reported, 0.0, reason)
    shape = shape_from_header(
        header, name=row["model"], projector_bytes=SEPARATE_PROJECTORS.get(row["model"], 0)
    )
    shape = replace(shape, inline_projector_bytes=INLINE_PROJECTORS.get(row["model"], 0))
    ours = (_llama_server if row["id"] in LLAMA_SERVER_ROWS else _before_llama_server)(row, shape, version)
    return Finding(row["id"], row["model"], version, row["metric"], reported, ours)


def _header(row: Mapping[str, str], headers: Path) -> dict[str, Any] | None:
    """The header of a row's model, read or made; None where neither can be."""
    if row["id"] in NUMBERS:
        return header_from_numbers(NUMBERS[row["id"]])
    if row["id"] == GPT_OSS_LARGE_ROW:
        return _large_gpt_oss(json.loads((headers / f"{GPT_OSS}.json").read_text()))
    path = headers / f"{HEADERS.get(row['id'], row['model'].replace(':', '_'))}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _large_gpt_oss(header: dict[str, Any]) -> dict[str, Any]:
    """The header of gpt-oss:120b, out of that of gpt-oss:20b: its two kinds of layers by turns."""
    tensors = []
    for name, kind, lengths in header["tensors"]:
        _blk, _dot, rest = name.partition("blk.")
        number, _dot, part = rest.partition(".")
        if "exps" in name or "ffn_gate_inp" in name:
            lengths = [GPT_OSS_EXPERTS if one == GPT_OSS_EXPERTS_OF_20B else one for one in lengths]
        if not rest:
            tensors.append([name, kind, lengths])
        elif int(number) < GPT_OSS_KINDS:
            for block in range(int(number), GPT_OSS_LAYERS, GPT_OSS_KINDS):
                tensors.append([f"blk.{block}.{part}", kind, lengths])
    metadata = {
        **header["metadata"],
        "gpt-oss.block_count": GPT_OSS_LAYERS,
        "gpt-oss.expert_count": GPT_OSS_EXPERTS,
    }
    return {**header, "metadata": metadata, "tensors": tensors}


def _reason(row: Mapping[str, str], version: str, header: dict[str, Any] | None) -> str:
    """Why a row cannot be compared; empty where it can."""
    if row["engine_era"] in ("B", "C"):
        return f"older than {ROWS[0].version}, so it is refused"
    if row["id"] in REASONS:
        return REASONS[row["id"]]
    if header is None:
        return f"no header of {row['model']} is at hand"
    if rules(version).era is Era.LLAMA_SERVER and row["id"] not in LLAMA_SERVER_ROWS:
        return "llama-server, see tests/bench/accuracy.py"
    return ""


def _llama_server(row: Mapping[str, str], shape: ModelShape, _version: str) -> float:
    """The buffers that the engine's log lines add up to."""
    settings = LoadSettings(int(row["ctx_per_slot"]), int(row["parallel"]), kv_cache_type=row["kv_type"])
    return float(estimate(shape, settings).gpus[0].buffers_bytes)


def _before_llama_server(row: Mapping[str, str], shape: ModelShape, version: str) -> float:
    memory = believed_memory(
        shape,
        LoadSettings(
            int(row["ctx_per_slot"]),
            int(row["parallel"]),
            kv_cache_type=row["kv_type"],
            flash_attention={"on": "on", "off": "off"}.get(row["flash_attn"], "auto"),
        ),
        parse(version),
    )
    return _ours(row, shape, memory, version)


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
