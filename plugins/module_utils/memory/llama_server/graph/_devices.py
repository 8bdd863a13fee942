# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One graph over several GPUs: which of them runs what, and the buffer that each needs.

An operation runs where its weights are; one without weights where the one before it ran, whichever layer that belongs
to. Where layers read their state early, some of a layer's operations so end up on the GPU of the next layer, with
copies to and fro.

Source: llama.cpp ggml/src/ggml-backend.cpp, ggml_backend_sched_split_graph (b10488).
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._buffer import (
    Step,
    aligned,
    peaks_bytes,
    stretches_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    HOST,
    Tensor,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._recipe import (
    Recipe,
    recipe_of,
)


def assign(nodes: Sequence[Tensor]) -> None:
    """Give every operation that no weights bind the GPU of the one before it, else of the one after it."""
    for ordered in (nodes, nodes[::-1]):
        current = None
        for node in ordered:
            if node.is_view or node.device == HOST:
                continue
            if node.device is None:
                node.device = current
            else:
                current = node.device


def _home(tensor: Tensor) -> int | None:
    """Where a tensor's memory is."""
    if tensor.is_view and tensor.root is not None:
        tensor = tensor.root
    return HOST if tensor.is_input and not tensor.is_scratch else tensor.device


def _span_bytes(tensor: Tensor) -> int:
    """Bytes from the first to the last element of a tensor: a piece of every row of its root spans the rows between."""
    root = tensor.root
    if root is None or tensor.is_plain or tensor.data_bytes == root.data_bytes:
        return tensor.data_bytes
    row_bytes = root.shape[0] * root.element_bytes
    count = root.data_bytes // row_bytes
    return root.data_bytes - row_bytes + tensor.data_bytes // count


def _copy(source: Tensor, device: int) -> Tensor:
    return Tensor(
        source.shape,
        element_bytes=source.element_bytes,
        is_plain=source.is_plain,
        padding_bytes=_span_bytes(source) - source.data_bytes,
        device=device,
    )


def _scheduled(
    nodes: Sequence[Tensor], *, most_copies: int | None
) -> tuple[list[Step], list[Tensor], list[Tensor]]:
    """What runs, in order, what is copied from one GPU to another, and what GPUs have of their own from the beginning.

    most_copies: after so many a GPU runs what it has copies for before it gets more.
    """
    steps: list[Step] = []
    copies: list[Tensor] = []
    scratches: list[Tensor] = []
    current, start, count = None, 0, 0
    copied: dict[tuple[Tensor, int], Tensor] = {}
    for node in nodes:
        if node.is_view:
            steps.append((node, node.sources))
            continue
        device = HOST if node.device is None else node.device
        for source in node.sources:
            if source.is_scratch:
                source.device = device
                scratches.append(source)
        far = [one for one in node.sources if _home(one) != device]
        wanted = [one for one in far if (one, device) not in copied]
        if device != current or (most_copies and count >= most_copies and wanted):
            current, start, count = device, len(steps), 0
        if not far:
            steps.append((node, node.sources))
            continue
        count += len(wanted)
        here = []
        for source in node.sources:
            if source not in far:
                here.append(source)
                continue
            copy = copied.get((source, device))
            if copy is None:
                copy = copied[source, device] = _copy(source, device)
                copies.append(copy)
                steps[start:start] = [(None, (source,)), (copy, ())]
                start += 2
            here.append(copy)
        steps.append((node, here))
    return steps, copies, scratches


def buffers_bytes(
    nodes: Sequence[Tensor],
    *,
    device_count: int,
    alignment: int,
    copies: int,
    most_copies: int | None = None,
) -> list[int]:
    """Bytes of the buffer of each GPU.

    copies: how many requests are in flight at once; with more than one, what a GPU hands to another is kept that many
    times, from the first operation to the last. most_copies: what a GPU is handed at the most before it runs.
    """
    steps, first = _prepared(nodes, copies, most_copies)
    stretches = stretches_of(steps, (), first=first, copies=copies, sized=aligned(alignment))
    return peaks_bytes(stretches, device_count=device_count)


def buffers_recipe(nodes: Sequence[Tensor], *, copies: int, most_copies: int | None = None) -> Recipe:
    """What operations that were built of unknowns need on each GPU in any layout: see buffers_bytes()."""
    steps, first = _prepared(nodes, copies, most_copies)
    return recipe_of(steps, (), (), first=first, copies=copies)


def _prepared(
    nodes: Sequence[Tensor], copies: int, most_copies: int | None
) -> tuple[list[Step], list[Tensor]]:
    """What runs, and what takes memory before anything does."""
    assign(nodes)
    steps, copied, scratches = _scheduled(nodes, most_copies=most_copies)
    return steps, [*(copy for copy in copied if copies > 1 and copy.device != HOST), *scratches]
