# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which graphs an engine build reserves its buffers for: tests/data/engine_graphs.csv, against which ours are held.

python tests/engine/graphs.py [--engine b10488] [--engine 3.22.1] [--models llama3.1:8b,...] [--into FILE]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import _checkout
import _collection
import design
import package
import probe
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.memory.llama_server.graph.reserved import (
    architectures,
    header_of,
)
from graph_form import digest, digest_of_effect, of_engine

TABLE = _checkout.DATA / "engine_graphs.csv"
COLUMNS = (
    *("model", "build", "ctx", "parallel", "ubatch", "kv_type", "fa", "nodes"),
    *("operations", "digest", "of_layers", "digest_of_layers", "effect_of_layers"),
)
# 66 tokens are 22 for each of three slots, as long as nothing else.
POINTS = (
    probe.Point(1024, 3, 66),
    probe.Point(1024, 1, 66, "q8_0"),
    probe.Point(1024, 3, 66, flash_attention="off"),
)
OF_EMBEDDERS = (probe.Point(256, 3, 66, is_embedding=True), probe.Point(256, 1, 66, "f16", "off", True))


def headers() -> list[dict[str, Any]]:
    """One header of those that have the same architecture and tensors of the same names."""
    found: dict[tuple[str, frozenset[str]], dict[str, Any]] = {}
    for header in measured():
        names = frozenset(re.sub(r"\d+", "*", name) for name, _type, _lengths in header["tensors"])
        found.setdefault((header["metadata"]["general.architecture"], names), header)
    return list(found.values())


def measured() -> Iterator[dict[str, Any]]:
    """The headers of all models whose buffers were measured."""
    for folder in (_collection.DATA / "headers", _collection.DATA / "newer" / "headers"):
        for path in sorted(folder.glob("*.json")):
            yield json.loads(path.read_text(encoding="utf-8"))
    for name, model in architectures().items():
        yield with_vocabulary(header_of(name, model))


def with_vocabulary(header: Mapping[str, Any]) -> dict[str, Any]:
    """A header without a vocabulary with one of which only the size is told; the engine loads none without."""
    metadata = header["metadata"]
    lengths = {name: (*lengths, 1) for name, _type, lengths in header["tensors"]}
    told = {
        "tokenizer.ggml.model": "none",
        "tokenizer.ggml.token_type_count": lengths.get("token_types.weight", (0, 0))[1],
        f"{metadata['general.architecture']}.vocab_size": lengths["token_embd.weight"][1],
    }
    return {**header, "metadata": {**told, **metadata}}


def preloaded() -> Path:
    """The library that writes graphs, built where it is not yet."""
    target = package.SIMULATED_CUDA / "graphs.so"
    include = " ".join(map(str, package.headers(package.KNOWN["3.20.0"][1])))
    return package.built(target, ("graphs.cpp",), "graphs", f"HEADERS={include}", f"OUT={target.parent}")


def graphs_of(engine: package.Engine, model: Path, points: Sequence[probe.Point]) -> list[list[str]]:
    """The first graph of each point, that of a whole batch; [] for a point at which the engine does not start."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as written:
        surroundings = probe.environment(
            engine, [probe.Device()], LD_PRELOAD=str(preloaded()), ENGINE_GRAPHS=written.name
        )
        _loaded, outcomes = probe.run_points(engine, model, points, surroundings)
        graphs = [text.splitlines() for text in written.read().split("graph\n")[1:]]
    if len(points) > 1 and any(one.status != "ok" for one in outcomes):
        return [graph for point in points for graph in graphs_of(engine, model, [point])]
    # Each context reserves as many.
    return graphs[:: max(len(graphs) // len(points), 1)] or [[] for _point in points]


def rows_of(engine: package.Engine, header: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """A row for each of so many points at which the engine starts the model."""
    found = []
    points = (OF_EMBEDDERS if design.is_embedder(header) else POINTS)[:count]
    with tempfile.TemporaryDirectory(prefix="gpufleet-engine-") as folder:
        model = probe.sparse_model(header, Path(folder) / "model.gguf")
        for point, graph in zip(points, graphs_of(engine, model, points)):
            operations, of_layers = of_engine(graph)
            if operations:
                started = (point.context, point.parallel, point.ubatch, point.cache_type, point.flash_attention)
                layers = operations[:of_layers]
                told = (len(graph), len(operations), digest(operations), len(layers), digest(layers), digest_of_effect(layers))
                found.append(dict(zip(COLUMNS, (header["name"], engine.release, *started, *told))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", action="append", metavar="NPM_VERSION|BUILD")
    parser.add_argument("--models", default="", help="names, separated by commas; default: all that have a header")
    parser.add_argument("--into", type=Path, default=TABLE)
    arguments = parser.parse_args()
    wanted = tuple(filter(None, arguments.models.split(",")))
    chosen = [header for header in headers() if not wanted or header["name"] in wanted]
    package.simulated_cuda()
    preloaded()
    with arguments.into.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        # Builds differ in few operations, all of which one point shows.
        for version, count in zip(arguments.engine or ["b10488", "3.22.1"], (len(POINTS), *[1] * len(chosen))):
            engine = package.engine(version)
            with ThreadPoolExecutor(os.cpu_count()) as executor:
                rows_of_model = partial(rows_of, engine, count=count)
                for header, rows in zip(chosen, executor.map(rows_of_model, chosen)):
                    writer.writerows(rows)
                    file.flush()
                    print(f"{engine.release} {header['name']:30} {len(rows)} graphs", flush=True)


if __name__ == "__main__":
    main()
