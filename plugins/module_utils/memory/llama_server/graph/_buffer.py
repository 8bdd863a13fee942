# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The buffers that ggml's allocator needs for a graph.

A buffer is as large as the worst moment of one graph: how large depends on which tensors live at the same time and on
the holes that freed ones leave. Which memory is taken and given back, and when, follows from the operations alone, and
is the same for layers that are alike: so these are built once. Where the memory lies depends on all that was before,
so it is found by going through all layers.

Source: llama.cpp ggml/src/ggml-alloc.c (b10488).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Optional, Protocol, Sequence, Tuple

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    HOST,
    Graph,
    Tensor,
)

# An operation with the sources that lie on its own GPU; without an operation the source is handed to another GPU.
Step = Tuple[Optional[Tensor], Sequence[Tensor]]
# Memory that one tensor after the other may use: the GPU on which it lies, and its size in bytes.
Piece = Tuple[int, int]
# A piece that is taken or given back: what `sizes` has its bytes by, its number, whether it is taken.
Change = Tuple[int, int, bool]
# The four lengths of a tensor.
Lengths = Tuple[int, ...]
# Where the pieces lie that are held, and for each GPU the end of what is in use and the holes in it.
_State = Tuple[Tuple[int, ...], Tuple[Tuple[int, Tuple[Tuple[int, int], ...]], ...]]


class Sizes(Protocol):
    """Bytes by what a piece tells."""

    def __getitem__(self, told: int, /) -> int: ...


class _Themselves:
    """Sizes where a piece tells its own."""

    def __getitem__(self, told: int, /) -> int:
        return told


class Irregular(Exception):
    """A layer cannot do to memory what the one does that it was taken to be like."""


class Arena:
    """ggml's dynamic allocator: best fit among the holes, else the open end. Sizes are aligned."""

    def __init__(self) -> None:
        # Offset and size, by offset.
        self.holes: list[tuple[int, int]] = []
        self.end = 0
        self.peak_bytes = 0

    def run(self, changes: Sequence[Change], sizes: Sizes, offsets: list[int]) -> None:
        """Take and give back pieces, one after the other; `offsets` has or gets those of the pieces, by number.

        Of what is given back neighbouring holes become one. It is one loop because planning spends its time here.
        """
        holes, end, peak = self.holes, self.end, self.peak_bytes
        for size_number, number, is_taken in changes:
            size = sizes[size_number]
            if is_taken:
                best, best_size = -1, 0
                for index, (_offset, room) in enumerate(holes):
                    if room >= size and (best < 0 or room <= best_size):
                        best, best_size = index, room
                if best < 0:
                    offsets[number] = end
                    end += size
                    if end > peak:
                        peak = end
                    continue
                offset = offsets[number] = holes[best][0]
                if best_size > size:
                    holes[best] = (offset + size, best_size - size)
                else:
                    del holes[best]
                continue
            offset = offsets[number]
            stop = offset + size
            first = last = bisect(holes, (offset,)) if holes else 0
            if first:
                before, room = holes[first - 1]
                if before + room == offset:
                    first -= 1
                    offset = before
            if last < len(holes) and holes[last][0] == stop:
                stop += holes[last][1]
                last += 1
            if stop == end:
                end = offset
                del holes[first:last]
            else:
                holes[first:last] = [(offset, stop - offset)]
        self.end, self.peak_bytes = end, peak


@dataclass
class Stretch:
    """What a stretch of steps does to memory.

    before, after: the pieces that are held when it begins and when it ends, in the order of the tensors in them.
    changes: for each GPU the pieces that it takes or gives back there; GPUs do not depend on each other. Pieces have
    numbers from 0: those held before, then those taken, as they come. taken: how many it takes. kept: numbers of the
    pieces that are held after it.
    """

    before: list[Piece]
    changes: dict[int, list[Change]] = field(default_factory=dict)
    taken: int = 0
    kept: list[int] = field(default_factory=list)
    after: list[Piece] = field(default_factory=list)

    def change(self, piece: Piece, number: int, *, is_taken: bool) -> None:
        """Take a piece or give it back."""
        device, size = piece
        changes = self.changes.get(device)
        if changes is None:
            changes = self.changes[device] = []
        changes.append((size, number, is_taken))
        self.taken += is_taken


def buffer_bytes(graph: Graph, *, alignment: int, input_copies: int = 1) -> int:
    """Bytes of the buffer that holds the tensors of a graph on one GPU.

    input_copies: how many requests are in flight at once; with more than one, every input is kept that many times.
    Raises: Irregular where a layer is not like the one that the graph has in its place.
    """
    stretches = stretches_of(
        [(node, node.sources) for node in graph.nodes],
        graph.ends,
        first=inputs_of(graph, input_copies),
        copies=input_copies,
        sized=aligned(alignment),
    )
    order = graph.order or range(len(stretches))
    return peaks_bytes([stretches[number] for number in order], device_count=1)[0]


