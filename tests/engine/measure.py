# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures one engine build on the simulated machine and writes tables as those of tests/data.

python tests/engine/measure.py --engine 3.22.1 --into FOLDER [--headers FOLDER] [--models gemma3:4b,...] [--every 12]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import design
import package
import probe
import rows

ONE_GPU, SEVERAL_GPUS = "engine_memory.csv", "engine_memory_multi_gpu.csv"


@dataclass(frozen=True)
class Every:
    """Each so many-th run of the design only, on one GPU and on several; 0: none."""

    one_gpu: int = 1
    several_gpus: int = 1


def read_headers(folder: Path, models: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The headers of a folder, or those of the models named."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [header for header in found if not models or header["name"] in models]


def on_one_gpu(engine: package.Engine, header: Mapping[str, Any], model: Path, points: Sequence[probe.Point]) -> list[rows.Row]:
    """Rows of a model with all of it on one GPU."""
    loaded, outcomes = probe.run_points(engine, model, points, probe.environment(engine, [probe.Device()]))
    if not loaded.is_loaded:
        outcomes = [probe.Outcome("load", error=loaded.error) for _unused in points]
    return [rows.one_gpu_row(header, point, loaded, outcome) for point, outcome in zip(points, outcomes)]


def on_several_gpus(
    engine: package.Engine,
    header: Mapping[str, Any],
    model: Path,
    points: Mapping[tuple[str, design.Memory], Sequence[probe.Point]],
) -> Iterator[list[rows.Row]]:
    """Rows of a model on several GPUs, run by run. Memory that is used up does not end a run: how much would it take?"""
    for (mode, memory), wanted in points.items():
        surroundings = probe.environment(engine, memory.devices(), SIMULATED_CUDA_UNLIMITED="1")
        loaded, outcomes = probe.run_points(engine, model, wanted, surroundings)
        if not loaded.is_loaded:
            outcomes = [probe.Outcome("load", error=loaded.error) for _unused in wanted]
        run = {
            "mode": mode,
            "n_gpu": len(memory.devices()),
            "gpu_mem_gib": memory.total,
            "gpu_free_gib": memory.free,
        }
        for point, outcome in zip(wanted, outcomes):
            yield rows.several_gpus_rows(header, point, loaded, outcome, run)


def write(path: Path, alike: Path, table: Iterable[rows.Row]) -> None:
    """A table as a file, with the columns of another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with alike.open(encoding="utf-8", newline="") as file:
        columns = next(csv.reader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(table)


@dataclass
class Tables:
    """What was measured: rows of one GPU, and of several GPUs run by run."""

    one_gpu: list[rows.Row] = field(default_factory=list)
    several_gpus: list[list[rows.Row]] = field(default_factory=list)

    def write(self, into: Path) -> None:
        """Both tables as files."""
        numbered = [{**row, "run_id": number} for number, run in enumerate(self.several_gpus) for row in run]
        write(into / ONE_GPU, design.ONE_GPU_TABLE, self.one_gpu)
        write(into / SEVERAL_GPUS, design.SEVERAL_GPUS_TABLE, numbered)


def of_model(engine: package.Engine, header: Mapping[str, Any], every: Every) -> Tables:
    """What a build takes for one model."""
    with tempfile.TemporaryDirectory(prefix="gpufleet-engine-") as folder:
        model = probe.sparse_model(header, Path(folder) / "model.gguf")
        one_gpu = design.one_gpu_points(header, design.read(design.ONE_GPU_TABLE), every.one_gpu)
        several = design.several_gpus_points(header, design.read(design.SEVERAL_GPUS_TABLE), every.several_gpus)
        return Tables(
            on_one_gpu(engine, header, model, one_gpu), list(on_several_gpus(engine, header, model, several))
        )


def measure(
    engine: package.Engine, headers: Sequence[Mapping[str, Any]], every: Every, keep: Callable[[Tables], None]
) -> Tables:
    """What a build takes for all models, as many at once as there are processors; `keep` is given what is there so far."""
    tables = Tables()
    package.simulated_cuda()
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        for header, found in zip(headers, executor.map(lambda one: of_model(engine, one, every), headers)):
            tables.one_gpu += found.one_gpu
            tables.several_gpus += found.several_gpus
            keep(tables)
            print(
                f"{engine.release} {header['name']:30} {len(found.one_gpu):4} rows,"
                f" {len(found.several_gpus):4} runs on several GPUs",
                flush=True,
            )
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="", metavar="NPM_VERSION|BUILD", help="default: the newest on npm")
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--headers", type=Path, default=probe.HEADERS)
    parser.add_argument("--models", default="", help="names, separated by commas; default: all that have a header")
    parser.add_argument("--every", type=int, default=1, help="each so many-th run only")
    arguments = parser.parse_args()
    engine = package.engine(arguments.engine)
    wanted = tuple(filter(None, arguments.models.split(",")))
    every = Every(arguments.every, arguments.every)
    measure(engine, read_headers(arguments.headers, wanted), every, lambda tables: tables.write(arguments.into))


if __name__ == "__main__":
    main()
