# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far predicted memory is from what the engine allocated: ours, Ollama's own prediction, the naive formula."""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import _collection
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    KvCache,
    LoadSettings,
    Refused,
    estimate,
    host_estimate,
    split,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import GpuMemory, ModelMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import predicted_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    B10488,
    EngineBuild,
    parse_build,
)

MIB = 1024 * 1024
GIB = 1024 * MIB
# The tables give sizes in MiB with four decimals; differences of two of them are off by as much as one.
ROUNDING_MIB = 0.0001
HALF_BYTES = 2
MULTI_GPU_MODES = ("default", "single")
# What is left of a device's total is its cache.
DEVICE_CACHE = (("total_mib", 1), ("model_mib", -1), ("compute_mib", -1))

# What a row may leave empty, and what it then means; the engine's own defaults.
DEFAULTS = {"ubatch": "512", "kv_type": "f16", "fa": "auto"}
# What a row of a run that started must have measured, by backend.
MEASURED_ON_GPU = ("model_mib", "kv_mib", "total_gpu_mib")
MEASURED_ON_CPU = ("kv_mib", "total_host_mib")
MEASURED_ON_DEVICE = ("device", "layers", "has_output", "model_mib", "compute_mib", "total_mib")

Row = dict


def key(name: str) -> str:
    """A model's name as it may stand in a table, in a header or as the name of a file."""
    short = name.lower().removesuffix(":latest").removesuffix("_latest")
    return re.sub(r"[^a-z0-9.]+", "_", short)


def percent_off(ours_bytes: int, measured_mib: float, rounding_mib: float = ROUNDING_MIB) -> float:
    """Difference in percent of what was measured, less what the table rounds away; all of it where it measured none."""
    ours_mib = ours_bytes / MIB
    difference = max(0.0, abs(ours_mib - measured_mib) - rounding_mib)
    if not difference:
        return 0.0
    sign = 1 if ours_mib > measured_mib else -1
    return sign * 100 * difference / measured_mib if measured_mib else 100.0


def percentile(values: Iterable[float], share: float) -> float:
    """The value that so large a share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def naive_bytes(shape: ModelShape, settings: LoadSettings) -> int:
    """Weights, and a cache as if all layers were alike and saw all of the context."""
    layer = max(shape.layers, key=lambda one: one.head_count_kv)
    per_token = 2 * shape.block_count * layer.head_count_kv * layer.key_length * HALF_BYTES
    return shape.file_bytes + per_token * settings.context_length * settings.parallel


@dataclass
class Errors:
    """Errors of one model, or of all. In percent of what was measured; signed, above is positive."""

    rows: int = 0
    kv: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    under_mib: list[float] = field(default_factory=list)
    ollama: list[float] = field(default_factory=list)
    naive: list[float] = field(default_factory=list)
    cpu_total: list[float] = field(default_factory=list)
    basis: str = ""

    def summary(self) -> dict[str, Any]:
        """The figures that the table shows."""
        return {
            "rows": self.rows,
            "basis": self.basis,
            "kv_max_error_pct": max(map(abs, self.kv), default=0.0),
            "weights_max_error_pct": max(map(abs, self.weights), default=0.0),
            "total_p99_error_pct": percentile(map(abs, self.total), 0.99),
            "total_max_error_pct": max(map(abs, self.total), default=0.0),
            "total_worst_under_mib": max(self.under_mib, default=0.0),
            "ollama_p50_error_pct": percentile(map(abs, self.ollama), 0.5),
            "ollama_range_pct": [min(self.ollama, default=0.0), max(self.ollama, default=0.0)],
            "naive_p50_error_pct": percentile(map(abs, self.naive), 0.5),
            "naive_range_pct": [min(self.naive, default=0.0), max(self.naive, default=0.0)],
            "cpu_rows": len(self.cpu_total),
            "cpu_total_max_error_pct": max(map(abs, self.cpu_total), default=0.0),
        }


@dataclass
class Refusals:
    """Rows that the engine would not start, and what we say of them; rows that we refuse wrongly."""

    expected: int = 0
    met: int = 0
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def settings_of(row: Row, build: EngineBuild = B10488) -> LoadSettings:
    """How the engine, of this build, was started in a row."""
    row = {**row, **{name: value for name, value in DEFAULTS.items() if not row.get(name)}}
    return LoadSettings(
        int(row["ctx"]), int(row["parallel"]), int(row["ubatch"]), row["kv_type"], row["fa"], build
    )


def _rounded_away(text: str) -> float:
    """What a figure's last decimal leaves open."""
    return max(ROUNDING_MIB, 0.5 * 10 ** -len(text.partition(".")[2]) if "." in text else 0.0)


