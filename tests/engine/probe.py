# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the probe of an engine build: on which devices, which model, started how, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _checkout
import package
from gguf_writer import write_gguf

HEADERS = _checkout.DATA / "headers"
# More than any model of the tables needs, so that all of it lies on one device.
ROOMY_MIB = 4 * 1024 * 1024
# A context of a known architecture takes milliseconds, a full one of 32768 tokens up to half a minute.
PROBE_SECONDS = 1800


@dataclass(frozen=True)
class Device:
    """A simulated GPU; sizes in MiB."""

    total_mib: float = ROOMY_MIB
    free_mib: float | None = None
    capability: str = "8.6"

    def __str__(self) -> str:
        free_mib = self.total_mib if self.free_mib is None else self.free_mib
        return f"{self.total_mib:g}/{free_mib:g}@{self.capability}"


@dataclass(frozen=True)
class Point:
    """How the engine is started: context per slot, slots, ubatch, types; tokens then decoded in each slot, and steps of all."""

    context: int
    parallel: int
    ubatch: int = 512
    cache_type: str = "f16"
    flash_attention: str = "auto"
    is_embedding: bool = False
    fill: int = 0
    steps: int = 0

    def __str__(self) -> str:
        return (
            f"{self.context} {self.parallel} {self.ubatch} {self.cache_type} {self.flash_attention}"
            f" {int(self.is_embedding)} {self.fill} {self.steps}"
        )


@dataclass
class Outcome:
    """What came of a point: `status` as in the tables, the probe's lines, and what it said where it failed."""

    status: str
    lines: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    error: str = ""


@dataclass
class Loaded:
    """A model that the engine loaded, or would not."""

    is_loaded: bool
    lines: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def environment(engine: package.Engine, devices: Iterable[Device], **more: str) -> dict[str, str]:
    """What the probe runs with on a simulated machine."""
    return {
        **os.environ,
        "LD_LIBRARY_PATH": f"{package.simulated_cuda()}:{engine.folder}",
        "SIMULATED_CUDA": ",".join(map(str, devices)) or "none",
        # Where the engine aborts it would start a debugger.
        "GGML_NO_BACKTRACE": "1",
        **more,
    }


def header_path(model: str, folder: Path = HEADERS) -> Path:
    """The header of a model by the name that Ollama has for it."""
    return folder / f"{model.replace(':', '_')}.json"


def sparse_model(header: Mapping[str, Any], path: Path) -> Path:
    """A file with a model's header and a hole for its weights, written where it is not there yet."""
    if not path.exists():
        write_gguf(path, dict(header))
    return path


def run_points(
    engine: package.Engine, model: Path, points: Sequence[Point], surroundings: Mapping[str, str]
) -> tuple[Loaded, list[Outcome]]:
    """Run all points in as few processes as the engine's aborts allow."""
    loaded, outcomes = Loaded(False), []
    while len(outcomes) < len(points):
        done = subprocess.run(
            [str(engine.probe), str(engine.folder), str(model)],
            input="".join(f"{point}\n" for point in points[len(outcomes) :]),
            env=dict(surroundings),
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        loaded = loaded_model(lines, done)
        outcomes += finished(lines[1:])
        if not loaded.is_loaded:
            break
        if len(outcomes) < len(points):
            outcomes.append(Outcome("crash", error=last_words(done)))
    return loaded, outcomes


def loaded_model(lines: Sequence[Mapping[str, Any]], done: subprocess.CompletedProcess[str]) -> Loaded:
    """The first line of the probe; a probe that said nothing died while it loaded."""
    if not lines:
        return Loaded(False, error=last_words(done))
    first = dict(lines[0])
    return Loaded(first["loaded"], first, "" if first["loaded"] else first_complaint(first["log"]))


def finished(lines: Iterable[Mapping[str, Any]]) -> list[Outcome]:
    """The points that the probe told of, with what their contexts logged when they ended."""
    outcomes: list[Outcome] = []
    for line in lines:
        if "ended" in line:
            outcomes[-1].log += line["log"]
        elif line["started"]:
            outcomes.append(Outcome("ok", dict(line), line["log"]))
        else:
            outcomes.append(Outcome("fail", dict(line), line["log"], first_complaint(line["log"])))
    return outcomes


def first_complaint(log: str) -> str:
    """The first line of a log that names what went wrong; those after it tell of what followed from that."""
    complaints = [line for line in log.splitlines() if "error" in line.lower() or "requires" in line or "failed" in line]
    return complaints[0] if complaints else log[-200:]


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """What an aborted process said last."""
    said = done.stderr.strip().splitlines()
    return f"status {done.returncode}: {' / '.join(said[-4:])}"[:400]
