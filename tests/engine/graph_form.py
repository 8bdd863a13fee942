# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A graph of operations in a form in which ours and the engine's are the same, and a few letters that stand for it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

# What ggml's allocator may write over an operand: ggml_op_can_inplace() (ggml/src/ggml-alloc.c, b10488), of the operations
# that models have; and those that ggml_op_desc() calls by what they compute of each element.
WRITES_OVER = frozenset(
    ("ADD", "ADD_ID", "SUB", "MUL", "DIV", "SCALE", "SQR", "SQRT", "LOG", "CLAMP", "ROPE", "RMS_NORM", "SOFT_MAX")
)
OF_EACH_ELEMENT = frozenset(
    (
        "ABS", "SGN", "NEG", "STEP", "TANH", "ELU", "RELU", "SIGMOID", "GELU", "GELU_QUICK", "SILU",
        "HARDSWISH", "HARDSIGMOID", "EXP", "GELU_ERF", "XIELU", "FLOOR", "CEIL", "ROUND", "TRUNC", "EXPM1",
        "SOFTPLUS", "FILL",
    )
)
ELEMENT_BYTES = {"f32": 4, "i32": 4, "f16": 2, "i64": 8}
LETTERS = 16


class Operation(NamedTuple):
    """What one operation makes: four lengths, bytes of an element; memory "new", written "over" an operand, or "shown".

    reads: the numbers of the operations before it whose results it reads.
    """

    lengths: tuple[int, ...]
    element_bytes: int
    memory: str
    reads: tuple[int, ...]


def digest(operations: Sequence[Operation]) -> str:
    """Letters that another order, length, operand or kind of memory would change."""
    return _letters("\n".join(map(repr, map(tuple, operations))))


def of_engine(lines: Sequence[str]) -> tuple[list[Operation], int]:
    """A graph as graphs.cpp writes it, without what lies outside of the compute buffer; how many operations layers have.

    Outside is what the host looks up in tables, what shows weights, caches and states or writes there, and the rows of
    states that belong to no slot, of which there are none while each slot has a request.
    """
    found: list[Operation] = []
    numbers: dict[int, int] = {}
    of_layers = 0
    for place, line in enumerate(lines):
        name, type_name, *words = line.split()
        lengths, shows, part, reads = tuple(map(int, words[:4])), words[4], words[5], words[6:]
        is_lookup = name == "GET_ROWS" and not reads
        is_row_numbers = shows == "input" and type_name == "i32"
        if is_lookup or is_row_numbers or shows == "outside" or 0 in lengths:
            continue
        own = "over" if name in WRITES_OVER | OF_EACH_ELEMENT else "new"
        numbers[place] = len(found)
        sources = sorted({numbers[int(one)] for one in reads if int(one) in numbers})
        found.append(
            Operation(lengths, ELEMENT_BYTES[type_name], own if shows == "own" else "shown", tuple(sources))
        )
        if part == "layer":
            of_layers = len(found)
    return found, of_layers


def digest_of_effect(operations: Sequence[Operation]) -> str:
    """Letters for what makes a difference to memory, in any order of the operations.

    Views stand for what they show, and what is written over an operand that no one else reads stands for that: of both an
    engine may have more or fewer, as it leaves out a scale of one, or shows a piece once more.
    """
    readers = Counter(one for operation in operations for one in operation.reads)
    # What each operation's memory was made by; inputs are told apart by nothing.
    made: list[str] = []
    kept: list[str] = []
    for lengths, element_bytes, memory, reads in operations:
        if memory == "shown" and len(reads) < 2:
            made.append(made[reads[0]] if reads else "")
        elif memory == "over" and len(reads) == 1 and readers[reads[0]] == 1 and made[reads[0]]:
            made.append(made[reads[0]])
        else:
            sources = sorted(filter(None, {made[one] for one in reads}))
            made.append(_letters(f"{lengths} {element_bytes} {memory} {' '.join(sources)}"))
            kept.append(made[-1])
    return _letters(" ".join(sorted(kept)))


def _letters(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:LETTERS]
