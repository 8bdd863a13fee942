# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles and medians: nearest rank, within the sample, in order."""

from __future__ import annotations

import statistics

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._statistics import (
    distribution,
    median,
    percentile,
    spread,
)
from hypothesis import given
from hypothesis import strategies as st

samples = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([15, 20, 35, 40, 50], 5, 15),
        ([15, 20, 35, 40, 50], 30, 20),
        ([15, 20, 35, 40, 50], 40, 20),
        ([15, 20, 35, 40, 50], 50, 35),
        ([15, 20, 35, 40, 50], 100, 50),
        ([7], 0, 7),
        (list(range(1, 101)), 95, 95),
    ],
)
def test_the_nearest_rank(values, percent, expected):
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1], 101), ([1], -1)])
def test_what_has_no_percentile_is_refused(values, percent):
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


@given(samples)
def test_percentiles_are_of_the_sample_and_in_order(values):
    found = distribution(values)
    assert found is not None
    assert {found.p50, found.p95, found.p99} <= set(values)
    assert found.p50 <= found.p95 <= found.p99


@given(samples)
def test_the_median_is_that_of_the_standard_library(values):
    assert median(values) == pytest.approx(statistics.median(values))


def test_nothing_has_no_distribution_and_no_median():
    assert distribution([]) is None
    with pytest.raises(ValueError, match="median"):
        median([])


@given(samples, st.floats(0.5, 2))
def test_the_spread_has_no_unit(values, factor):
    assert spread([value * factor for value in values]) == pytest.approx(spread(values), abs=1e-9)


@pytest.mark.parametrize(
    ("values", "expected"), [([], 0), ([5], 0), ([5, 5], 0), ([9, 10, 11], 0.2), ([0, 0], 0)]
)
def test_the_spread(values, expected):
    assert spread(values) == pytest.approx(expected)
