# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One graph over several GPUs, counted by hand: which of them runs what, what is copied, how large the buffers are."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._devices import (
    assign,
    buffers_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server.graph._graph import (
    HOST,
    Tensor,
)

ALIGNMENT = 128


def chain(*devices: int | None) -> list[Tensor]:
    """Operations of 256 bytes, each reading the one before it, on these GPUs."""
    nodes: list[Tensor] = []
    for device in devices:
        nodes.append(Tensor((64,), tuple(nodes[-1:]), device=device))
    return nodes


@pytest.mark.parametrize(
    ("devices", "assigned"),
    [
        ((0, None, 1, None), (0, 0, 1, 1)),
        # The first ones run where the next one does.
        ((None, None, 1), (1, 1, 1)),
        # What the CPU runs decides nothing for those after it.
        ((0, HOST, None), (0, HOST, 0)),
        ((None, None), (None, None)),
    ],
)
def test_an_operation_without_weights_runs_where_the_one_before_it_did(devices, assigned):
    nodes = chain(*devices)
    assign(nodes)
    assert tuple(node.device for node in nodes) == assigned


def test_a_view_runs_nowhere():
    first = Tensor((64,), device=1)
    shown = Tensor((32,), (first,), root=first)
    after = Tensor((32,), (shown,))
    assign([first, shown, after])
    assert (shown.device, after.device) == (None, 1)


def buffers(nodes: list[Tensor], copies: int = 1, count: int = 2) -> list[int]:
    return buffers_bytes(nodes, device_count=count, alignment=ALIGNMENT, copies=copies)


@pytest.mark.parametrize(
    ("devices", "copies", "sizes"),
    [
        # An operation and the one before it, as nothing may be written over.
        ((0, 0, 0), 1, [512, 0]),
        # The second GPU has a copy of what it reads and its own result.
        ((0, 1), 1, [256, 512]),
        ((0, 0, 1, 1), 1, [512, 512]),
        # With four requests in flight what is handed over is kept four times.
        ((0, 1), 4, [256, 4 * 256 + 256]),
        ((0, 1), 2, [256, 2 * 256 + 256]),
        # There and back: the first GPU has its copy of the second one's result beside its own.
        ((0, 1, 0), 1, [512, 512]),
    ],
)
def test_what_one_gpu_hands_to_another_is_copied_there(devices, copies, sizes):
    assert buffers(chain(*devices), copies) == sizes


def test_a_result_is_copied_once_for_all_who_read_it_there():
    first = Tensor((64,), device=0)
    readers = [Tensor((64,), (first,), device=1) for _unused in range(2)]
    last = Tensor((64,), tuple(readers), device=1)
    # The copy and both readers; then the copy makes room for the last one.
    assert buffers([first, *readers, last]) == [256, 3 * 256]


def test_an_input_comes_from_the_host():
    source = Tensor((64,), is_input=True)
    assert buffers([Tensor((64,), (source,), device=1)]) == [0, 512]


def test_a_piece_of_every_row_is_copied_with_what_lies_between():
    root = Tensor((64, 8), device=0)
    piece = Tensor((16, 8), (root,), root=root, is_plain=False)
    reader = Tensor((16, 8), (piece,), device=1)
    # Eight rows of 256 bytes, of the last only the 64 that are shown; in units of 128: 15 of 15, and 4 for the result.
    span = 7 * 256 + 64
    assert buffers([root, piece, reader]) == [2048, -(-span // 128) * 128 + 512]


def test_what_the_cpu_runs_takes_no_gpus_memory():
    first, last = Tensor((64,), device=0), None
    middle = Tensor((64,), (first,), device=HOST)
    last = Tensor((64,), (middle,), device=0)
    # The copy of what came back and the last result.
    assert buffers([first, middle, last], count=1) == [512]
