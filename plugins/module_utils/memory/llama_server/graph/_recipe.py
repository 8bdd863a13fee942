# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a graph that was built of unknowns needs in any layout: the steps stay, the sizes are put in."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._buffer import (
    Irregular,
    Step,
    Stretch,
    inputs_of,
    peaks_bytes,
    stretches_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    Graph,
    Tensor,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._unknowns import (
    LayoutValues,
    Terms,
    terms_of,
)


@dataclass(frozen=True)
class Recipe:
    """What a graph does to memory in every layout.

    stretches: in the order in which they run; a piece tells the number of its size. sizes: of these, not yet aligned.
    differing: of pairs of tensors that differ in length the lengths that do. Where all of a pair are alike in some
    layout, one would be written over the other, and the recipe does not hold.
    """

    stretches: Sequence[Stretch]
    sizes: tuple[Terms, ...]
    differing: tuple[tuple[Terms, ...], ...]

    def peaks_bytes(self, known: LayoutValues, *, alignment: int, device_count: int = 1) -> list[int] | None:
        """Bytes of the buffer of each GPU; None where the layout makes lengths alike that differ otherwise."""
        value = known.value
        for lengths in self.differing:
            if not any(value(length) for length in lengths):
                return None
        sizes = [-(-value(size) // alignment) * alignment for size in self.sizes]
        return peaks_bytes(self.stretches, device_count=device_count, sizes=sizes)


def recipe_of(
    steps: Sequence[Step], ends: Sequence[int], order: Sequence[int], *, first: Sequence[Tensor], copies: int
) -> Recipe:
    """The recipe of these steps: see stretches_of(). order: by number the stretches that run one after the other.

    Raises: Irregular where one begins with other pieces than the one before it ends with.
    """
    pairs: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    numbers: dict[int, int] = {}

    def numbered(tensor: Tensor) -> int:
        return numbers.setdefault(tensor.data_bytes + tensor.padding_bytes, len(numbers))

    stretches = stretches_of(steps, ends, first=first, copies=copies, sized=numbered, differing=pairs)
    in_order = [stretches[number] for number in order or range(len(stretches))]
    for before, after in zip([Stretch([]), *in_order], in_order):
        if after.before != before.after:
            raise Irregular
    return Recipe(
        stretches=in_order,
        sizes=tuple(map(terms_of, numbers)),
        differing=tuple(filter(None, {_unless_constant(*pair) for pair in pairs})),
    )


def graph_recipe(graph: Graph, *, input_copies: int = 1) -> Recipe:
    """The recipe of a graph on one GPU: see buffer_bytes()."""
    return recipe_of(
        [(node, node.sources) for node in graph.nodes],
        graph.ends,
        graph.order,
        first=inputs_of(graph, input_copies),
        copies=input_copies,
    )


def _unless_constant(one: Sequence[int], other: Sequence[int]) -> tuple[Terms, ...]:
    """By how much two tensors' lengths differ; nothing where some length does in every layout."""
    differences = [terms_of(first - second) for first, second in zip(one, other) if first != second]
    if any(terms[0][1] == 0 and len(terms) == 1 for terms in differences):
        return ()
    return tuple(differences)
