# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The graph of a vision tower that is a plain transformer over the patches of one image.

Source: llama.cpp tools/mtmd/clip.cpp, build_inp, build_vit, build_attn and build_ffn (b10488).
"""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import (
    EQUAL_HEAD_LENGTHS,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._blocks import (
    added,
    elementwise,
    gated,
    operation,
    permuted,
    reshaped,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    HALF_BYTES,
    Graph,
    Tensor,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tower import Tower

COLOURS = 3
# More layers of the same kind do not raise the peak.
REPRESENTATIVE_LAYERS = 3


def tower_graph(tower: Tower, patches: int) -> Graph:
    """The graph that encodes an image of so many patches."""
    graph = Graph()
    width = tower.embedding_length
    mask: tuple[Tensor, ...] = ()
    if tower.has_windows:
        pairs = Tensor((patches, patches), is_input=True)
        mask = (operation(pairs.shape, pairs, element_bytes=HALF_BYTES),)
    pixels = Tensor((patches * tower.patch_length**2, COLOURS), is_input=True)
    columns = operation((COLOURS * tower.patch_length**2, patches), pixels, element_bytes=HALF_BYTES)
    convolved = operation((patches, width), columns)
    convolved = operation(convolved.shape, permuted(convolved, 0, 1, 3, 2))
    current = operation((width, patches), permuted(convolved, 1, 0, 2, 3))
    # The bias of the patches and the embeddings of their positions.
    current = elementwise(elementwise(current))
    for _unused in range(REPRESENTATIVE_LAYERS):
        current = added(_attended(graph, tower, _norm(current), mask), current)
        current = added(current, _fed_forward(tower, _norm(current)))
    graph.expand(_norm(current))
    return graph


def _norm(source: Tensor) -> Tensor:
    """Layer norm, with its weight and bias."""
    return elementwise(elementwise(operation(source.shape, source)))


def _linear(width: int, source: Tensor) -> Tensor:
    """A linear layer, with its bias."""
    return elementwise(operation((width, *source.shape[1:]), source))


def _attended(graph: Graph, tower: Tower, source: Tensor, mask: tuple[Tensor, ...]) -> Tensor:
    width, patches = source.shape[:2]
    by_head = (width // tower.head_count, tower.head_count, patches)
    query, key, value = (reshaped(_linear(width, source), *by_head) for _unused in range(3))
    for part in (query, key, value):
        graph.expand(part)
    query, key = permuted(query, 0, 2, 1, 3), permuted(key, 0, 2, 1, 3)
    if by_head[0] in EQUAL_HEAD_LENGTHS:
        value = permuted(value, 0, 2, 1, 3)
        halves = [operation(one.shape, one, element_bytes=HALF_BYTES) for one in (key, value)]
        result = reshaped(operation(by_head, query, *halves, *mask), width, patches)
    else:
        turned = operation((patches, by_head[0], tower.head_count), value)
        scores = elementwise(operation((patches, patches, tower.head_count), key, query), *mask)
        weighted = operation((by_head[0], patches, tower.head_count), turned, scores)
        result = operation((width, patches), permuted(weighted, 0, 2, 1, 3))
    return _linear(width, result)


def _fed_forward(tower: Tower, source: Tensor) -> Tensor:
    up = _linear(tower.feed_forward_length, source)
    if tower.is_gated:
        up = gated(_linear(tower.feed_forward_length, source), up)
    return _linear(tower.embedding_length, elementwise(up))
