# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HiGHS solves what it is given; where it is missing or broken, one sentence says what to do."""

from __future__ import annotations

import sys

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._linear import Problem
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._highs import solver


def knapsack(*, integer: bool) -> Problem:
    problem = Problem()
    columns = [problem.column(cost, 3.0, integer=integer) for cost in (1.0, 1.0)]
    problem.row(dict(zip(columns, (2.0, 3.0))), least=11.0)
    return problem


def test_whole_numbers_are_whole() -> None:
    solution = solver()(knapsack(integer=True), 10.0)
    assert [round(value, 6) for value in solution.values] == [1, 3]
    assert (solution.objective, solution.bound, solution.is_proven) == (4.0, 4.0, True)
    assert solution.prices == ()


def test_without_whole_numbers_there_are_prices() -> None:
    problem = knapsack(integer=False)
    problem.uppers = [float("inf")] * 2
    solution = solver()(problem, 10.0)
    assert solution.objective == pytest.approx(11 / 3)
    assert solution.prices == pytest.approx((1 / 3,))


def test_what_cannot_be_has_no_values() -> None:
    problem = knapsack(integer=True)
    problem.row({0: 1.0}, least=4.0)
    assert solver()(problem, 10.0).values == ()


def test_nothing_is_solved_by_nothing() -> None:
    assert solver()(Problem(), 10.0).values == ()


def test_it_says_nothing_on_the_terminal(capfd) -> None:
    solver()(knapsack(integer=True), 10.0)
    assert capfd.readouterr() == ("", "")


def test_where_it_is_missing_it_is_said_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(ValueError, match=r"needs the solver HiGHS .* install it with 'pip install highspy'$"):
        solver()


def test_where_it_is_broken_it_is_said_how(monkeypatch) -> None:
    class Finder:
        def find_spec(self, name: str, *_more: object) -> None:
            if name == "highspy":
                raise ImportError("libgomp.so.1 is missing")

    monkeypatch.delitem(sys.modules, "highspy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(ValueError, match=r"pip install highspy' again; it is broken .libgomp"):
        solver()