def cache_errors(cache: KvCache, row: Row, measured_mib: float) -> list[float]:
    """Errors of all of the cache, of the recurrent state, and of what must be zero.

    The columns of one kind of attention have two decimals only, so they tell just whether there is any.
    """
    errors = [percent_off(cache.total_bytes, measured_mib)]
    states = row.get("kv_rs_mib")
    if states:
        errors.append(percent_off(cache.recurrent_bytes, float(states), _rounded_away(states)))
    for ours, column in (
        (cache.full_attention_bytes, "kv_full_mib"),
        (cache.sliding_window_bytes, "kv_swa_mib"),
    ):
        if row.get(column) and bool(ours) != (float(row[column]) > 0):
            errors.append(100.0)
    return errors


def compare_on_gpu(shape: ModelShape, row: Row, memory: ModelMemory, kinds: Iterable[Errors]) -> None:
    """Add the errors of a row with all of the model on one GPU."""
    total_mib = float(row["total_gpu_mib"])
    settings = settings_of(row)
    ours = memory.gpus[0]
    for errors in kinds:
        errors.rows += 1
        errors.basis = memory.basis
        errors.kv += cache_errors(ours.kv_cache, row, float(row["kv_mib"]))
        errors.weights.append(percent_off(ours.weights_bytes, float(row["model_mib"])))
        errors.total.append(percent_off(ours.buffers_bytes, total_mib))
        errors.under_mib.append(max(0.0, total_mib - ours.buffers_bytes / MIB - ROUNDING_MIB))
        predicted = predicted_bytes(shape, settings.context_length, settings.parallel)
        errors.ollama.append(percent_off(predicted, total_mib))
        errors.naive.append(percent_off(naive_bytes(shape, settings), total_mib))


def compare_on_cpu(row: Row, memory: ModelMemory, kinds: Iterable[Errors]) -> None:
    """Add the errors of a row without a GPU."""
    ours = memory.host
    logged_bytes = ours.total_bytes - ours.repacked_bytes
    for errors in kinds:
        errors.kv += cache_errors(ours.kv_cache, row, float(row["kv_mib"]))
        errors.cpu_total.append(percent_off(logged_bytes, float(row["total_host_mib"])))


def compare_rows(
    rows: Iterable[Row], shapes: dict[str, ModelShape], build: EngineBuild = B10488
) -> tuple[dict[str, Errors], Errors, Refusals]:
    """Errors per model and of all rows together."""
    by_model: dict[str, Errors] = defaultdict(Errors)
    everything, refusals = Errors(), Refusals()
    for row in rows:
        shape = shapes[key(row["model"])]
        kinds = (by_model[shape.name], everything)
        on_gpu = row["backend"] == "cuda"
        started = row["status"] == "ok"
        refusals.expected += not started
        label = f"{shape.name} {settings_of(row)} on {row['backend']}"
        try:
            ours = (estimate if on_gpu else host_estimate)(shape, settings_of(row, build))
        except Refused as refusal:
            refusals.met += not started
            if started:
                refusals.wrong.append(f"{label}: {refusal}")
                for errors in kinds:
                    errors.total.append(100.0)
            continue
        if not started:
            refusals.missed.append(f"{label}: {(row.get('error') or row['status'])[:80]}")
        elif on_gpu:
            compare_on_gpu(shape, row, ours, kinds)
        else:
            compare_on_cpu(row, ours, kinds)
    return dict(by_model), everything, refusals


@dataclass
class DeviceErrors:
    """Errors of models on several GPUs, device by device, in percent."""

    rows: int = 0
    layers_wrong: int = 0
    weights: list[float] = field(default_factory=list)
    kv: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def add(self, row: Row, ours: GpuMemory) -> None:
        """Compare one device of one run."""
        layers = int(row["layers"]) + int(row["has_output"])
        self.rows += 1
        self.layers_wrong += layers != ours.layers
        self.weights.append(percent_off(ours.weights_bytes, float(row["model_mib"])))
        measured_mib = sum(float(row[column]) * sign for column, sign in DEVICE_CACHE)
        self.kv += cache_errors(ours.kv_cache, row, max(0.0, round(measured_mib, 4)))
        self.total.append(percent_off(ours.buffers_bytes, float(row["total_mib"])))

    def summary(self) -> dict[str, Any]:
        """The figures that the table shows."""
        return {
            "device_rows": self.rows,
            "layers_wrong": self.layers_wrong,
            "weights_max_error_pct": max(map(abs, self.weights), default=0.0),
            "kv_max_error_pct": max(map(abs, self.kv), default=0.0),
            "device_total_p99_error_pct": percentile(map(abs, self.total), 0.99),
            "device_total_max_error_pct": max(map(abs, self.total), default=0.0),
            "device_total_worst_under_pct": -min(self.total, default=0.0),
        }


