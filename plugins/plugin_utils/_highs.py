# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The solver HiGHS on the control node, asked for where a fleet is placed and nowhere else."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._linear import (
    Problem,
    Solution,
    Solve,
)

MISSING = (
    "a placement needs the solver HiGHS on the control node, for the Python that runs Ansible ({python}): "
    "install it with 'pip install highspy'{why}"
)


def solver() -> Solve:
    """The function that solves a `Problem`.

    Raises: ValueError in one sentence that says what to install where it is missing.
    """
    try:
        import highspy
        import numpy
    except Exception as error:  # what is half installed fails in many ways
        import sys

        why = "" if isinstance(error, ModuleNotFoundError) else f" again; it is broken ({error})"
        raise ValueError(MISSING.format(python=sys.executable, why=why)) from error

    def solve(problem: Problem, seconds: float) -> Solution:
        return _solve(highspy, numpy, problem, seconds)

    return solve


def _solve(highspy: Any, numpy: Any, problem: Problem, seconds: float) -> Solution:
    if not problem.costs:
        return Solution(())
    # What `Highs` of Python adds are callbacks, and by enabling them it prints a banner past Ansible's output (1.16).
    highs = highspy.Highs.__bases__[0]()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("time_limit", max(seconds, 0.1))
    highs.setOptionValue("threads", 1)  # the same answer on every machine
    highs.setOptionValue("mip_rel_gap", 0.0)
    highs.setOptionValue("mip_abs_gap", 1e-6)
    highs.passModel(_model(highspy, numpy, problem))
    highs.run()
    status = highs.getModelStatus()
    info = highs.getInfo()
    is_mip = any(problem.integer)
    proven = status == highspy.HighsModelStatus.kOptimal
    has_values = proven or (is_mip and info.primal_solution_status == 2)
    if not has_values:
        return Solution((), is_proven=status == highspy.HighsModelStatus.kInfeasible)
    solution = highs.getSolution()
    objective = float(info.objective_function_value)
    return Solution(
        values=tuple(solution.col_value),
        objective=objective,
        bound=objective if proven else float(info.mip_dual_bound),
        prices=() if is_mip else tuple(solution.row_dual),
        is_proven=proven,
    )


def _model(highspy: Any, numpy: Any, problem: Problem) -> Any:
    lp = highspy.HighsLp()
    count = len(problem.costs)
    lp.num_col_, lp.num_row_ = count, len(problem.rows)
    lp.col_cost_ = numpy.array(problem.costs, dtype=float)
    lp.col_lower_ = numpy.zeros(count)
    lp.col_upper_ = numpy.array(problem.uppers, dtype=float)
    lp.row_lower_ = numpy.array([row.least for row in problem.rows], dtype=float)
    lp.row_upper_ = numpy.array([row.most for row in problem.rows], dtype=float)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = count, len(problem.rows)
    starts, indices, factors = [0], list[int](), list[float]()
    for row in problem.rows:
        indices += row.terms.keys()
        factors += row.terms.values()
        starts.append(len(indices))
    lp.a_matrix_.start_ = numpy.array(starts, dtype=numpy.int32)
    lp.a_matrix_.index_ = numpy.array(indices, dtype=numpy.int32)
    lp.a_matrix_.value_ = numpy.array(factors, dtype=float)
    if any(problem.integer):
        lp.integrality_ = [
            highspy.HighsVarType.kInteger if one else highspy.HighsVarType.kContinuous
            for one in problem.integer
        ]
    return lp
