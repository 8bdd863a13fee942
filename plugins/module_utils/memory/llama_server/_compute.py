# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compute buffer: what the engine's graph needs besides weights and cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import field
from enum import Enum
from functools import lru_cache

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import Attention
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    INDEXER_KEYS,
    PREDICTING_BLOCKS,
    Cells,
    cells,
    has_indexer,
    kinds_of_cache,
    layer_cache,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._architectures import (
    ARCHITECTURES,
    TRANSFORMER,
    variant,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import (
    HALF_PRECISION,
    Context,
    reserve_mixed_input,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._buffer import (
    Irregular,
    buffer_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._devices import (
    buffers_bytes,
    buffers_recipe,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    FLOAT_BYTES,
    HALF_BYTES,
    HOST,
    Tensor,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._recipe import (
    Recipe,
    graph_recipe,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._unknowns import (
    LayoutValues,
    Terms,
    stands_for,
    terms_of,
    unknown_layout,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import LayerShape, ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tensor_types import CUDA_ALIGNMENT_BYTES
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_rules import (
    AS_FIRST_READ,
    EngineRules,
)

# Source: llama.cpp ggml/src/ggml-impl.h, TENSOR_ALIGNMENT (b10488)
CPU_ALIGNMENT_BYTES = 32
# What looks the token embeddings up: one operation that reads tokens and a table.
LOOKUP_NODES = 1
LOOKUP_LEAFS = 2
# Requests in flight at once when a model lies on several GPUs.
# Source: llama.cpp ggml/src/ggml-backend.cpp, GGML_SCHED_MAX_COPIES (b10488)
PIPELINE_COPIES = 4
# What a GPU was handed at the most before it ran.
# Source: llama.cpp ggml/src/ggml-backend.cpp, GGML_SCHED_MAX_SPLIT_INPUTS (b10488)
MOST_COPIES = 30
# What the graph of a common transformer gets on top where it stands for an unknown architecture: more than any of
# the known ones is off by when it is taken for one.
LIKE_OTHERS_MARGIN = 1.5
# Rows of the residual stream, as wide as the embeddings, that a build which was not measured is allowed to keep more.
ALLOWED_ROWS = 3
ALLOWED_ROWS_OF_EACH_COPY = 2
ALLOWED_MARGIN = 1.5
PER_LAYER_INPUTS = "embedding_length_per_layer_input"
SHARED_CACHES = "attention.shared_kv_layers"


class Knowledge(Enum):
    """What is known of a model's graph.

    LIKE_OTHERS: the architecture is not known, but its layers have the tensors of a common transformer.
    """

    KNOWN = "known"
    LIKE_OTHERS = "like others"
    NONE = "none"


@lru_cache(maxsize=1024)
def knowledge(shape: ModelShape) -> Knowledge:
    """What is known of a model's graph; a header that lacks tensors of its architecture counts as unknown."""
    is_known = shape.architecture in ARCHITECTURES
    if not is_known and any(layer.is_recurrent for layer in shape.layers):
        return Knowledge.NONE
    try:
        if _built(shape, Attention.FLASH, HALF_PRECISION, None, 1, False, True, AS_FIRST_READ) is None:
            layers = layers_of_kinds(shape, times=1)
            build(shape, cells(shape, 256, 1, 64), Attention.FLASH, cache_type=HALF_PRECISION, layers=layers)
    except (ArithmeticError, LookupError, ValueError):
        return Knowledge.NONE
    return Knowledge.KNOWN if is_known else Knowledge.LIKE_OTHERS


def used_layers(shape: ModelShape) -> range:
    """Layers that a graph runs through; those that predict further tokens ahead are left out."""
    return range(shape.block_count - shape.number(PREDICTING_BLOCKS))


def layers_on(shape: ModelShape, units: range) -> range:
    """Layers that a graph runs through on a device that holds these units."""
    used = used_layers(shape)
    return range(min(units.start, used.stop), min(units.stop, used.stop))


@dataclass(frozen=True)
class Pattern:
    """How layers repeat: those to build, and for each layer on the device the number of the one there that it is like."""

    built: Sequence[int]
    order: Sequence[int]


def _reads_from_afar(shape: ModelShape, indices: range) -> bool:
    """Whether layers get inputs of their own from another device."""
    return indices.start > 0 and bool(
        shape.number(PER_LAYER_INPUTS)
        or any(shape.layers[index].cache_layer not in (None, *indices) for index in indices)
    )


@lru_cache(maxsize=1024)
def pattern_of(shape: ModelShape, indices: range) -> Pattern:
    """The layers that differ from all before them in what they do to memory, and where they stand for others.

    That follows from a layer's own kind and that of the one before it, which may not be finished when it begins. What
    several layers read is given up after the last of them: so it matters too which kinds are yet to come.
    """
    if _reads_from_afar(shape, indices) or _has_indexer_in(shape, indices):
        return Pattern(indices, range(len(indices)))
    kinds = _first_of_kind(shape)[indices.start : indices.stop]
    traits: list[tuple[object, ...]] = []
    to_come: frozenset[object] = frozenset()
    for kind in reversed(kinds):
        traits.append((kind, to_come))
        to_come |= {kind}
    traits.reverse()
    # The first layer reads what no layer has made.
    traits[:1] = [("first", *one) for one in traits[:1]]
    built: list[int] = []
    order: list[int] = []
    numbers: dict[tuple[object, ...], int] = {}
    for position, pair in enumerate(zip([(), *traits], traits)):
        if pair not in numbers:
            if built and traits[built[-1]] != pair[0]:
                built.append(position - 1)
            numbers[pair] = len(built)
            built.append(position)
        order.append(numbers[pair])
    return Pattern([indices[position] for position in built], order)


def _has_indexer_in(shape: ModelShape, indices: range) -> bool:
    """Whether any of these layers chooses which cells its attention sees."""
    return shape.number(INDEXER_KEYS) > 0 and any(has_indexer(shape, shape.layers[one]) for one in indices)


def layers_of_kinds(shape: ModelShape, *, times: int) -> list[int]:
    """So many layers of each kind that a graph runs through, and the last one."""
    used = used_layers(shape)
    seen: Counter[int] = Counter()
    chosen = []
    for index in used:
        kind = kind_of_layer(shape, index)
        seen[kind] += 1
        if seen[kind] <= times or index == used[-1]:
            chosen.append(index)
    return chosen


def kind_of_layer(shape: ModelShape, index: int) -> int:
    """The first layer that takes the same operations and keeps as much: layers of one kind have the same."""
    return _first_of_kind(shape)[index]


@lru_cache(maxsize=256)
def _first_of_kind(shape: ModelShape) -> tuple[int, ...]:
    firsts: dict[tuple[object, ...], int] = {}
    kinds = (
        (cached, layer.form, layer.head_count_kv, variant(shape, index))
        for index, (cached, layer) in enumerate(zip(kinds_of_cache(shape), shape.layers))
    )
    return tuple(firsts.setdefault(kind, index) for index, kind in enumerate(kinds))


@dataclass(frozen=True)
class Units:
    """Units of a model on one device; equal to others of the model that need the same compute buffer."""

    kinds: tuple[object, ...]
    numbers: range = field(compare=False)


@lru_cache(maxsize=8192)
def units_of(shape: ModelShape, numbers: range) -> Units:
    """The units with these numbers: layers, and the output as one more.

    A buffer's peak recurs with the kinds of layers; more of the same do not raise it. Not so where something lives
    across layers, such as states that the next layer reads early: there it may matter which layers they are.
    """
    here = layers_on(shape, numbers)
    if (
        shape.number(PER_LAYER_INPUTS)
        or any(shape.layers[index].is_recurrent for index in here)
        or _has_indexer_in(shape, here)
        or any(layer.cache_layer not in (None, index) for index, layer in enumerate(shape.layers))
    ):
        return Units((numbers.start, numbers.stop), numbers)
    ends = (numbers.start == 0, numbers.stop > shape.block_count, used_layers(shape)[-1] in here)
    return Units((*ends, *_runs_of_kinds(shape, here)), numbers)


def _runs_of_kinds(shape: ModelShape, indices: range) -> list[int]:
    """The kinds of the layers that begin or end something new: the last of every new run of four, and of all."""
    seen = set()
    chosen = []
    recent: tuple[int, ...] = ()
    kinds = _first_of_kind(shape)
    for index in indices:
        recent = (*recent[-3:], kinds[index])
        if recent not in seen or index == indices[-1]:
            seen.add(recent)
            chosen.append(recent[-1])
    return chosen


def build(
    shape: ModelShape,
    layout: Cells,
    attention: Attention,
    *,
    cache_type: str,
    units: range | None = None,
    layers: Sequence[int] | None = None,
    one_by_one: bool = False,
    on_cpu: bool = False,
    devices: Sequence[range] = (),
    engine: EngineRules = AS_FIRST_READ,
) -> Context:
    """The graph of a model on one device, or on several at once.

    units: the layers on the device and, as one more, the output; None: all of them. layers: those to build; None:
    those of the device, but for layers that do to memory what one before them does. one_by_one: whether a layer is
    finished before the next one begins, which changes the order of operations and not their number. devices: the units
    of each.
    Raises: Irregular where a layer that is left out is not as the one before it.
    """
    units = range(shape.block_count + 1) if units is None else units
    architecture = ARCHITECTURES.get(shape.architecture, TRANSFORMER)
    used = used_layers(shape)
    here = layers_on(shape, units)
    context = Context(
        shape=shape,
        layout=layout,
        attention=attention,
        cache_type=cache_type,
        on_cpu=on_cpu,
        here=here,
        engine=engine,
        devices=devices,
    )
    context.graph.outside_nodes += LOOKUP_NODES
    context.graph.leafs += LOOKUP_LEAFS
    after_last = not here
    context.device = context.device_of(0)
    if units.start:
        current = architecture.resume(context, after_last)
    else:
        if context.takes_mixed_batches():
            deep = 1 + shape.number("n_deepstack_layers")
            reserve_mixed_input(context, deep * shape.embedding_length)
        current = architecture.begin(context, context.embeddings())
    pattern = pattern_of(shape, here) if layers is None else Pattern(layers, range(len(layers)))
    context.is_inside = True
    for position, index in enumerate(pattern.built):
        previous = current
        context.device = context.device_of(index)
        # Layers that run again have the weights of the first run, and a cache of their own.
        context.weights_device = context.device_of(index % (shape.block_count // shape.runs))
        form = dict(shape.forms[shape.layers[index].form])
        current = architecture.layer(
            context, architecture.style, form, index, current, index == used[-1]
        )
        if one_by_one:
            context.graph.expand(current)
        if position and len(pattern.built) < len(pattern.order) and not previous.visited:
            raise Irregular
        context.layer_ends.append((context.graph.node_count, context.graph.leafs))
        context.graph.ends.append(len(context.graph.nodes))
    context.graph.order = (*pattern.order, len(pattern.built))
    context.graph.expand(current)
    context.is_inside = False
    context.device = context.weights_device = context.device_of(shape.block_count)
    if units.stop == shape.block_count + 1:
        architecture.end(context, current)
    return context


def _guarded(known: Knowledge, exact_bytes: int) -> int:
    """With a margin where the graph is only like the model's."""
    return exact_bytes if known is Knowledge.KNOWN else int(exact_bytes * LIKE_OTHERS_MARGIN)


@dataclass(frozen=True)
class _Built:
    """A graph that was built of unknowns: what it does to memory, and the bytes of its inputs.

    most_nodes, most_tensors: bounds of its operations and of its tensors in all.
    """

    recipe: Recipe
    inputs_bytes: Terms
    most_nodes: int
    most_tensors: int


@lru_cache(maxsize=4096)
def _built(
    shape: ModelShape,
    attention: Attention,
    cache_type: str,
    units: Units | None,
    copies: int,
    on_cpu: bool,
    several_slots: bool,
    engine: EngineRules,
) -> _Built | None:
    """The graph of one device for all layouts; None where there is none, or a layer is not as the one that stands for it."""
    if _has_operations_by_layout(shape):
        return None
    layout = unknown_layout(several_slots=several_slots, slides=bool(shape.sliding_window))
    try:
        numbers = units.numbers if units else None
        context = build(
            shape, layout, attention, cache_type=cache_type, units=numbers, on_cpu=on_cpu, engine=engine
        )
        recipe = graph_recipe(context.graph, input_copies=copies)
    except Irregular:
        return None
    inputs_bytes = terms_of(sum(tensor.data_bytes for tensor in context.inputs()))
    return _Built(recipe, inputs_bytes, *_most_of(context))


def _most_of(context: Context) -> tuple[int, int]:
    """Operations of all layers, and tensors in all: no fewer than there are.

    A layer that stands for others adds what it does each time, also inputs that they share.
    """
    totals = [(0, 0), *context.layer_ends, (context.graph.node_count, context.graph.leafs)]
    added = [(after[0] - before[0], after[1] - before[1]) for before, after in zip(totals, totals[1:])]
    nodes = sum(added[number][0] for number in context.graph.order)
    return nodes, nodes + sum(added[number][1] for number in context.graph.order)


def graph_bounds(
    shape: ModelShape, attention: Attention, cache_type: str, engine: EngineRules = AS_FIRST_READ
) -> tuple[int, int] | None:
    """No fewer operations, and tensors in all, than a model's graph has with any number of slots; None: not known."""
    built = _built(shape, attention, cache_type, None, 1, False, True, engine)
    return (built.most_nodes, built.most_tensors) if built else None


@lru_cache(maxsize=1024)
def _has_operations_by_layout(shape: ModelShape) -> bool:
    """Whether a layout decides which operations a graph has, so that none of unknowns stands for it.

    An indexer chooses among cells, as many as there are or fewer.
    """
    return _has_indexer_in(shape, range(shape.block_count))


def _forms_of(shape: ModelShape, layout: Cells, engine: EngineRules) -> tuple[bool, ...]:
    """Whether graphs of unknowns with several slots and with one may stand for a layout's, the likelier first."""
    if not stands_for(layout) or _has_operations_by_layout(shape):
        return ()
    if layout.slots > 1:
        return (True,)
    # States of the other slots are read where there are others.
    reads_others = engine.gathers_once and any(layer.is_recurrent for layer in shape.layers)
    return (False,) if reads_others else (True, False)


@lru_cache(maxsize=4096)
def _known(layout: Cells) -> LayoutValues:
    return LayoutValues(layout)


def _on_one_device(
    shape: ModelShape,
    layout: Cells,
    attention: Attention,
    cache_type: str,
    units: Units | None,
    copies: int,
    on_cpu: bool,
    engine: EngineRules,
) -> int:
    """Bytes of the buffer of one device."""
    alignment = CPU_ALIGNMENT_BYTES if on_cpu else CUDA_ALIGNMENT_BYTES
    # With one slot lengths may be alike that are not with several: then its graph is built by itself.
    for several_slots in _forms_of(shape, layout, engine):
        built = _built(shape, attention, cache_type, units, copies, on_cpu, several_slots, engine)
        peaks = built.recipe.peaks_bytes(_known(layout), alignment=alignment) if built else None
        if peaks:
            return peaks[0]
    numbers = units.numbers if units else None

    def found(layers: Sequence[int] | None) -> int:
        context = build(
            shape,
            layout,
            attention,
            cache_type=cache_type,
            units=numbers,
            layers=layers,
            on_cpu=on_cpu,
            engine=engine,
        )
        return buffer_bytes(context.graph, alignment=alignment, input_copies=copies)

    try:
        return found(None)
    except Irregular:
        return found(used_layers(shape) if numbers is None else layers_on(shape, numbers))


def _inputs_bytes(
    shape: ModelShape, layout: Cells, attention: Attention, cache_type: str, engine: EngineRules
) -> int:
    """Bytes of the inputs of the graph of all layers."""
    for several_slots in _forms_of(shape, layout, engine)[:1]:
        built = _built(shape, attention, cache_type, None, 1, False, several_slots, engine)
        if built:
            return _known(layout).value(built.inputs_bytes)
    try:
        context = build(shape, layout, attention, cache_type=cache_type, engine=engine)
    except Irregular:
        layers = used_layers(shape)
        context = build(shape, layout, attention, cache_type=cache_type, layers=layers, engine=engine)
    return sum(tensor.data_bytes for tensor in context.inputs())


@lru_cache(maxsize=8192)
def compute_bytes(
    shape: ModelShape,
    layout: Cells,
    attention: Attention,
    cache_type: str,
    units: Units | None = None,
    copies: int = 1,
    engine: EngineRules = AS_FIRST_READ,
) -> int:
    """Bytes of the compute buffer on one GPU that holds these units of the model.

    copies: requests in flight at once; more than one when a model lies on several GPUs.
    """
    known = knowledge(shape)
    more = 0 if known is Knowledge.KNOWN else _sparse_bound_bytes(shape, layout, attention, units, copies)
    if known is Knowledge.NONE:
        extra = more + (copies - 1) * _inputs_bound_bytes(shape, layout, attention)
        if copies > 1 and any(layer.is_recurrent for layer in shape.layers):
            # Where layers read their state early, GPUs hand results of one layer to and fro.
            widest = max(_results_width(shape, layer) for layer in shape.layers)
            extra += copies * FLOAT_BYTES * layout.tokens * widest
        return bound_bytes(shape, layout, attention, cache_type) + extra + _allowance_bytes(
            shape, layout, engine, copies, units is None or units.numbers.start == 0
        )
    if ARCHITECTURES.get(shape.architecture, TRANSFORMER).copies_views and copies == 1 and units is None:
        return devices_compute_bytes(
            shape, layout, attention, cache_type, (range(shape.block_count + 1),), 1, engine
        )[0]
    exact_bytes = _on_one_device(shape, layout, attention, cache_type, units, copies, False, engine)
    return _guarded(known, exact_bytes) + more + _allowance_bytes(
        shape, layout, engine, copies, units is None or units.numbers.start == 0
    )


def _sparse_bound_bytes(
    shape: ModelShape, layout: Cells, attention: Attention, units: Units | None, copies: int
) -> int:
    """A bound of what choosing cells takes in a graph that is not known, where layers have an indexer.

    Masks of all cells by position and in single precision, and for each of the indexer's heads three forms of them for
    the tokens of one slot. GPUs but the first get the first one's mask for each such layer.
    Source: llama.cpp src/models/minimax-m3.cpp (b10488).
    """
    numbers = range(shape.block_count + 1) if units is None else units.numbers
    sparse = sum(has_indexer(shape, shape.layers[index]) for index in layers_on(shape, numbers))
    if not sparse or not attention.is_flash:
        return 0
    mask = FLOAT_BYTES * layout.tokens * layout.full
    heads = shape.number("attention.indexer.head_count", 1)
    copied = copies * sparse if numbers.start else copies
    return mask * (2 * copies + copied) + 3 * mask * heads // layout.slots


def _allowance_bytes(
    shape: ModelShape, layout: Cells, engine: EngineRules, copies: int, is_first: bool
) -> int:
    """Room for what a build that nobody has measured may do otherwise than those that were; nothing for these.

    The largest changes so far: the experts' results live longer (one row of the residual stream for each that is used);
    a second input (three rows, and on the first of several GPUs nine); Mamba 2 reshaped (two rows). By half more.
    """
    if not engine.allows_for_change:
        return 0
    rows = ALLOWED_ROWS
    if is_first and copies > 1:
        rows += ALLOWED_ROWS_OF_EACH_COPY * copies
    rows += shape.number("expert_used_count")
    return int(ALLOWED_MARGIN * FLOAT_BYTES * layout.tokens * shape.embedding_length * rows)


def spreads_unevenly(shape: ModelShape, attention: Attention) -> bool:
    """Whether several GPUs that hold a model hand each other more than the residual stream."""
    architecture = ARCHITECTURES.get(shape.architecture, TRANSFORMER)
    return (
        attention is Attention.FLASH_ON_HOST
        or architecture.style.bare_norms
        or architecture.begins_with_output
        or architecture.copies_views
        or architecture.spreads
        or shape.runs > 1
        or any(layer.is_recurrent for layer in shape.layers)
    )


@lru_cache(maxsize=2048)
def devices_compute_bytes(
    shape: ModelShape,
    layout: Cells,
    attention: Attention,
    cache_type: str,
    devices: tuple[range, ...],
    copies: int,
    engine: EngineRules = AS_FIRST_READ,
) -> tuple[int, ...]:
    """Bytes of the compute buffers of all GPUs that hold a model, each with the units given."""
    known = knowledge(shape)
    copies_views = ARCHITECTURES.get(shape.architecture, TRANSFORMER).copies_views
    is_alone = len(devices) == 1 and not copies_views
    if known is Knowledge.NONE or is_alone or not spreads_unevenly(shape, attention):
        return tuple(
            compute_bytes(shape, layout, attention, cache_type, units_of(shape, units), copies, engine)
            + (
                0
                if known is Knowledge.KNOWN
                else copies * _from_afar_bytes(shape, layout, attention, cache_type, units)
            )
            if units
            else 0
            for units in devices
        )
    sizes = None
    for several_slots in _forms_of(shape, layout, engine):
        recipe = _devices_recipe(shape, attention, cache_type, devices, copies, several_slots, engine)
        sizes = recipe.peaks_bytes(
            _known(layout), alignment=CUDA_ALIGNMENT_BYTES, device_count=len(devices)
        )
        if sizes is not None:
            break
    if sizes is None:
        context = build(
            shape,
            layout,
            attention,
            cache_type=cache_type,
            layers=used_layers(shape),
            devices=devices,
            engine=engine,
        )
        sizes = buffers_bytes(
            context.graph.nodes,
            device_count=len(devices),
            alignment=CUDA_ALIGNMENT_BYTES,
            copies=copies,
            most_copies=_most_copies(engine),
        )
    return tuple(
        _guarded(known, size) + _allowance_bytes(shape, layout, engine, copies, units.start == 0)
        for size, units in zip(sizes, devices)
    )


def _most_copies(engine: EngineRules) -> int | None:
    """What a GPU is handed at the most before it runs; None: no matter how much."""
    return None if engine.hands_over_at_once else MOST_COPIES


@lru_cache(maxsize=256)
def _devices_recipe(
    shape: ModelShape,
    attention: Attention,
    cache_type: str,
    devices: tuple[range, ...],
    copies: int,
    several_slots: bool,
    engine: EngineRules,
) -> Recipe:
    """The graph of several devices for all layouts."""
    if any(layer.cache_layer not in (None, index) for index, layer in enumerate(shape.layers)):
        # What a layer reads of another one's cache depends on where both lie.
        nodes = _nodes_on(shape, attention, cache_type, devices, several_slots, engine)
        return buffers_recipe(nodes, copies=copies, most_copies=_most_copies(engine))
    nodes, units = _nodes_by_unit(shape, attention, cache_type, several_slots, engine)
    homes: dict[int | None, int | None] = {None: None, HOST: HOST}
    homes.update((unit, number) for number, here in enumerate(devices) for unit in here)
    for node, unit in zip(nodes, units):
        node.device = homes.get(unit)
        node.children = node.views = 0
    return buffers_recipe(nodes, copies=copies, most_copies=_most_copies(engine))


@lru_cache(maxsize=32)
def _nodes_by_unit(
    shape: ModelShape, attention: Attention, cache_type: str, several_slots: bool, engine: EngineRules
) -> tuple[list[Tensor], list[int | None]]:
    """The operations of all layers, built of unknowns, and the unit whose device must run each."""
    each = tuple(range(unit, unit + 1) for unit in range(shape.block_count + 1))
    nodes = _nodes_on(shape, attention, cache_type, each, several_slots, engine)
    return nodes, [node.device for node in nodes]


def _nodes_on(
    shape: ModelShape,
    attention: Attention,
    cache_type: str,
    devices: tuple[range, ...],
    several_slots: bool,
    engine: EngineRules,
) -> list[Tensor]:
    """The operations of all layers on several devices, built of unknowns."""
    layout = unknown_layout(several_slots=several_slots, slides=bool(shape.sliding_window))
    layers = used_layers(shape)
    return build(
        shape, layout, attention, cache_type=cache_type, layers=layers, devices=devices, engine=engine
    ).graph.nodes


def _from_afar_bytes(
    shape: ModelShape, layout: Cells, attention: Attention, cache_type: str, units: range
) -> int:
    """A bound of what GPUs hand each other besides the residual stream, in a graph that is not known.

    That is the layers' own inputs, which the first GPU computes, and for each of the last layers that share caches the
    one it reads, which may lie elsewhere unless there is nothing before.
    Source: llama.cpp ggml/src/ggml-backend.cpp, ggml_backend_sched_split_graph: a copy for each view (b10488).
    """
    first_sharing = shape.block_count - shape.number(SHARED_CACHES)
    caches = sum(
        layer_cache(shape, index, layout, cache_type, transposed_values=not attention.is_flash).total_bytes
        for index in layers_on(shape, units)
        if index >= first_sharing and units.start > 0
    )
    return caches + FLOAT_BYTES * layout.tokens * shape.number(PER_LAYER_INPUTS) * shape.block_count


@lru_cache(maxsize=4096)
def cpu_compute_bytes(
    shape: ModelShape,
    layout: Cells,
    attention: Attention,
    cache_type: str,
    engine: EngineRules = AS_FIRST_READ,
) -> int:
    """Bytes of the compute buffer when all of the model runs on the CPU."""
    known = knowledge(shape)
    if known is Knowledge.NONE:
        return bound_bytes(shape, layout, attention, cache_type)
    exact_bytes = _on_one_device(shape, layout, attention, cache_type, None, 1, True, engine)
    unused = FLOAT_BYTES * shape.embedding_length * layout.tokens
    return _guarded(known, exact_bytes + unused)


@lru_cache(maxsize=4096)
def host_compute_bytes(
    shape: ModelShape,
    layout: Cells,
    attention: Attention,
    cache_type: str,
    engine: EngineRules = AS_FIRST_READ,
) -> int:
    """Bytes of the pinned buffer on the host from which the GPU reads the graph's inputs."""
    embeddings = FLOAT_BYTES * shape.embedding_length * layout.tokens
    known = knowledge(shape)
    if known is Knowledge.NONE:
        return 2 * embeddings + _inputs_bound_bytes(shape, layout, attention)
    total = embeddings + _inputs_bytes(shape, layout, attention, cache_type, engine)
    if attention is Attention.FLASH_ON_HOST:
        # Copies of one layer's whole cache, which the CPU reads there.
        total += max(
            (layout.sliding if layer.attention == "sliding" else layout.full)
            * layout.slots
            * HALF_BYTES
            * (layer.key_width + layer.value_width)
            for layer in shape.layers
        )
    return _guarded(known, total)


def _inputs_bound_bytes(shape: ModelShape, layout: Cells, attention: Attention) -> int:
    element_bytes = HALF_BYTES if attention.is_flash else FLOAT_BYTES
    masks = element_bytes * layout.tokens * (layout.full + layout.sliding)
    widest = max(layer.value_width for layer in shape.layers)
    return masks + FLOAT_BYTES * layout.tokens * (shape.embedding_length + 2 * widest + 16)


def bound_bytes(shape: ModelShape, layout: Cells, attention: Attention, cache_type: str) -> int:
    """What hardly any graph of the model can exceed: the results of all projections of one layer at once, thrice.

    For architectures whose graph is unknown. Chosen experts count as often as they are used.
    """
    return _inputs_bound_bytes(shape, layout, attention) + max(
        _layer_bound_bytes(shape, layer, layout, attention, cache_type) for layer in shape.layers
    )


def _results_width(shape: ModelShape, layer: LayerShape) -> int:
    """Elements of all projections' results for one token."""
    used = shape.number("expert_used_count", 1)
    return sum(
        lengths[1] * (used if len(lengths) > 2 else 1)
        for _name, lengths in shape.forms[layer.form]
        if len(lengths) > 1
    )


def _layer_bound_bytes(
    shape: ModelShape, layer: LayerShape, layout: Cells, attention: Attention, cache_type: str
) -> int:
    used = shape.number("expert_used_count", 1)
    width = 3 * _results_width(shape, layer) + (4 + used) * shape.embedding_length
    total = 0
    if layer.attention != "none":
        count = layout.sliding if layer.attention == "sliding" else layout.full
        width += 2 * layer.head_count * max(layer.key_length, layer.value_length)
        width += 0 if attention.is_flash else 2 * layer.head_count * count
        if cache_type != HALF_PRECISION:
            total += HALF_BYTES * layout.slots * layout.full * (layer.key_width + layer.value_width)
    if layer.is_recurrent:
        states = shape.convolution_state_size + shape.recurrent_state_size
        total += 3 * FLOAT_BYTES * states * layout.slots
    return total + FLOAT_BYTES * layout.tokens * width
