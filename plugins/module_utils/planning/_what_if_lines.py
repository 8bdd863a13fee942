# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A what-if as people read it in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._lines import LINE_CHARACTERS, table
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import gib, gib_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._what_if import FITS, Cell, WhatIf


def what_if_lines(found: WhatIf, notes: Sequence[str] = ()) -> list[str]:
    """The lines: what Ollama does by itself, what is planned, the ladder, the smallest cards, what is not known."""
    at_once = "1 request" if found.requests == 1 else f"{found.requests} requests"
    return [
        *_wrapped(
            f"{_gpus(found)}: {', '.join(found.models)}; {at_once} at once for each (Ollama {found.version})"
        ),
        "",
        *_paragraph("Without any setting", found.alone),
        *_planned(found),
        "GPU memory in GiB of all models loaded together, by context (tokens for each request) and requests at once:",
        *(f"  {line}" for line in _ladder(found)),
        *(["  * only when they are loaded in one order"] if any(cell.one_order for cell in found.ladder) else []),
        "",
        *_smallest(found, at_once),
        *_paragraph(
            "Mind",
            [
                *_warnings(found),
                *_limits(found),
                *notes,
                "It says what fits and stays, not how fast it is: measure one before you buy ten.",
            ],
        ),
    ]


def _gpus(found: WhatIf) -> str:
    told = []
    for name, usable_bytes in dict(zip(found.gpus, found.usable_bytes)).items():
        count = found.gpus.count(name)
        each = " each" if count > 1 else ""
        told.append(f"{f'{count} x ' if count > 1 else ''}{name} ({gib(usable_bytes)} usable{each})")
    return ", ".join(told)


def _planned(found: WhatIf) -> list[str]:
    if found.plan is None:
        return _paragraph("Planned: nothing", [found.misfit])
    figures = "exact figures" if found.plan["basis"] == "exact" else "estimates"
    order = f" when loaded as {', '.join(found.plan['load_order'])}" if found.plan["order_matters"] else ""
    taken = sum(gpu["planned_bytes"] for gpu in found.plan["gpus"])
    return [
        *_wrapped(f"Planned: safe{order}, {gib(taken)} of GPU memory, by {figures}"),
        *(f"  {name}={value}" for name, value in found.plan["environment"].items()),
        *_paragraph("", [found.beyond] if found.beyond else []),
        *([] if found.beyond else [""]),
    ]


def _ladder(found: WhatIf) -> list[str]:
    parallels = sorted({cell.parallel for cell in found.ladder})
    rows = [("CONTEXT", *(f"x {parallel}" for parallel in parallels))]
    for context_length in sorted({cell.context_length for cell in found.ladder}):
        cells = {cell.parallel: cell for cell in found.ladder if cell.context_length == context_length}
        rows.append(
            (
                str(context_length),
                *(_told(cells[one]) for one in parallels),
            )
        )
    return table(rows, "r" * len(rows[0]))


def _told(cell: Cell) -> str:
    return f"{'*' if cell.one_order else ''}{gib_number(cell.gpu_bytes)}" if cell.how == FITS else cell.how


def _smallest(found: WhatIf, at_once: str) -> list[str]:
    demand = f"{at_once} of {found.context_length} tokens for each model"
    if not found.smallest:
        return [*_wrapped(f"No card that is known would do for {demand}, not 4 of it either"), ""]
    ways = [
        f"{one.count} x {one.card} ({gib(one.usable_bytes)}{' each' if one.count > 1 else ''})"
        for one in found.smallest
    ]
    return [*_wrapped(f"The smallest that would do for {demand}: {'; or '.join(ways)}"), ""]


def _limits(found: WhatIf) -> list[str]:
    longest = max(cell.context_length for cell in found.ladder)
    return [
        f"{name} makes use of at most {trained} tokens, and takes no more memory beyond"
        for name, trained in found.trained.items()
        if 0 < trained < longest
    ]


def _warnings(found: WhatIf) -> list[str]:
    return list(found.plan["warnings"]) if found.plan else []


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, LINE_CHARACTERS)


def _paragraph(title: str, sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    lines = [title] if title else []
    for sentence in sentences:
        lines += textwrap.wrap(sentence, LINE_CHARACTERS, initial_indent="  - ", subsequent_indent="    ")
    return [*lines, ""]
