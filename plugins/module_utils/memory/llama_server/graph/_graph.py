# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A computation graph by the sizes of its tensors.

Source: llama.cpp ggml/src/ggml.c, ggml_build_forward_expand (b10488).
"""

from __future__ import annotations

from collections.abc import Sequence

FLOAT_BYTES = 4
HALF_BYTES = 2
INDEX_BYTES = 4
LONG_INDEX_BYTES = 8
# Tensors that one operation reads at most. Source: llama.cpp ggml/include/ggml.h, GGML_MAX_SRC (b10488)
MAX_SOURCES = 10
# The device that runs what no GPU can.
HOST = -1


class Tensor:
    """A tensor of a graph.

    shape: four lengths, the row first. root: the tensor whose memory a view shows. reuses: whether the operation may
    write over an operand. is_plain: whether it lies without gaps in its own order. padding_bytes: room beyond its data.
    device: the GPU that must run it, None where any may. writes: whether it is an operation that writes into its root.
    is_scratch: a leaf of the GPU's own, which has room from the beginning and gives it up when it was read. is_view: whether
    it shows memory of another tensor, and is no operation.
    """

    __slots__ = (
        "children",
        "device",
        "element_bytes",
        "is_input",
        "is_plain",
        "is_scratch",
        "is_view",
        "padding_bytes",
        "reuses",
        "root",
        "shape",
        "sources",
        "views",
        "visited",
        "writes",
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
        writes: bool = False,
        is_scratch: bool = False,
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
        self.writes = writes
        self.is_scratch = is_scratch
        self.is_view = root is not None and root is not OUTSIDE and not writes
        self.visited = False
        self.children = 0
        self.views = 0

    @property
    def data_bytes(self) -> int:
        """Bytes of all elements."""
        first, second, third, fourth = self.shape
        return first * second * third * fourth * self.element_bytes


# Memory outside of the graph that an operation may write to: caches and states.
OUTSIDE = Tensor((0,))


class Graph:
    """Operations in the order in which the engine runs them.

    ends: where stretches of operations end, one for each layer that was built; what comes after them is the last.
    order: by number the stretches that run one after the other; empty: each of them once. A layer that does to memory
    what one before it did is not built, and that one's stretch stands there again.
    """

    def __init__(self) -> None:
        self.nodes: list[Tensor] = []
        # Operations that take no memory here: views of caches and states.
        self.outside_nodes = 0
        # What operations read but none makes: weights, caches, inputs.
        self.leafs = 0
        self.ends: list[int] = []
        self.order: Sequence[int] = ()
        self._held: tuple[Tensor, ...] = ()

    def expand(self, tensor: Tensor) -> Tensor:
        """Append what `tensor` needs and is not there yet, operands first, then itself."""
        if tensor.visited:
            return tensor
        tensor.visited = True
        stack = [tensor]
        while stack:
            current = stack[-1]
            for source in current.sources:
                if not source.visited:
                    source.visited = True
                    stack.append(source)
                    break
            else:
                stack.pop()
                if current.is_input:
                    self.leafs += 1
                else:
                    self.nodes.append(current)
                    if self._held:
                        held, self._held = self._held, ()
                        self.keep_until_here(*held)
        return tensor

    def keep_until_here(self, *tensors: Tensor) -> None:
        """Hold these tensors' memory up to now.

        Source: llama.cpp ggml/src/ggml-backend.cpp, add_alloc_dep (b10760): it takes no room in the graph that is built.
        """
        for start in range(0, len(tensors), MAX_SOURCES):
            self.nodes.append(Tensor((0,), tensors[start : start + MAX_SOURCES], root=OUTSIDE))
            self.outside_nodes -= 1

    def keep_past_next(self, *tensors: Tensor) -> None:
        """Hold these tensors' memory until the next operation has run."""
        self._held = tensors

    @property
    def node_count(self) -> int:
        """Operations of the graph."""
        return len(self.nodes) + self.outside_nodes
