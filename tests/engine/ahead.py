# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures what predicting tokens ahead takes (MTP): both contexts, once each has computed a whole batch.

python tests/engine/ahead.py --into FILE --header FILE [--engine 3.22.1,b10630] [--gpus 1,2]

The second context samples on the GPU and keeps its cache in half precision, as Ollama has llama-server do it.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import package
import probe
import rows

AHEAD, CONTEXTS, SLOTS, UBATCHES = (1, 4, 8), (4096, 32768), (1, 4), (512, 2048)
KINDS = (("f16", "auto"), ("q8_0", "auto"), ("f16", "off"))
GPU_MIB = 1024 * 1024


@dataclass(frozen=True)
class Row:
    """One run on one GPU of it, sizes in MiB; `second_`: of the context that predicts, which lies on the last GPU.

    kv_mib: of full attention and of windows. grown_mib: buffers that were found too small for the first whole batch; host:
    of both contexts together.
    """

    engine: str
    model: str
    draft_num_predict: int
    ctx: int
    parallel: int
    kv_type: str
    fa: str
    ubatch: int
    gpus: int
    device: int
    model_mib: float
    kv_mib: float
    kv_rs_mib: float
    compute_mib: float
    second_kv_mib: float
    second_compute_mib: float
    grown_mib: float
    second_host_mib: float


def points(slots: Sequence[int]) -> list[probe.Point]:
    """The runs of a model."""
    return [
        probe.Point(context, parallel, ubatch, *kind)
        for context, parallel, ubatch, kind in itertools.product(CONTEXTS, slots, UBATCHES, KINDS)
    ]


def rows_of(
    release: str, header: Mapping[str, Any], point: probe.Point, ahead: int, loaded: probe.Loaded, outcome: probe.Outcome
) -> list[Row]:
    """A row for each GPU of a run."""
    lines = outcome.lines
    of_first, of_second = rows.read_log(lines["log"]), rows.read_log(lines["prediction_log"])
    found = []
    for device in range(len(lines["context"])):
        caches = rows.caches(of_first, f"CUDA{device}")
        held = rows.allocated(lines, device, "before", "context")
        second = rows.allocated(lines, device, "context", "prediction")
        kv_mib = caches["kv_full_mib"] + caches["kv_swa_mib"]
        second_kv = sum(of_second.mib[f"CUDA{device}", kind] for kind in ("full", "swa"))
        found.append(
            Row(
                engine=release,
                model=header["name"],
                draft_num_predict=ahead,
                ctx=point.context,
                parallel=point.parallel,
                kv_type=point.cache_type,
                fa=point.flash_attention,
                ubatch=point.ubatch,
                gpus=len(lines["context"]),
                device=device,
                model_mib=rows.mib(rows.allocated(loaded.lines, device, "before", "model")),
                kv_mib=round(kv_mib, 2),
                kv_rs_mib=caches["kv_rs_mib"],
                compute_mib=round(held / rows.MIB - kv_mib - caches["kv_rs_mib"], 4),
                second_kv_mib=round(second_kv, 2),
                second_compute_mib=round(second / rows.MIB - second_kv, 4),
                grown_mib=rows.mib(rows.allocated(lines, device, "prediction", "predicted")),
                second_host_mib=round(of_second.on_host("compute"), 2),
            )
        )
    return found


def measure(engine: package.Engine, header: Mapping[str, Any], model: Path, gpus: int) -> Iterator[Row]:
    """All rows of a model on so many GPUs; several slots on one GPU only."""
    for ahead in AHEAD:
        surroundings = probe.environment(engine, [probe.Device(GPU_MIB)] * gpus, PROBE_DRAFT=str(ahead))
        wanted = points(SLOTS if gpus == 1 else SLOTS[:1])
        loaded, outcomes = probe.run_points(engine, model, wanted, surroundings)
        for point, outcome in zip(wanted, outcomes):
            if outcome.status != "ok" or outcome.lines["code"]:
                raise SystemExit(f"{engine.release} {header['name']} {point}: {outcome.status} {outcome.error}")
            yield from rows_of(engine.release, header, point, ahead, loaded, outcome)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="", help="versions of npm and builds, separated by commas; default: npm's newest")
    parser.add_argument("--header", type=Path, required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--gpus", default="1,2")
    arguments = parser.parse_args()
    header = json.loads(arguments.header.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="gpufleet-engine-") as folder, arguments.into.open("w", newline="") as file:
        model = probe.sparse_model(header, Path(folder) / "model.gguf")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Row)])
        for version in arguments.engine.split(","):
            for gpus in map(int, arguments.gpus.split(",")):
                writer.writerows(map(astuple, measure(package.engine(version), header, model, gpus)))


if __name__ == "__main__":
    main()
