# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's graphs in the form in which ours are compared with them."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.tests.engine.graph_form import (
    Operation,
    digest,
    digest_of_effect,
    of_engine,
)

# As graphs.cpp writes the beginning of a model's first layer: a lookup of the host, a norm with its weight, a product, a
# view of it, a write to the cache, a piece of the state's rows that no slot has, and the norm at the end.
LINES = """GET_ROWS f32 64 6 1 1 own between
RMS_NORM f32 64 6 1 1 own layer 0
MUL f32 64 6 1 1 own layer 1
MUL_MAT f32 32 6 1 1 own layer 2
RESHAPE f32 16 2 6 1 3 layer 3
VIEW f16 16 2 6 1 outside layer
SET_ROWS f16 16 2 6 1 outside layer 4 5
VIEW i32 1 1 1 1 input between
GET_ROWS f32 64 0 1 1 own layer 7
ADD f32 64 6 1 1 own layer 2 1
NORM f16 64 2 1 1 own between 9""".splitlines()


def test_what_lies_in_the_compute_buffer_is_read_by_numbers_of_its_own():
    operations, of_layers = of_engine(LINES)
    assert operations == [
        Operation((64, 6, 1, 1), 4, "over", ()),
        Operation((64, 6, 1, 1), 4, "over", (0,)),
        Operation((32, 6, 1, 1), 4, "new", (1,)),
        Operation((16, 2, 6, 1), 4, "shown", (2,)),
        Operation((64, 6, 1, 1), 4, "over", (0, 1)),
        Operation((64, 2, 1, 1), 2, "new", (4,)),
    ]
    assert of_layers == 5


def changed(place: int, **fields: object) -> list[Operation]:
    operations = list(of_engine(LINES)[0])
    operations[place] = operations[place]._replace(**fields)
    return operations


@pytest.mark.parametrize(
    "operations",
    [
        changed(0, lengths=(64, 7, 1, 1)),
        changed(5, element_bytes=4),
        changed(1, memory="new"),
        changed(4, reads=(1,)),
        changed(0)[:-1],
        [*changed(0)[1:], changed(0)[0]],
    ],
)
def test_every_difference_changes_the_letters(operations):
    assert digest(operations) != digest(changed(0))


def test_views_and_what_is_written_over_an_operand_that_no_one_else_reads_have_no_effect():
    chain = [
        Operation((8,), 4, "new", ()),
        Operation((8,), 4, "over", (0,)),
        Operation((2, 4), 4, "shown", (1,)),
        Operation((3,), 4, "new", (2,)),
    ]
    short = [Operation((8,), 4, "new", ()), Operation((3,), 4, "new", (0,))]
    assert digest_of_effect(chain) == digest_of_effect(short)
    # Another reader needs the operand too: then the result has memory of its own.
    shared = [*chain, Operation((5,), 4, "new", (0,))]
    assert digest_of_effect(shared) != digest_of_effect([*short, Operation((5,), 4, "new", (0,))])
    assert digest_of_effect(short) != digest_of_effect([short[0], Operation((4,), 4, "new", (0,))])
