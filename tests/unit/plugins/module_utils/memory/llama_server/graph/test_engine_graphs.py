# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Graphs of all models against those that the unmodified engine reserved its buffers for: operation for operation.

tests/data/engine_graphs.csv has the number of operations and a digest of them; tests/engine/graphs.py makes it.
"""

from __future__ import annotations

import csv
import json
from functools import lru_cache

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    build,
    used_layers,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import resolved
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._refusals import graph_size
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    OUTSIDE,
    Graph,
    Tensor,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import engine_rules
from ansible_collections.gpufleet.ollama.tests.engine.graph_form import (
    Operation,
    digest,
    digest_of_effect,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, HEADERS, NEWER_HEADERS
from ansible_collections.gpufleet.ollama.tests.unit.data import shape as stored_shape
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.memory.llama_server.graph.reserved import (
    architectures,
    shape_of,
)

ROWS = list(csv.DictReader((DATA / "engine_graphs.csv").open(newline="")))
STEMS = {
    json.loads(path.read_text())["name"]: path.stem
    for folder in (NEWER_HEADERS, HEADERS)
    for path in folder.glob("*.json")
}


@lru_cache(maxsize=None)
def model(name: str) -> ModelShape:
    return stored_shape(STEMS[name]) if name in STEMS else shape_of(name, architectures()[name])


def operations_of(graph: Graph) -> list[Operation]:
    """What the graph makes in the compute buffer; writes to caches and states lie elsewhere."""
    numbers: dict[Tensor, int] = {}
    for node in graph.nodes:
        if node.root is not OUTSIDE:
            numbers[node] = len(numbers)
    found = []
    for node in numbers:
        memory = "shown" if node.root is not None else "over" if node.reuses else "new"
        reads = sorted({numbers[one] for one in node.sources if one in numbers})
        found.append(Operation(node.shape, node.element_bytes, memory, tuple(reads)))
    return found


# Only what layers do is the same: at the end the engine scales the logits, picks the rows wanted before the last norm or
# after it, or has a norm there that is not written over its operand. All of these are a few rows at most.
ENDS_OTHERWISE = frozenset(
    (
        "bloom", "command-r7b", "command-r:35b", "falcon:40b", "gemma2:27b", "gemma4:12b",
        "gemma4:26b", "gpt2", "gptneox", "granite-4.1:8b", "granite-swa:8b", "granite3.1-moe:3b",
        "lfm2.5:1.2b", "lfm2:8b-a1b", "minicpm:2b", "nemotron-3-nano:30b", "nemotron-h:8b", "olmo:7b",
        "orion", "phi2", "qwen3.5:9b", "qwen3.6:27b-mtp", "qwen3.6:35b-a3b", "phi3.5-moe", "stablelm2:1.6b", "stablelm2:12b",
        "starcoder2:15b", "starcoder:15b",
    )
)
# Only what layers do to memory is the same: the engine multiplies in place once more or less, or shows a piece in two steps.
SAME_EFFECT = frozenset(
    (
        "afmoe", "arcee", "bailing-lite", "bitnet-b1.58:3b", "cohere2moe:30b-a3b", "dbrx",
        "deepseek-moe:16b", "deepseek-v2:16b", "deepseek-v2:16b-mla", "exaone-moe", "falcon-h1:1.5b",
        "gemma4:e4b", "glm4.5-air", "granite4:micro-h", "granite4:tiny-h", "jamba-mini",
        "ling-3.0-flash:124b", "ling-mini2", "mamba:2.8b", "mimo-v2-flash:309b", "minicpm3:4b", "mistral4",
        "mpt:7b", "nanbeige-looped:3b", "nemotron-mini:4b", "minimax-m3:427b",
        "plamo-3-nict:2b", "qwen3-next:80b-split", "qwen3-vl:30b", "qwen3-vl:8b",
    )
)
SAME_EFFECT_IN = frozenset((("deepseek-v3.2:671b", "v0.5.0"), ("glm-5:744b", "v0.5.0")))
# Graphs that differ by a small result in each layer, or that are not known; their buffers are held by measured rows alone.
DIFFERENT = {
    "cogvlm": "its last layer picks the rows wanted later",
    "gemma3n:e2b": "it shows the layers' own inputs once more",
    "grok": "it caps scores, and scales what a layer gives",
    "rwkv7": "its graph is not known",
}
DIFFERENT_ROWS = {
    ("deepseek-v2:16b", "b10488", "q8_0"): "the host runs its attention",
    ("stablelm2:12b", "b10488", "q8_0"): "the host runs its attention",
    ("kimi-linear:48b", "v0.5.0", "f16"): "queries and keys are normalised in two steps",
    ("ling-3.0-flash:124b", "v0.5.0", "f16"): "queries and keys are normalised in two steps",
    ("qwen3.5:9b", "v0.5.0", "f16"): "queries and keys are normalised in two steps",
    ("qwen3-next:80b-split", "v0.5.0", "f16"): "queries and keys are normalised in two steps",
    ("qwen3.6:35b-a3b", "v0.5.0", "f16"): "queries and keys are normalised in two steps",
    ("qwen3.6:27b-mtp", "v0.5.0", "f16"): "queries and keys are normalised in two steps",
}
COMPARED = [
    row
    for row in ROWS
    if row["model"] not in DIFFERENT and (row["model"], row["build"], row["kv_type"]) not in DIFFERENT_ROWS
]


@pytest.mark.parametrize("row", COMPARED, ids=lambda row: "-".join(list(row.values())[:7]))
def test_a_graph_has_the_engines_operations(row):
    """All of them, or where that is known to differ those of its layers, or those that make a difference to memory."""
    shape, engine = model(row["model"]), engine_rules(parse_build(row["build"]))
    layout = cells(shape, int(row["ctx"]), int(row["parallel"]), int(row["ubatch"]), engine)
    attention, layers = resolved(shape, row["fa"], row["kv_type"]), used_layers(shape)
    has_same_effect = row["model"] in SAME_EFFECT or (row["model"], row["build"]) in SAME_EFFECT_IN
    is_whole = not has_same_effect and row["model"] not in ENDS_OTHERWISE
    units = None if is_whole else range(shape.block_count)
    cache_type = row["kv_type"]
    context = build(shape, layout, attention, cache_type=cache_type, units=units, layers=layers, engine=engine)
    found = operations_of(context.graph)
    if has_same_effect:
        assert digest_of_effect(found) == row["effect_of_layers"]
    elif row["model"] in ENDS_OTHERWISE:
        assert (len(found), digest(found)) == (int(row["of_layers"]), row["digest_of_layers"])
    else:
        assert (len(found), digest(found)) == (int(row["operations"]), row["digest"])


TABLES_ON_THE_HOST = ("position_embd.weight", "token_types.weight")


@pytest.mark.parametrize("row", COMPARED, ids=lambda row: "-".join(list(row.values())[:7]))
def test_a_graph_has_as_many_operations_as_the_engines(row):
    """Also those that take no memory; of what the host looks up only the tokens' embeddings count."""
    shape = model(row["model"])
    # Of caches that an indexer keeps some are shown once less.
    is_other = row["model"] in ENDS_OTHERWISE | SAME_EFFECT or shape.number("attention.indexer.key_length")
    if is_other or any(layer.is_recurrent for layer in shape.layers):
        return
    attention, engine = resolved(shape, row["fa"], row["kv_type"]), engine_rules(parse_build(row["build"]))
    found = graph_size(shape, attention, row["kv_type"] != "f16", int(row["parallel"]) > 1, engine)[0]
    looked_up = sum(name in dict(shape.model_form) for name in TABLES_ON_THE_HOST)
    assert found == int(row["nodes"]) - looked_up


def test_most_models_graphs_are_the_engines_to_the_last_operation():
    names = {row["model"] for row in ROWS}
    assert len(names) == 121
    assert len(names - ENDS_OTHERWISE - SAME_EFFECT - set(DIFFERENT)) == 59
    assert len(DIFFERENT) == 4
