# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A linear problem as plain data, and what a solver says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Protocol

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

UNBOUNDED = float("inf")


@dataclass
class Problem:
    """Minimise the costs of columns between 0 and their upper bounds, within the bounds of rows."""

    costs: list[float] = field(default_factory=list)
    uppers: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def column(self, cost: float = 0.0, upper: float = UNBOUNDED, *, integer: bool = False) -> int:
        """A new column; its position."""
        self.costs.append(cost)
        self.uppers.append(upper)
        self.integer.append(integer)
        return len(self.costs) - 1

    def row(self, terms: Mapping[int, float], least: float = -UNBOUNDED, most: float = UNBOUNDED) -> int:
        """A new row, factors by column; its position."""
        self.rows.append(Row(dict(terms), least, most))
        return len(self.rows) - 1


@dataclass
class Row:
    """A sum of columns, factors by their position, and its bounds."""

    terms: dict[int, float]
    least: float
    most: float


@dataclass(frozen=True)
class Solution:
    """What a solver found: values of the columns, and what the objective cannot be better than.

    `prices`: what one more of each row's bound would cost; empty where columns are integer. `is_proven`: no better one
    exists. Without `values` the time ran out before there was any, or nothing fulfils the rows.
    """

    values: tuple[float, ...]
    objective: float = 0.0
    bound: float = 0.0
    prices: tuple[float, ...] = ()
    is_proven: bool = True


class Solve(Protocol):
    """Solves a problem in so many seconds at the most."""

    def __call__(self, problem: Problem, seconds: float) -> Solution: ...
