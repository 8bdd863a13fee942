# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the memory rules still say what the engine does: measures a build and holds our prediction for it against that.

python tests/engine/truth.py [--engine NPM_VERSION|BUILD|all] [--sample] [--into FOLDER]

Prints the rows that differ, then the accuracy line. Exits non-zero where the rules are off by more than is claimed.
Where a registry is needed and does not answer it says so, and that is a failure only where CI is set.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _checkout
import design
import measure
import package
import probe
import rows

ACCURACY = _checkout.TESTS / "bench" / "accuracy.py"
STORED = _checkout.DATA / "newer"
SAMPLE = measure.Every(one_gpu=12, several_gpus=0)
# What is claimed for every build: caches and weights to the byte, totals in percent of what was measured.
MOST_P99_PERCENT = 0.5
MOST_UNDER_PERCENT, MOST_UNDER_MIB = 1.0, 16.0
# The tables have four decimals; what differs by less than this does not differ.
SAME_MIB = 0.01
SAME_PERCENT = 0.0005


def complaints(found: dict[str, Any]) -> list[str]:
    """Where the figures of accuracy.py --json are worse than what is claimed."""
    said = []
    one_gpu = found["all"]
    for name, what in (("kv", "cache"), ("weights", "weights")):
        if (worst := one_gpu[f"{name}_max_error_pct"]) > SAME_PERCENT:
            said.append(f"{what}: up to {worst:.4f} % off, claimed is none")
    if one_gpu["total_p99_error_pct"] > MOST_P99_PERCENT:
        said.append(f"total: p99 {one_gpu['total_p99_error_pct']:.2f} % off, claimed are {MOST_P99_PERCENT} %")
    said += [f"not refused: {one}" for one in found["refusals"]["missed"]]
    said += [f"wrongly refused: {one}" for one in found["refusals"]["wrong"]]
    if several := found.get("several_gpus", {}).get("all"):
        if several["layers_wrong"]:
            said.append(f"several GPUs: {several['layers_wrong']} devices with other layers")
        for name, what in (("kv", "cache"), ("weights", "weights")):
            if (worst := several[f"{name}_max_error_pct"]) > SAME_PERCENT:
                said.append(f"several GPUs: {what}: up to {worst:.4f} % off, claimed is none")
        if several["device_total_p99_error_pct"] > MOST_P99_PERCENT:
            said.append(
                f"several GPUs: p99 {several['device_total_p99_error_pct']:.2f} % of a device's total off,"
                f" claimed are {MOST_P99_PERCENT} %"
            )
    return said


@dataclass(frozen=True)
class Difference:
    """A row whose total is not as predicted, in MiB."""

    row: rows.Row
    predicted_mib: float
    measured_mib: float

    @property
    def over_mib(self) -> float:
        """How much more is predicted than there is; below zero: how much less."""
        return self.predicted_mib - self.measured_mib

    @property
    def is_too_low(self) -> bool:
        """Whether so much less is predicted that a plan would not be safe."""
        return -self.over_mib > max(MOST_UNDER_MIB, self.measured_mib * MOST_UNDER_PERCENT / 100)

    def __str__(self) -> str:
        where = f" GPU {self.row['device']} of {self.row['gpu_mem_gib']}" if "device" in self.row else ""
        return (
            f"{self.row['ctx']} x {self.row['parallel']} {self.row['kv_type']} {self.row['fa']} U {self.row['ubatch']}{where}:"
            f" predicted {self.predicted_mib:.1f}, measured {self.measured_mib:.1f} MiB ({self.over_mib:+.1f})"
        )


def differences(table: Iterable[rows.Row], errors_of: Callable[[rows.Row], Sequence[float]], column: str) -> list[Difference]:
    """The rows of which `errors_of`, in percent of a column, says that the prediction is another."""
    found = []
    for row in table:
        for percent in errors_of(row) if row["status"] == "ok" else ():
            measured_mib = float(row[column])
            one = Difference(row, measured_mib * (1 + percent / 100), measured_mib)
            found += [one] if abs(one.over_mib) > SAME_MIB else []
    return found


def describe(found: Sequence[Difference]) -> list[str]:
    """One line per model: how many of its rows differ, and the one that is most too low, or else most too high."""
    by_model: dict[str, list[Difference]] = defaultdict(list)
    for one in found:
        by_model[one.row["model"]].append(one)
    return [
        f"{model}: {len(all_of_it)} differ, e.g. {min(all_of_it, key=lambda one: one.over_mib)}"
        for model, all_of_it in by_model.items()
    ]


