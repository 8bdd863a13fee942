# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A problem is put together column by column and row by row, and HiGHS says what it says of it."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._linear import UNBOUNDED, Problem


def test_columns_and_rows_are_known_by_their_position() -> None:
    problem = Problem()
    assert [problem.column(1.0), problem.column(2.0, 5.0, integer=True)] == [0, 1]
    assert problem.row({0: 1.0, 1: 3.0}, least=2.0) == 0
    assert (problem.costs, problem.uppers, problem.integer) == ([1.0, 2.0], [UNBOUNDED, 5.0], [False, True])
    assert problem.rows[0].terms == {0: 1.0, 1: 3.0}
    assert (problem.rows[0].least, problem.rows[0].most) == (2.0, UNBOUNDED)
