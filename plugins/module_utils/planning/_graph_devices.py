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

from dataclasses import dataclass, field
from typing import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._graph import (
    HOST,
    Arena,
    Tensor,
    allocate,
    place,
    release,
)


@dataclass
class _Step:
    """An operation with the sources that lie on its own GPU; node None: the source is handed to another GPU."""

    node: Tensor | None
    sources: Sequence[Tensor]


@dataclass
class _Schedule:
    """Steps in the order in which they run, and what is copied to each GPU."""

    steps: list[_Step] = field(default_factory=list)
    copies: list[Tensor] = field(default_factory=list)


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
    return HOST if tensor.is_input else tensor.device


def _span_bytes(tensor: Tensor) -> int:
    """Bytes from the first to the last element of a tensor: a piece of every row of its root spans the rows between."""
    root = tensor.root
    if root is None or tensor.data_bytes == root.data_bytes:
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


def _scheduled(nodes: Sequence[Tensor]) -> _Schedule:
    schedule = _Schedule()
    current, start = None, 0
    copied: dict[tuple[int, int], Tensor] = {}
    for node in nodes:
        if node.is_view:
            schedule.steps.append(_Step(node, node.sources))
            continue
        device = _number(node)
        if device != current:
            current, start = device, len(schedule.steps)
        here = []
        for source in node.sources:
            if _home(source) == device:
                here.append(source)
                continue
            copy = copied.get((id(source), device))
            if copy is None:
                copy = copied[id(source), device] = _copy(source, device)
                schedule.copies.append(copy)
                schedule.steps[start:start] = [_Step(None, (source,)), _Step(copy, ())]
                start += 2
            here.append(copy)
        schedule.steps.append(_Step(node, here))
    return schedule


def buffers_bytes(nodes: Sequence[Tensor], *, device_count: int, alignment: int, copies: int) -> list[int]:
    """Bytes of the buffer of each GPU.

    copies: how many requests are in flight at once; with more than one, what a GPU hands to another is kept that many
    times, from the first operation to the last.
    """
    assign(nodes)
    schedule = _scheduled(nodes)
    arenas = [Arena(alignment) for _unused in range(device_count)]
    if copies > 1:
        for copy in schedule.copies:
            copy.children += 1
            for _unused in range(copies if copy.device != HOST else 0):
                allocate(arenas[_number(copy)], copy)
    for step in schedule.steps:
        if step.node is not None and step.node.root is not None and step.node.is_view:
            step.node.root.views += 1
        for source in step.sources:
            source.children += 1
    for step in schedule.steps:
        node = step.node
        if node is not None and node.root is None and not node.is_held and _number(node) != HOST:
            place(arenas[_number(node)], node, step.sources)
        for source in step.sources:
            source.children -= 1
            if not source.children and not source.views:
                _drop(arenas, source)
    return [arena.peak_bytes for arena in arenas]


def _number(tensor: Tensor) -> int:
    return HOST if tensor.device is None else tensor.device


def _drop(arenas: list[Arena], source: Tensor) -> None:
    root = source.root
    if root is None:
        root = source
    else:
        root.views -= 1
    if not root.views and not root.children and root.is_held:
        release(arenas[_number(root)], root)