def inputs_of(graph: Graph, copies: int) -> list[Tensor]:
    """What takes memory before anything runs on one GPU, in the order in which it does."""
    inputs = dict.fromkeys(source for node in graph.nodes for source in node.sources if source.is_input)
    # What is kept several times has its room before anything else.
    return sorted(inputs, key=lambda tensor: tensor.is_scratch == (copies > 1))


def aligned(alignment: int) -> Callable[[Tensor], int]:
    """How many bytes a tensor takes where sizes are multiples of this."""

    def sized(tensor: Tensor) -> int:
        return -(-(tensor.data_bytes + tensor.padding_bytes) // alignment) * alignment

    return sized


def stretches_of(
    steps: Sequence[Step],
    ends: Sequence[int],
    *,
    first: Sequence[Tensor],
    copies: int,
    sized: Callable[[Tensor], int],
    differing: set[tuple[Lengths, Lengths]] | None = None,
) -> list[Stretch]:
    """What the steps do to memory, in stretches with these ends and, last, what comes after them.

    first: tensors that take memory before anything runs; several copies of them are kept to the end. sized: the size of
    a tensor, or what stands for it.
    An operation writes over a source that nobody else needs, where it can; else it takes new memory. differing: gets the
    lengths of a source and of a result where nothing but these stands in the way of it.
    """
    differing = set() if differing is None else differing
    for node, sources in steps:
        if node is not None and node.root is not None:
            node.root.views += 1
        for source in sources:
            source.children += 1
    # The number of the piece that each tensor holds, in the order of the tensors.
    held: dict[Tensor, int] = {}
    pieces: list[Piece] = []
    stretch = Stretch([])
    stretches = [stretch]

    def take(tensor: Tensor) -> None:
        piece = (tensor.device or 0, sized(tensor))
        held[tensor] = len(pieces)
        stretch.change(piece, len(pieces), is_taken=True)
        pieces.append(piece)

    for tensor in first:
        for _unused in range(1 if tensor.is_scratch else copies):
            take(tensor)
        if copies > 1 and not tensor.is_scratch:
            tensor.children += 1
    for start, end in zip((None, *ends), (*ends, len(steps))):
        if start is not None:
            stretch.kept = list(held.values())
            stretch.after = [pieces[number] for number in stretch.kept]
            pieces = list(stretch.after)
            held = {tensor: number for number, tensor in enumerate(held)}
            stretch = Stretch(stretch.after)
            stretches.append(stretch)
        for node, sources in steps[start:end]:
            if node is not None and node.root is None and node.device != HOST and node not in held:
                overwritten = _overwritten(node, sources, held, differing) if node.reuses else None
                if overwritten is None:
                    take(node)
                else:
                    held[node] = held.pop(overwritten)
            for source in sources:
                source.children -= 1
                if source.children or source.views:
                    continue
                root = source.root
                if root is None:
                    root = source
                else:
                    root.views -= 1
                    if root.views or root.children:
                        continue
                number = held.pop(root, None)
                if number is not None:
                    stretch.change(pieces[number], number, is_taken=False)
    return stretches


def _overwritten(
    node: Tensor, sources: Sequence[Tensor], held: dict[Tensor, int], differing: set[tuple[Lengths, Lengths]]
) -> Tensor | None:
    """The source whose memory the result of an operation takes over."""
    for source in sources:
        if (
            source.children == 1
            and not source.views
            and source.is_plain
            and source.element_bytes == node.element_bytes
            and source in held
        ):
            if source.shape == node.shape:
                return source
            differing.add((source.shape, node.shape))
    return None


def peaks_bytes(
    stretches: Sequence[Stretch], *, device_count: int, sizes: Sequence[int] | None = None
) -> list[int]:
    """The most bytes that these stretches, one after the other, need on each GPU.

    sizes: where a piece tells the number of its size; None: it tells the size itself. A stretch that finds all memory as
    it found it before also leaves it as it did then.
    Raises: Irregular where one begins with other pieces than the one before it ends with.
    """
    arenas = [Arena() for _unused in range(device_count)]
    state: _State = ((), tuple((0, ()) for _unused in arenas))
    seen: dict[tuple[int, _State], _State] = {}
    held: list[Piece] = []
    for stretch in stretches:
        if stretch.before is not held and stretch.before != held:
            raise Irregular
        held = stretch.after
        before = (id(stretch), state)
        after = seen.get(before)
        if after is None:
            after = seen[before] = _run(stretch, state, arenas, _Themselves() if sizes is None else sizes)
        state = after
    return [arena.peak_bytes for arena in arenas]


def _run(stretch: Stretch, state: _State, arenas: Sequence[Arena], sizes: Sizes) -> _State:
    """The state after a stretch that begins with this one."""
    offsets = [*state[0], *[0] * stretch.taken]
    for arena, (end, holes) in zip(arenas, state[1]):
        arena.end, arena.holes = end, list(holes)
    for device, changes in stretch.changes.items():
        arenas[device].run(changes, sizes, offsets)
    return (
        tuple([offsets[number] for number in stretch.kept]),
        tuple([(arena.end, tuple(arena.holes)) for arena in arenas]),
    )
