# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Predicted, reported and measured memory."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._calibration import (
    Comparison,
    compared,
    correction,
    warnings,
)


def row(measured=None, logged_total=None, *, gpus=1, compute=100, predicted=1000, projector=0) -> Comparison:
    logged = (
        None if logged_total is None else {"total_bytes": logged_total * MIB, "compute_bytes": compute * MIB}
    )
    return Comparison(
        "m",
        2,
        gpus,
        predicted * MIB,
        100 * MIB,
        projector * MIB,
        None,
        logged,
        None if measured is None else measured * MIB,
    )


def test_a_row_is_put_together_from_plan_and_measurement():
    share = {"total_bytes": 50, "compute_bytes": 5, "projector_compute_bytes": 2, "projector_bytes": 3}
    found = compared(
        3,
        {"name": "m", "gpus": [share, share]},
        {"reported_bytes": 60, "logged": {"total_bytes": 70, "compute_bytes": 9}, "measured_bytes": 110},
    )
    assert (found.predicted_bytes, found.predicted_compute_bytes, found.predicted_projector_bytes) == (
        100,
        14,
        6,
    )
    assert (found.parallel, found.gpu_count) == (3, 2)
    assert found.deviation == pytest.approx(0.1)
    assert found.to_dict()["deviation"] == 0.1


@pytest.mark.parametrize(
    ("measured", "warned"), [(1049, False), (1051, True), (949, True), (951, False), (None, False)]
)
def test_a_deviation_beyond_the_bound_is_a_warning(measured, warned):
    found = warnings([row(measured)], {("m", 2): "all the inputs"}, 0.05)
    assert bool(found) == warned
    assert all("all the inputs" in sentence and str(measured) in sentence for sentence in found)


def test_the_correction_is_the_most_that_was_seen():
    found = correction([row(980, 700, compute=90), row(1000, 650, compute=130), row(None, 1), row(1)])
    assert found == {"cuda_context_bytes": 350 * MIB, "compute_excess_bytes": 30 * MIB}


def test_a_projector_is_no_cuda_context():
    assert correction([row(1000, 600, projector=100)])["cuda_context_bytes"] == 300 * MIB


def test_what_several_gpus_hold_is_divided_among_them():
    assert correction([row(1000, 600, gpus=2, compute=110)]) == {
        "cuda_context_bytes": 200 * MIB,
        "compute_excess_bytes": 5 * MIB,
    }


@pytest.mark.parametrize("rows", [[], [row()], [row(1000)], [row(500, 600)], [row(1000, 600, gpus=0)]])
def test_without_both_sources_there_is_no_correction(rows):
    assert correction(rows) is None
