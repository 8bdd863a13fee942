# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A graph that was built once needs in every layout what the graph of that layout does."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    build,
    compute_bytes,
    devices_compute_bytes,
    spreads_unevenly,
    used_layers,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    Cells,
    cells,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._split import assigned_units
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._buffer import (
    Irregular,
    buffer_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._devices import (
    buffers_bytes,
    buffers_recipe,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    Graph,
    Tensor,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._recipe import (
    graph_recipe,
    recipe_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._unknowns import (
    LayoutValues,
    unknown_layout,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import EngineBuild
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import engine_rules
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, STEMS, shape

ALIGNMENT = 128
UNKNOWN = unknown_layout(several_slots=True, slides=False)
# Context length, slots and batch.
LOADS = ((4096, 2, 512), (8192, 4, 1024), (300, 3, 64), (40960, 5, 2048))


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize(("cache_type", "build_number"), [("f16", 10488), ("q8_0", 10488), ("f16", 11434)])
def test_the_recipe_of_a_graph_of_unknowns_gives_what_each_layouts_own_graph_needs(
    name, cache_type, build_number
):
    model, engine = shape(name), engine_rules(EngineBuild(build_number))

    def graph(layout):
        return build(model, layout, Attention.FLASH, cache_type=cache_type, engine=engine).graph

    unknown = unknown_layout(several_slots=True, slides=bool(model.sliding_window))
    recipe = graph_recipe(graph(unknown), input_copies=4)
    for load in LOADS:
        layout = cells(model, *load)
        own = graph(layout)
        assert recipe.peaks_bytes(LayoutValues(layout), alignment=ALIGNMENT) in (
            None,
            [buffer_bytes(own, alignment=ALIGNMENT, input_copies=4)],
        )


@pytest.mark.parametrize("name", ["granite4:micro-h", "qwen3.5:9b"])
def test_so_does_that_of_a_graph_over_several_devices(name):
    model = shape(name)
    devices = tuple(assigned_units(model.block_count + 1, (24, 12, 12)))

    def nodes(layout):
        layers = used_layers(model)
        context = build(
            model, layout, Attention.FLASH, cache_type="f16", layers=layers, devices=devices
        )
        return context.graph.nodes

    recipe = buffers_recipe(nodes(unknown_layout(several_slots=True, slides=False)), copies=4)
    for load in LOADS:
        layout = cells(model, *load)
        own = buffers_bytes(nodes(layout), device_count=3, alignment=ALIGNMENT, copies=4)
        assert recipe.peaks_bytes(LayoutValues(layout), alignment=ALIGNMENT, device_count=3) == own


def test_so_does_that_of_a_gpu_that_runs_before_it_is_handed_all_it_needs():
    """Of three inputs all copies lie there at once, or each when it is read: five rows of tokens, or four."""

    def nodes(layout):
        inputs = [Tensor((layout.tokens,), is_input=True) for _unused in range(3)]
        first, second, third = inputs
        wide = Tensor((2 * layout.tokens,), (first,), device=0)
        narrow = Tensor((layout.tokens,), (wide, second), device=0)
        return [wide, narrow, Tensor((layout.tokens,), (narrow, third), device=0, reuses=True)]

    layout = Cells(full=1024, sliding=0, slots=2, batch=512)
    found = []
    for most_copies in (None, 1, 2, 3):
        recipe = buffers_recipe(nodes(UNKNOWN), copies=1, most_copies=most_copies)
        peaks = recipe.peaks_bytes(LayoutValues(layout), alignment=ALIGNMENT)
        assert peaks == buffers_bytes(
            nodes(layout), device_count=1, alignment=ALIGNMENT, copies=1, most_copies=most_copies
        )
        found += [number // (4 * layout.tokens) for number in peaks]
    # Two are handed over together, the third when it is read.
    assert found == [5, 4, 4, 5]


def devices_directly(model, layout, devices, engine):
    """The buffers of all GPUs by the graph of this very layout."""
    layers = used_layers(model)
    graph = build(
        model, layout, Attention.FLASH, cache_type="f16", layers=layers, devices=devices, engine=engine
    ).graph
    return tuple(buffers_bytes(graph.nodes, device_count=len(devices), alignment=ALIGNMENT, copies=4))


@pytest.mark.parametrize("build_number", [10488, 11434])
@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("name", ["gemma3n:e2b", "granite4:micro-h", "qwen3.5:9b"])
def test_what_is_told_of_several_devices_is_what_their_layouts_own_graph_needs(name, slots, build_number):
    """Also where layers read the cache of another one, which may lie on another GPU, and states of other slots."""
    model, engine = shape(name), engine_rules(EngineBuild(build_number))
    assert spreads_unevenly(model, Attention.FLASH)
    for parts in ((24, 12), (8, 24, 12)):
        devices = tuple(assigned_units(model.block_count + 1, parts))
        layout = cells(model, 4096, slots, 512)
        told = devices_compute_bytes(model, layout, Attention.FLASH, "f16", devices, 4, engine)
        assert told == devices_directly(model, layout, devices, engine)


@pytest.mark.parametrize("context_length", [1024, 8192])
def test_where_an_indexer_chooses_among_cells_each_layout_has_its_own_graph(context_length):
    """It chooses 2048, or all of fewer cells."""
    header = json.loads((DATA / "newer" / "headers" / "glm-5_744b.json").read_text())
    model = shape_from_header(header, name="glm-5", digest="")
    layout = cells(model, context_length, 2, 512)
    graph = build(model, layout, Attention.FLASH, cache_type="f16").graph
    assert compute_bytes(model, layout, Attention.FLASH, "f16") == buffer_bytes(graph, alignment=ALIGNMENT)


def test_it_does_not_hold_where_a_layout_makes_lengths_alike_that_differ_otherwise():
    """Then one is written over the other: two rows of 4096 tokens beside 4096 cells."""
    graph = Graph()
    first = Tensor((UNKNOWN.full,))
    graph.expand(Tensor((UNKNOWN.tokens,), (first,), reuses=True))
    recipe = graph_recipe(graph)
    differ, alike = (Cells(full=full, sliding=0, slots=2, batch=512) for full in (1024, 512))
    assert recipe.peaks_bytes(LayoutValues(differ), alignment=ALIGNMENT) == [4 * (1024 + 512)]
    assert recipe.peaks_bytes(LayoutValues(alike), alignment=ALIGNMENT) is None


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        # Some length differs in every layout: nothing can make them alike.
        ((UNKNOWN.full, 3), (UNKNOWN.full, 4), None),
        ((UNKNOWN.full + 1, UNKNOWN.tokens), (UNKNOWN.full, UNKNOWN.full), None),
        ((UNKNOWN.full, UNKNOWN.tokens), (UNKNOWN.tokens, UNKNOWN.full), 512),
        ((UNKNOWN.full, 3), (256, 3), 256),
    ],
)
def test_lengths_that_differ_in_every_layout_are_not_looked_at_again(first, second, alike):
    graph = Graph()
    graph.expand(Tensor(second, (Tensor(first),), reuses=True))
    recipe = graph_recipe(graph)
    assert bool(recipe.differing) is (alike is not None)
    for full in (256, 512, 1024):
        values = LayoutValues(Cells(full=full, sliding=0, slots=2, batch=512))
        assert (recipe.peaks_bytes(values, alignment=ALIGNMENT) is None) is (full == alike)


@pytest.mark.parametrize(("alignment", "size"), [(128, 256), (32, 160), (1, 132)])
def test_sizes_are_aligned_when_they_are_known(alignment, size):
    graph = Graph()
    graph.expand(Tensor((33,)))
    values = LayoutValues(Cells(full=256, sliding=0, slots=2, batch=512))
    assert graph_recipe(graph).peaks_bytes(values, alignment=alignment) == [size]


def test_a_stretch_that_begins_with_other_pieces_than_the_one_before_it_leaves_is_irregular():
    one, other = Tensor((32,)), Tensor((64,))
    last = Tensor((32,), (one, other))
    steps = [(one, ()), (other, ()), (last, (one, other))]
    with pytest.raises(Irregular):
        recipe_of(steps, (1, 2), (0, 2), first=(), copies=1)
