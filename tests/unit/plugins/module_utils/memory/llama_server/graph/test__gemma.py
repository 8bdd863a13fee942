# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers of gemma3n and gemma4: their residual streams and inputs of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import Context
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._gemma import (
    SPARSE_LAYERS,
    begin_gemma3n,
    begin_gemma4,
    gemma3n_layer,
    merged_streams,
    resume_gemma3n,
    resume_gemma4,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import Tensor
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._layers import Style
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, bench, shape

MIB = 1 << 20
STREAMS = shape("gemma3n:e2b")


@pytest.mark.parametrize("name", ["gemma3n:e2b", "gemma4:e4b", "gemma4:12b", "gemma4:26b"])
def test_a_model_takes_the_compute_buffer_that_the_engine_allocated(name):
    rows = [
        row
        for row in bench("accuracy").read_rows(DATA / "engine_memory.csv")
        if (row["model"], row["backend"], row["status"], row["ctx"]) == (name, "cuda", "ok", "4096")
    ]
    assert len(rows) > 5
    for row in rows:
        settings = LoadSettings(int(row["ctx"]), int(row["parallel"]), int(row["ubatch"]), row["kv_type"], row["fa"])
        assert estimate(shape(name), settings).gpus[0].compute_bytes / MIB == pytest.approx(float(row["compute_mib"]), rel=0.001)


def context(model=STREAMS, slots=2) -> Context:
    return Context(
        model, cells(model, 1024, slots, 512), Attention.FLASH, cache_type="f16", here=range(model.block_count)
    )


def test_gemma3n_has_four_residual_streams_of_which_the_rows_wanted_become_one():
    here = context()
    width = STREAMS.embedding_length
    begun = begin_gemma3n(here, here.embeddings())
    assert begun.shape == resume_gemma3n(here, False).shape == (width, 512, 4, 1)
    # One row for each slot.
    assert merged_streams(here, begun).shape == (width, 2, 1, 1)


@pytest.mark.parametrize(("streams", "is_refused"), [(1, True), (2, False), (16, False), (17, True)])
def test_streams_are_two_to_sixteen(streams, is_refused):
    model = replace(STREAMS, numbers={**STREAMS.numbers, "altup.num_inputs": streams})
    if is_refused:
        with pytest.raises(ValueError, match=f"{streams} residual streams, expected 2 to 16"):
            resume_gemma3n(context(model), False)
    else:
        assert resume_gemma3n(context(model), False).shape[2] == streams


def test_only_the_first_ten_layers_keep_the_strongest_activations():
    """llama.cpp src/models/gemma3n.cpp, gaussian_topk: mean, sub, sqr, sum_rows, scale, sqrt, scale, add, sub, relu."""
    counts = []
    for index in (SPARSE_LAYERS - 1, SPARSE_LAYERS):
        here = context()
        begun = here.graph.expand(begin_gemma3n(here, here.embeddings()))
        before = here.graph.node_count
        # Of the same form and attention, whatever the index.
        model = replace(STREAMS, layers=(STREAMS.layers[0],) * STREAMS.block_count)
        here.shape = model
        form = dict(model.forms[model.layers[0].form])
        here.graph.expand(gemma3n_layer(here, Style(norms_values=True), form, index, begun, False))
        counts.append(here.graph.node_count - before)
    assert SPARSE_LAYERS == 10
    assert counts[0] - counts[1] == 10


@pytest.mark.parametrize(("name", "has_inputs"), [("gemma4:e4b", True), ("gemma4:26b", False)])
def test_gemma4_has_inputs_of_its_layers_where_the_header_says_so(name, has_inputs):
    model = shape(name)
    here = context(model)
    begun = begin_gemma4(here, here.embeddings())
    assert begun.shape == resume_gemma4(here, False).shape == (model.embedding_length, 512, 1, 1)
    assert isinstance(here.layer_inputs, Tensor) is has_inputs
    if has_inputs:
        length = model.number("embedding_length_per_layer_input")
        assert here.layer_inputs.shape == (length, 512, model.block_count, 1)
