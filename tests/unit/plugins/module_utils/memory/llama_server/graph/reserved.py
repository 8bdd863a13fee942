# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What llama.cpp reserves for one model of each architecture that has no rows in the measured tables.

tests/data/architectures.json has, by model, metadata and tensors (those of several blocks once, with the blocks), and
rows: context, slots, batch, cache type, flash attention; then MiB of weights, cache and compute buffer, or how it failed.
They are from llama.cpp's own graphs and allocator (b10488), with a backend that answers as CUDA does and computes nothing;
where a model names its build, and of those since bitnet, from the unmodified engine on a simulated machine.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA

MIB = 1 << 20
# The table gives MiB with four decimals.
ROUNDING_MIB = 0.0002
SETTINGS = 5
FAILED = ("fail", "crash")


def within(ours_bytes: int, measured_mib: float, share: float) -> bool:
    return abs(ours_bytes / MIB - measured_mib) <= ROUNDING_MIB + share * measured_mib


@lru_cache(maxsize=1)
def architectures() -> dict[str, Any]:
    models: dict[str, Any] = json.loads((DATA / "architectures.json").read_text())
    return models


def shape_of(name: str, model: dict[str, Any]) -> ModelShape:
    tensors = []
    for entry in model["tensors"]:
        pattern, type_name, lengths = entry[:3]
        for run in entry[3].split() if len(entry) > 3 else [""]:
            first, _dash, last = run.partition("-")
            for block in range(int(first or 0), int(last or first or 0) + 1):
                tensors.append([pattern.replace("*", str(block)), type_name, lengths])
    header = {"file_bytes": 1, "metadata": model["metadata"], "tensors": tensors}
    return shape_from_header(header, name=name)


def settings_of(model: dict[str, Any], row: list[Any]) -> LoadSettings:
    """How a row was started; on b10488, or the build that the model names."""
    return LoadSettings(*row[:SETTINGS], parse_build(model.get("build", "b10488")))


def wrong_compute_buffers(name: str) -> list[Any]:
    """The rows of a model whose compute buffer is not ours."""
    model = architectures()[name]
    shape = shape_of(name, model)
    return [
        row
        for row in model["rows"]
        if row[SETTINGS] not in FAILED
        and not within(estimate(shape, settings_of(model, row)).gpus[0].compute_bytes, row[-1], 0.0001)
    ]