def compare(release: str, tables: measure.Tables, headers: Path, into: Path) -> list[str]:
    """Print what differs from the prediction for a release and return where that is more than is claimed."""
    import accuracy

    build, shapes = accuracy.parse_build(release), accuracy.read_shapes(headers)
    one_gpu, several = loaded_only(tables)
    measure.Tables(one_gpu, several).write(into)
    found = differences(
        design.read(into / measure.ONE_GPU),
        lambda row: accuracy.compare_rows([row], shapes, build)[1].total,
        "total_gpu_mib",
    )
    found += differences(
        design.read(into / measure.SEVERAL_GPUS),
        lambda row: accuracy.compare_devices([row], shapes, build)[1].total,
        "total_mib",
    )
    for line in describe(found):
        print(f"  {release} {line}")
    said = [f"too low: {one.row['model']} {one}" for one in found if one.is_too_low]
    several_gpus = into / measure.SEVERAL_GPUS if several else None
    return [*figures_of(release, into / measure.ONE_GPU, several_gpus, [headers], into), *said]


def figures_of(release: str, one_gpu: Path, several_gpus: Path | None, headers: Sequence[Path], into: Path) -> list[str]:
    """Print the accuracy line of a release's tables and return where its figures are worse than what is claimed."""
    figures = into / "accuracy.json"
    figures.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, ACCURACY, "--engine", release, "--rows", one_gpu, "--json", figures]
    command += ["--headers", *headers, *(["--multi-gpu", several_gpus] if several_gpus else [])]
    print(package.run(command).splitlines()[-1])
    return complaints(json.loads(figures.read_text()))


def claimed() -> dict[str, str]:
    """Each release of which the rules claim to be exact, the newest last, and what to measure for it.

    That is a version of npm, or a build that is made here; nothing where there is no backend of it.
    """
    import _collection  # noqa: F401  # makes the next line importable
    from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import MEASURED

    versions = {release: version for version, (release, _headers) in package.KNOWN.items()}
    made = {release: release for release in package.BACKENDS}
    return {str(build): {**made, **versions}.get(str(build), "") for build in MEASURED}


def judge_stored(release: str, into: Path) -> list[str]:
    """Hold a release that cannot be measured here against the rows of it that are kept."""
    print(f"==> rows of tests/data/newer, llama.cpp {release}", flush=True)
    one_gpu, several_gpus = (STORED / f"{name}-{release}.csv" for name in ("engine_memory", "engine_memory_multi_gpu"))
    found = figures_of(release, one_gpu, several_gpus, [probe.HEADERS, STORED / "headers"], into / release)
    return [f"{release} {one}" for one in found]


def loaded_only(tables: measure.Tables) -> tuple[list[rows.Row], list[list[rows.Row]]]:
    """The rows of models that the build can load; names the others."""
    for row in {row["model"]: row for row in tables.one_gpu if row["status"] == "load"}.values():
        print(f"  not loaded by this build: {row['model']} ({row['error']})")
    return (
        [row for row in tables.one_gpu if row["status"] != "load"],
        [run for run in tables.several_gpus if run[0]["status"] != "load"],
    )


def judge(version: str, every: measure.Every, headers: Path, into: Path) -> list[str]:
    """Measure one build and return where our prediction for it is worse than claimed."""
    engine = package.engine(version)
    origin = "built here" if engine.version == engine.release else f"npm {engine.version}"
    print(f"==> {origin}, llama.cpp {engine.release}", flush=True)
    tables = measure.measure(engine, measure.read_headers(headers), every, lambda _: None)
    return [f"{engine.release} {one}" for one in compare(engine.release, tables, headers, into / engine.release)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--engine", default="", help="a version of npm, a build made here, or all that the rules claim; default: npm's newest"
    )
    parser.add_argument("--newest-known", action="store_true", help="the newest that the rules claim")
    parser.add_argument("--sample", action="store_true", help="some 300 rows on one GPU only")
    parser.add_argument("--headers", type=Path, default=probe.HEADERS)
    parser.add_argument("--into", type=Path, default=_checkout.TESTS.parent / ".build" / "engine_truth")
    arguments = parser.parse_args()
    wanted = {arguments.engine: arguments.engine}
    if arguments.engine == "all":
        wanted = claimed()
    elif arguments.newest_known:
        wanted = {"": [version for version in claimed().values() if version in package.KNOWN][-1]}
    said: list[str] = []
    try:
        for release, version in wanted.items():
            if release and not version:
                said += judge_stored(release, arguments.into)
                continue
            every = SAMPLE if arguments.sample else measure.Every()
            said += judge(version, every, arguments.headers, arguments.into)
    except package.Unreachable as error:
        print(f"not held against the engine, because no registry answers: {error}")
        sys.exit(1 if os.environ.get("CI") else 0)
    except package.EngineError as error:
        sys.exit(str(error))
    for complaint in said:
        print(f"FAILED {complaint}")
    sys.exit(1 if said else 0)


if __name__ == "__main__":
    main()
