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
import math
from functools import lru_cache
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import Graph
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


def header_of(name: str, model: dict[str, Any]) -> dict[str, Any]:
    """A header as those of tests/data/headers."""
    tensors = []
    for entry in model["tensors"]:
        pattern, type_name, lengths = entry[:3]
        for run in entry[3].split() if len(entry) > 3 else [""]:
            first, _dash, last = run.partition("-")
            for block in range(int(first or 0), int(last or first or 0) + 1):
                tensors.append([pattern.replace("*", str(block)), type_name, lengths])
    return {"name": name, "file_bytes": 1, "metadata": model["metadata"], "tensors": tensors}


def shape_of(name: str, model: dict[str, Any]) -> ModelShape:
    return shape_from_header(header_of(name, model), name=name)


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


def what_ggml_would_refuse(graph: Graph, *, shows_pieces: bool = False, reads_indices: bool = False) -> list[Any]:
    """Lengths that are no whole numbers; views of more than there is, or of all of it in lengths that make another number.

    Also operands that cannot be repeated.

    shows_pieces: views without gaps may show a part. reads_indices: elementwise operations may read numbers of rows.
    Source: llama.cpp ggml/src/ggml.c, the assertions of ggml_reshape_4d, ggml_new_tensor_impl and ggml_add_impl (b10488).
    """
    found: list[Any] = []
    for node in graph.nodes:
        if any(not isinstance(length, int) for length in node.shape):
            found.append(node.shape)
        if node.is_view and node.root is not None:
            source = node.sources[0]
            is_all = shows_pieces or not node.is_plain or math.prod(node.shape) == math.prod(source.shape)
            if not is_all or not 0 < node.data_bytes <= node.root.data_bytes:
                found.append((source.shape, node.shape))
        elif node.reuses and not reads_indices:
            operands = [one.shape for one in node.sources[1:] if not one.is_input]
            found += [
                (node.shape, shape) for shape in operands if any(not b or a % b for a, b in zip(node.shape, shape))
            ]
    return found
