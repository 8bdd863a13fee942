# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A computation graph by the sizes of its tensors, and the buffer that ggml's allocator needs for it.

The compute buffer is as large as the worst moment of one graph: how large depends on which tensors live at the same
time and on the holes that freed ones leave. So the graph is built as llama.cpp builds it, and allocated as ggml does.

Source: llama.cpp ggml/src/ggml-alloc.c and ggml/src/ggml-backend.cpp (b10488).
"""

from __future__ import annotations

from typing import Sequence

FLOAT_BYTES = 4
HALF_BYTES = 2
INDEX_BYTES = 4
LONG_INDEX_BYTES = 8
# The device that runs what no GPU can.
HOST = -1


class Tensor:
    """A tensor of a graph.

    shape: four lengths, the row first. root: the tensor whose memory a view shows. reuses: whether the operation may
    write over an operand. is_plain: whether it lies without gaps in its own order. padding_bytes: room beyond its data.
    device: the GPU that must run it, None where any may.
    """

    __slots__ = (
        "children",
        "device",
        "element_bytes",
        "is_held",
        "is_input",
        "is_plain",
        "offset",
        "padding_bytes",
        "reuses",
        "root",
        "shape",
        "size_bytes",
        "sources",
        "views",
        "visited",
    )

    def __init__(
        self,
        shape: tuple[int, ...],
        sources: tuple[Tensor, ...] = (),
        *,
        element_bytes: int = FLOAT_BYTES,
        root: Tensor | None = None,
        reuses: bool = False,
        is_plain: bool = True,
        is_input: bool = False,
        padding_bytes: int = 0,
        device: int | None = None,
    ) -> None:
        self.shape = shape + (1,) * (4 - len(shape))
        self.sources = sources
        self.element_bytes = element_bytes
        self.root = root
        self.reuses = reuses
        self.is_plain = is_plain
        self.is_input = is_input
        self.padding_bytes = padding_bytes
        self.device = device
        self.visited = False
        self.is_held = False
        self.children = 0
        self.views = 0
        self.offset = 0
        self.size_bytes = 0

    @property
    def is_view(self) -> bool:
        """Whether it shows memory of another tensor, and is no operation."""
        return self.root is not None and self.root is not OUTSIDE

    @property
    def data_bytes(self) -> int:
        """Bytes of all elements."""
        first, second, third, fourth = self.shape
        return first * second * third * fourth * self.element_bytes


# Memory outside of the graph that an operation may write to: caches and states.
OUTSIDE = Tensor((0,))


class Arena:
    """ggml's dynamic allocator: best fit among the holes, else the open end."""

    def __init__(self, alignment: int) -> None:
        self._alignment = alignment
        self._holes: list[list[int]] = []
        self._end = 0
        self.peak_bytes = 0

    def aligned(self, size: int) -> int:
        """Size rounded up to the alignment."""
        return -(-size // self._alignment) * self._alignment

    def allocate(self, size: int) -> int:
        """Offset of `size` aligned bytes."""
        best = None
        for hole in self._holes:
            if hole[1] >= size and (best is None or hole[1] <= best[1]):
                best = hole
        if best is None:
            offset = self._end
            self._end += size
            if self._end > self.peak_bytes:
                self.peak_bytes = self._end
            return offset
        offset = best[0]
        best[0] += size
        best[1] -= size
        if not best[1]:
            self._holes.remove(best)
        return offset

    def release(self, offset: int, size: int) -> None:
        """Give `size` aligned bytes back; neighbouring holes become one."""
        holes = self._holes
        index = 0
        while index < len(holes) and holes[index][0] < offset:
            index += 1
        if index and holes[index - 1][0] + holes[index - 1][1] == offset:
            index -= 1
            holes[index][1] += size
        else:
            holes.insert(index, [offset, size])
        hole = holes[index]
        if index + 1 < len(holes) and hole[0] + hole[1] == holes[index + 1][0]:
            hole[1] += holes[index + 1][1]
            del holes[index + 1]
        if hole[0] + hole[1] == self._end:
            self._end = hole[0]
            del holes[index]


class Graph:
    """Operations in the order in which the engine runs them."""

    def __init__(self) -> None:
        self.nodes: list[Tensor] = []
        # Operations that take no memory here: views of caches and states.
        self.outside_nodes = 0
        # What operations read but none makes: weights, caches, inputs.
        self.leafs = 0

    def expand(self, tensor: Tensor) -> Tensor:
        """Append what `tensor` needs and is not there yet, operands first, then itself."""
        if tensor.visited:
            return tensor
        stack = [(tensor, iter(tensor.sources))]
        tensor.visited = True
        while stack:
            current, sources = stack[-1]
            for source in sources:
                if not source.visited:
                    source.visited = True
                    stack.append((source, iter(source.sources)))
                    break
            else:
                stack.pop()
                if current.is_input:
                    self.leafs += 1
                else:
                    self.nodes.append(current)
        return tensor

    @property
    def node_count(self) -> int:
        """Operations of the graph."""
        return len(self.nodes) + self.outside_nodes

    def buffer_bytes(self, *, alignment: int, input_copies: int = 1) -> int:
        """Bytes of the buffer that holds the graph's tensors.

        input_copies: how many requests are in flight at once; with more than one, every input is kept that many times.
        """
        arena = Arena(alignment)
        for node in self.nodes:
            if node.root is not None:
                node.root.views += 1
            for source in node.sources:
                source.children += 1
                if source.is_input and not source.is_held:
                    for _unused in range(input_copies):
                        allocate(arena, source)
                    if input_copies > 1:
                        source.children += 1
        for node in self.nodes:
            if node.root is None and not node.is_held:
                place(arena, node, node.sources)
            for source in node.sources:
                source.children -= 1
                if source.children or source.views:
                    continue
                root = source.root
                if root is None:
                    release(arena, source)
                else:
                    root.views -= 1
                    if not root.views and not root.children:
                        release(arena, root)
        return arena.peak_bytes


def allocate(arena: Arena, tensor: Tensor) -> None:
    """Take new memory for a tensor."""
    tensor.size_bytes = arena.aligned(tensor.data_bytes + tensor.padding_bytes)
    tensor.offset = arena.allocate(tensor.size_bytes)
    tensor.is_held = True


def release(arena: Arena, tensor: Tensor) -> None:
    """Give a tensor's memory back, where it holds some."""
    if tensor.is_held:
        arena.release(tensor.offset, tensor.size_bytes)
        tensor.is_held = False


def place(arena: Arena, node: Tensor, sources: Sequence[Tensor]) -> None:
    """Write over one of the sources that nobody else needs, where the operation can; else take new memory."""
    if node.reuses:
        for source in sources:
            if (
                source.is_held
                and source.children == 1
                and not source.views
                and source.is_plain
                and source.shape == node.shape
                and source.element_bytes == node.element_bytes
            ):
                node.offset = source.offset
                node.size_bytes = source.size_bytes
                node.is_held = True
                source.is_held = False
                return
    allocate(arena, node)
