# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The points of a drawing lie inside it and in order."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._curve import chart
from hypothesis import given
from hypothesis import strategies as st


def point(parallel, rate, unusable="", latency=1.0):
    return {
        "parallel": parallel,
        "tokens_per_second": rate,
        "latency_p95_seconds": latency,
        "unusable": unusable,
    }


def test_the_knee_is_marked_and_what_does_not_count_is_off_the_line():
    drawn = chart(
        [point(1, 40), point(2, 70), point(4, 30, "it spilled")], "tokens_per_second", "tokens/s", 2
    )
    assert [mark["is_knee"] for mark in drawn["points"]] == [False, True, False]
    assert drawn["knee_x"] == drawn["points"][1]["x"]
    assert len(drawn["line"].split()) == 2
    assert drawn["ticks"][0]["label"] == "0"
    assert float(drawn["ticks"][-1]["label"]) >= 70


def test_nothing_measured_is_not_drawn():
    assert chart([], "tokens_per_second", "", None) is None
    assert chart([point(1, 0)], "tokens_per_second", "", None) is None
    assert chart([point(1, 5, latency=None)], "latency_p95_seconds", "", None) is None


@given(st.dictionaries(st.integers(1, 256), st.floats(0.01, 1e5), min_size=1, max_size=9))
def test_every_point_lies_inside_and_higher_is_more(rates):
    drawn = chart([point(*one) for one in rates.items()], "tokens_per_second", "tokens/s", None)
    marks = drawn["points"]
    assert [mark["parallel"] for mark in marks] == sorted(rates)
    assert all(drawn["left"] <= mark["x"] <= drawn["right"] for mark in marks)
    assert all(drawn["top"] <= mark["y"] <= drawn["bottom"] for mark in marks)
    by_rate = sorted(marks, key=lambda mark: rates[mark["parallel"]])
    assert [mark["y"] for mark in by_rate] == sorted((mark["y"] for mark in marks), reverse=True)
    assert 2 <= len(drawn["ticks"]) <= 6