def free_bytes(row: Row) -> list[int]:
    """Free memory of each device of a run, in device order."""
    return [int(float(one) * GIB) for one in (row.get("gpu_free_gib") or row["gpu_mem_gib"]).split("+")]


def compare_devices(
    rows: Iterable[Row], shapes: dict[str, ModelShape], build: EngineBuild = B10488
) -> tuple[dict[str, DeviceErrors], DeviceErrors]:
    """Errors per model and of all devices together.

    Whether the engine could pipeline hangs on memory of its host, which a table says nothing of but that it could not.
    """
    by_model: dict[str, DeviceErrors] = defaultdict(DeviceErrors)
    everything = DeviceErrors()
    for row in rows:
        if row["mode"] not in MULTI_GPU_MODES or row["status"] != "ok":
            continue
        try:
            devices = split(
                shapes[key(row["model"])],
                settings_of(row, build),
                free_bytes(row),
                is_pipelined=row.get("pipeline_retry") != "1",
            )
        except Refused as refusal:
            everything.refused.append(f"{row['model']} {settings_of(row)}: {refusal}")
            continue
        for errors in (by_model[row["model"]], everything):
            errors.add(row, devices[int(row["device"])])
    return dict(by_model), everything


def read_shapes(folder: Path) -> dict[str, ModelShape]:
    """Shapes of all headers in a folder, by the key of the name that the header gives, and of its file's."""
    shapes = {}
    for path in sorted(folder.glob("*.json")):
        try:
            header = json.loads(path.read_text(encoding="utf-8"))
            name = header.get("name") or path.stem.replace("_", ":", 1)
            shape = shape_from_header(header, name=name)
        except (ValueError, AttributeError) as error:
            print(f"{path} is no header: {error}")
            continue
        shapes.setdefault(key(path.stem), shape)
        shapes[key(name)] = shape
    return shapes


def incomparable(row: Row, shapes: dict[str, ModelShape], measured: Iterable[str]) -> str:
    """Why a row cannot be compared; empty where it can."""
    if key(row.get("model") or "") not in shapes:
        return f"no header of {row.get('model') or 'a model without a name'}"
    needed = ["ctx", "parallel", *(measured if row.get("status") == "ok" else ())]
    empty = [column for column in needed if not row.get(column)]
    if empty:
        return f"{row['model']} without {', '.join(empty)}"
    try:
        settings_of(row)
    except ValueError as error:
        return f"{row['model']}: {error}"
    return ""


def comparable(rows: Iterable[Row], shapes: dict[str, ModelShape], left_out: Counter[str]) -> list[Row]:
    """The rows that can be compared; reasons against the others are counted."""
    kept = []
    for row in rows:
        on_device = "device" in row
        measured = MEASURED_ON_GPU if row.get("backend") == "cuda" else MEASURED_ON_CPU
        reason = incomparable(row, shapes, MEASURED_ON_DEVICE if on_device else measured)
        if reason:
            left_out[reason] += 1
        else:
            kept.append(row)
    return kept


def read_rows(path: Path) -> list[Row]:
    """Rows of a table."""
    with path.open(encoding="utf-8-sig", newline="") as source:
        return list(csv.DictReader(source))


