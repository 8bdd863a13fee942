# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures what the CUDA backend holds beyond its buffers while it decodes a full context: pools of temporaries, cuBLAS.

python tests/engine/pools.py --into FILE [--engine 3.22.1] [--headers FOLDER] [--models gemma3:4b,...] [--capability 8.6]

Kernels do nothing and a router reads zeros, so the experts that a real card would choose are not those chosen here.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import design
import measure
import package
import probe
import rows

# Left free at the end of a context, for the tokens that all slots then decode at once.
STEPS = 4
CONTEXTS, SLOTS, UBATCHES = (4096, 16384), (1,), (512, 2048)
KINDS = (("f16", "auto"), ("f16", "off"))


@dataclass(frozen=True)
class Pool:
    """One row: a run, what was held beyond weights, caches and compute buffer at the most, and handles of cuBLAS."""

    engine: str
    model: str
    arch: str
    capability: str
    ctx: int
    parallel: int
    ubatch: int
    kv_type: str
    fa: str
    fa_resolved: int
    status: str
    fill_mib: float
    steps_mib: float
    cublas_handles: int
    error: str


def full_context(context: int, parallel: int, ubatch: int, cache_type: str, flash_attention: str) -> probe.Point:
    """A run that fills the context of every slot."""
    return probe.Point(
        context, parallel, ubatch, cache_type, flash_attention, fill=context - STEPS, steps=STEPS
    )


def points(header: Mapping[str, Any]) -> list[probe.Point]:
    """The runs of a model: contexts filled in all slots, with flash attention as the engine likes, and without."""
    if design.is_embedder(header):
        return []
    return [
        full_context(context, parallel, ubatch, *kind)
        for context, parallel, ubatch, kind in itertools.product(CONTEXTS, SLOTS, UBATCHES, KINDS)
    ]


def beyond_buffers(lines: Mapping[str, Any], moment: str) -> float:
    """MiB on the first device at the most, beyond what a new context holds."""
    buffers = lines["context"][0]["allocated"] + lines["context"][0]["mapped"]
    return (lines[moment][0]["peak"] - buffers) / rows.MIB


def measure_pool(
    engine: package.Engine, header: Mapping[str, Any], model: Path, point: probe.Point, device: probe.Device
) -> Pool:
    """A process of its own for each run: a pool never shrinks, and what an earlier context needed would stay."""
    loaded, outcomes = probe.run_points(engine, model, [point], probe.environment(engine, [device]))
    outcome = outcomes[0] if outcomes else probe.Outcome("load", error=loaded.error)
    has_run = outcome.status == "ok" and outcome.lines["code"] == 0
    return Pool(
        engine=engine.release,
        model=header["name"],
        arch=header["metadata"]["general.architecture"],
        capability=device.capability,
        ctx=point.context,
        parallel=point.parallel,
        ubatch=point.ubatch,
        kv_type=point.cache_type,
        fa=point.flash_attention,
        fa_resolved=int(bool(rows.read_log(outcome.log).has_flash_attention)),
        status=outcome.status,
        fill_mib=round(beyond_buffers(outcome.lines, "fill"), 2) if has_run else 0,
        steps_mib=round(beyond_buffers(outcome.lines, "steps"), 2) if has_run else 0,
        cublas_handles=outcome.lines["steps"][0]["cublas_handles"] if has_run else 0,
        error=outcome.error,
    )


def measure_pools(engine: package.Engine, header: Mapping[str, Any], device: probe.Device) -> Iterator[Pool]:
    """The rows of one model."""
    with tempfile.TemporaryDirectory(prefix="gpufleet-engine-") as folder:
        model = probe.sparse_model(header, Path(folder) / "model.gguf")
        for point in points(header):
            yield measure_pool(engine, header, model, point, device)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="", metavar="NPM_VERSION|BUILD", help="default: the newest on npm")
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--headers", type=Path, default=probe.HEADERS)
    parser.add_argument("--models", default="", help="names, separated by commas; default: all that have a header")
    parser.add_argument("--capability", default=probe.Device.capability)
    arguments = parser.parse_args()
    engine = package.engine(arguments.engine)
    wanted = tuple(filter(None, arguments.models.split(",")))
    headers = measure.read_headers(arguments.headers, wanted)
    device = probe.Device(capability=arguments.capability)
    package.simulated_cuda()
    with arguments.into.open("w", encoding="utf-8", newline="") as file, ThreadPoolExecutor(2) as executor:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Pool)])
        for pools in executor.map(lambda header: list(measure_pools(engine, header, device)), headers):
            for pool in pools:
                writer.writerow([getattr(pool, field.name) for field in fields(Pool)])
                print(pool, flush=True)
            file.flush()


if __name__ == "__main__":
    main()
