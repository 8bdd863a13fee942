# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How tables, sentences and names of hosts become lines of a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

# Ansible's default callback puts 11 characters around a line of a message, and a terminal is taken to have 120.
LINE_CHARACTERS = 109
# Of a last column that shares its line with wide ones.
LEAST_OF_A_COLUMN = 30
# Names, or ranges of them, that stand in one line; of more the number is told.
MOST_NAMED = 6

_NUMBERED = re.compile(r"([^.]*?)(\d+)([^\d.]*)((?:\..*)?)", re.DOTALL)


def table(rows: Sequence[Sequence[str]], alignments: str, indent: int = 0) -> list[str]:
    """Rows of equal length as aligned columns; `alignments` has l or r for each column, `indent` is in characters.

    A last column that is aligned to the left goes on in lines of its own where it is longer than the line.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(alignments))]
    if alignments[-1] == "l":
        before = indent + sum(widths[:-1]) + 2 * (len(widths) - 1)
        widths[-1] = min(widths[-1], max(LINE_CHARACTERS - before, LEAST_OF_A_COLUMN))
    return [f"{' ' * indent}{line}" for row in rows for line in _lines_of(row, widths, alignments)]


def _lines_of(row: Sequence[str], widths: Sequence[int], alignments: str) -> list[str]:
    last = textwrap.wrap(row[-1], max(widths[-1], 1)) if alignments[-1] == "l" else [row[-1]]
    heads = [[*row[:-1], *last[:1]], *([*("",) * (len(row) - 1), more] for more in last[1:])]
    return [
        "  ".join(
            cell.rjust(width) if alignment == "r" else cell.ljust(width)
            for cell, width, alignment in zip(cells, widths, alignments)
        ).rstrip()
        for cells in heads
    ]


def sentences(told: Iterable[str]) -> list[str]:
    """Sentences as a list, each begun by a dash and going on indented."""
    lines = []
    for sentence in told:
        lines += textwrap.wrap(sentence, LINE_CHARACTERS, initial_indent="  - ", subsequent_indent="    ")
    return lines


def said_once(told_by: Mapping[str, Iterable[str]]) -> list[str]:
    """Sentences by the name of the host that they are about: each once, with all that it is about before it."""
    names: dict[str, list[str]] = {}
    for name, told in told_by.items():
        for sentence in dict.fromkeys(told):
            names.setdefault(sentence, []).append(name)
    return [f"{named(group)}: {sentence}" for sentence, group in names.items()]


def named(names: Iterable[str]) -> str:
    """The names of hosts in a line, those that are numbered one after the other as a range: `gpu01-gpu10, web`."""
    parts = _ranges(names)
    if len(parts) <= MOST_NAMED:
        return ", ".join(text for text, _count in parts)
    left = sum(count for _text, count in parts[MOST_NAMED - 1 :])
    return f"{', '.join(text for text, _count in parts[: MOST_NAMED - 1])} and {left} more"


def in_order(name: str) -> tuple[str, int, str]:
    """By what names are sorted, gpu2 before gpu10."""
    found = _NUMBERED.fullmatch(name)
    return (found[1], int(found[2]), found[3] + found[4]) if found else (name, -1, "")


def _ranges(names: Iterable[str]) -> list[tuple[str, int]]:
    """Names and ranges of names, each with how many they are."""
    found: list[list[str]] = []
    for name in sorted(set(names), key=in_order):
        if found and _follows(found[-1][-1], name):
            found[-1].append(name)
        else:
            found.append([name])
    parts = []
    for group in found:
        if len(group) < 3:
            parts += [(name, 1) for name in group]
        else:
            rest = _rest(group[0])
            parts.append((f"{group[0][: len(group[0]) - len(rest)]}-{group[-1]}", len(group)))
    return parts


def _follows(name: str, other: str) -> bool:
    """Whether the second is numbered one higher than the first, written alike."""
    one, two = _NUMBERED.fullmatch(name), _NUMBERED.fullmatch(other)
    if not one or not two or (one[1], one[3], one[4]) != (two[1], two[3], two[4]):
        return False
    is_alike = len(one[2]) == len(two[2]) or not (one[2].startswith("0") or two[2].startswith("0"))
    return is_alike and int(two[2]) == int(one[2]) + 1


def _rest(name: str) -> str:
    found = _NUMBERED.fullmatch(name)
    return found[4] if found else ""