def print_models(by_model: dict[str, Errors], everything: Errors) -> None:
    """One line per model: our errors, then Ollama's and the naive formula's."""
    print(
        f"{'model':30} {'rows':>5} {'KV max':>8} {'weights':>8} {'p99':>7} {'max':>7} {'under MiB':>9}"
        f"  {'Ollama p50':>10} {'from':>7} {'to':>7}  {'naive p50':>9} {'from':>7} {'to':>7}  basis"
    )
    for name, errors in [*sorted(by_model.items()), ("all", everything)]:
        if not errors.rows:
            continue
        one = errors.summary()
        print(
            f"{name:30} {one['rows']:5} {one['kv_max_error_pct']:7.3f}% {one['weights_max_error_pct']:7.3f}%"
            f" {one['total_p99_error_pct']:6.2f}% {one['total_max_error_pct']:6.2f}%"
            f" {one['total_worst_under_mib']:9.1f}"
            f"  {one['ollama_p50_error_pct']:9.1f}% {one['ollama_range_pct'][0]:+6.0f}% {one['ollama_range_pct'][1]:+6.0f}%"
            f"  {one['naive_p50_error_pct']:8.1f}% {one['naive_range_pct'][0]:+6.0f}% {one['naive_range_pct'][1]:+6.0f}%"
            f"  {one['basis'] if name != 'all' else ''}"
        )


def print_devices(by_model: dict[str, DeviceErrors], everything: DeviceErrors) -> None:
    """One line per model on several GPUs."""
    print(
        f"\n{'several GPUs':30} {'devices':>7} {'layers wrong':>12} {'weights':>8} {'KV':>8} {'p99':>8} {'max':>8}"
    )
    for name, errors in [*sorted(by_model.items()), ("all", everything)]:
        one = errors.summary()
        print(
            f"{name:30} {one['device_rows']:7} {one['layers_wrong']:12} {one['weights_max_error_pct']:7.3f}%"
            f" {one['kv_max_error_pct']:7.3f}% {one['device_total_p99_error_pct']:7.2f}%"
            f" {one['device_total_max_error_pct']:7.2f}%"
        )
    for sentence in everything.refused:
        print(f"  wrongly refused: {sentence}")


def print_refusals(refusals: Refusals) -> None:
    """How many of the rows that the engine does not start we refuse too."""
    print(f"\nrefused {refusals.met} of the {refusals.expected} rows that the engine refuses or aborts on")
    for sentence in refusals.missed:
        print(f"  not refused: {sentence}")
    for sentence in refusals.wrong:
        print(f"  wrongly refused: {sentence}")


def _build(text: str) -> EngineBuild:
    try:
        return parse_build(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main() -> int:
    """Compare, print, and say in one line how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, default=_collection.DATA / "engine_memory.csv")
    parser.add_argument("--headers", type=Path, nargs="+", default=[_collection.DATA / "headers"])
    parser.add_argument("--multi-gpu", type=Path)
    parser.add_argument("--engine", type=_build, default=B10488, metavar="BUILD", help="b10488, v0.5.0, ...")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    arguments = parser.parse_args()
    shapes = {name: shape for folder in arguments.headers for name, shape in read_shapes(folder).items()}
    left_out: Counter[str] = Counter()
    rows = comparable(read_rows(arguments.rows), shapes, left_out)
    by_model, everything, refusals = compare_rows(rows, shapes, arguments.engine)
    print_models(by_model, everything)
    total = everything.summary()
    print_refusals(refusals)
    if total["cpu_rows"]:
        print(
            f"CPU only: {total['cpu_rows']} rows, host total at most {total['cpu_total_max_error_pct']:.3f}% off"
        )
    line = (
        f"kv_max_error_pct={total['kv_max_error_pct']:.4f} weights_max_error_pct={total['weights_max_error_pct']:.4f}"
        f" total_p99_error_pct={total['total_p99_error_pct']:.4f}"
        f" total_worst_under_mib={total['total_worst_under_mib']:.2f} rows={total['rows']}"
    )
    found: dict[str, Any] = {
        "models": {name: errors.summary() for name, errors in by_model.items()},
        "all": total,
        "refusals": asdict(refusals),
    }
    if arguments.multi_gpu:
        device_rows = comparable(read_rows(arguments.multi_gpu), shapes, left_out)
        devices_by_model, devices = compare_devices(device_rows, shapes, arguments.engine)
        print_devices(devices_by_model, devices)
        several = devices.summary()
        line += (
            f" layers_wrong={several['layers_wrong']}"
            f" device_total_p99_error_pct={several['device_total_p99_error_pct']:.4f}"
            f" device_rows={several['device_rows']}"
        )
        found["several_gpus"] = {
            "models": {name: errors.summary() for name, errors in devices_by_model.items()},
            "all": several,
        }
    for reason, count in sorted(left_out.items()):
        print(f"not compared: {count} rows, {reason}")
    found["not_compared"] = dict(left_out)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
