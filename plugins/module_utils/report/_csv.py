# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as comma-separated values, a line for each host, for spreadsheets."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import causes_of, why

COLUMNS = (
    *("host", "state", "since", "looked_at", "causes", "num_parallel", "max_loaded_models", "context_length"),
    *("gpus", "gpu_memory_gib", "gpu_memory_free_gib", "ollama_version", "command", "why"),
)
# With these a spreadsheet takes what it reads for a formula, and hosts have written some of it.
# Source: OWASP, CSV Injection.
# Where decimals have a comma it parts cells by semicolons too, so that a cell may begin within one of ours; and it takes the
# wide forms of East Asian scripts for the same.
_OF_A_FORMULA = re.compile("(^|;) ?([=+@\uff1d\uff0b\uff0d\uff20-])")


def as_csv(report: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the file, the worst host first, as in the report."""
    yield _line(COLUMNS)
    for host in report["hosts"]:
        sizes = ("memory_total_bytes", "free_bytes")
        total, free = (sum(gpu[size] for gpu in host["gpus"]) / GIB for size in sizes)
        yield _line(
            (
                *(host["name"], host["state"], host.get("since"), host.get("looked_at"), "; ".join(causes_of(host))),
                *(host["num_parallel"], host["max_loaded_models"], host["context_length"]),
                *(len(host["gpus"]), f"{total:.1f}", f"{free:.1f}", host["version"]),
                *(host["next"]["command"], why(host)),
            )
        )


class _Written:
    """A file that hands back what is written to it; `writerow` returns what `write` does."""

    def write(self, text: str) -> str:
        return text


def _line(cells: tuple[Any, ...]) -> str:
    return str(csv.writer(_Written(), lineterminator="\n").writerow([_cell(cell) for cell in cells]))


def _cell(value: Any) -> str:
    # A line for each host, whatever stands in it.
    text = "" if value is None else " ".join(str(value).split())
    return _OF_A_FORMULA.sub(r"\1'\2", text)
