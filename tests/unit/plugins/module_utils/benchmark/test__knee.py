# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The knee on curves whose truth is known, with and without noise."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._knee import (
    Point,
    find_knee,
    refused,
    together,
)
from hypothesis import given
from hypothesis import strategies as st

PARALLELS = (1, 2, 3, 4, 6, 8)
NO_NOISE = (0.0,) * len(PARALLELS)


def amdahl(n: int, serial: float = 0.3) -> float:
    return 40 * n / (1 + serial * (n - 1))


def saturating(n: int, most: int = 3) -> float:
    return 40 * min(n, most)


def thrashing(n: int) -> float:
    return 40 * n / (1 + 0.3 * (n - 1) + 0.05 * n * (n - 1))


def flat(n: int) -> float:
    return 40.0


def linear(n: int) -> float:
    return 40.0 * n


def curve(law, parallels=PARALLELS, noise=NO_NOISE) -> list[Point]:
    return [Point(n, law(n) * (1 + error)) for n, error in zip(parallels, noise)]


@pytest.mark.parametrize(
    ("law", "share", "knee"),
    [
        (linear, 0.05, 8),
        (flat, 0.05, 1),
        (saturating, 0.05, 3),
        # Amdahl: 8 gives 103.2 tokens/s, 6 gives 96 (93 %), 4 gives 84.2 (82 %).
        (amdahl, 0.05, 8),
        (amdahl, 0.08, 6),
        (amdahl, 0.20, 4),
        # Thrashing has its summit at sqrt(0.7 / 0.05) = 3.7: 3 gives 63.2 tokens/s, 4 gives 64.0, 2 gives 57.1 (89 %).
        (thrashing, 0.0, 4),
        (thrashing, 0.05, 3),
        (thrashing, 0.15, 2),
    ],
)
def test_the_knee_of_a_known_law(law, share, knee):
    assert find_knee(curve(law), share=share).parallel == knee


two_percent = st.lists(st.floats(-0.02, 0.02), min_size=len(PARALLELS), max_size=len(PARALLELS))


@given(two_percent)
def test_two_percent_of_noise_move_no_clear_knee(noise):
    assert find_knee(curve(saturating, noise=noise), share=0.05).parallel == 3
    assert find_knee(curve(linear, noise=noise), share=0.05).parallel == 8
    assert find_knee(curve(thrashing, noise=noise), share=0.06).parallel in (3, 4)


def test_noise_above_the_share_is_said():
    points = [Point(1, 98, spread=0.2), Point(2, 100, spread=0.1)]
    assert "measure more rounds" in find_knee(points, share=0.05).note
    assert find_knee([Point(1, 98, spread=0.01), Point(2, 100)], share=0.05).note == ""
    assert find_knee([Point(1, 50, spread=0.2), Point(2, 100, spread=0.3)], share=0.05).note == ""


def test_what_is_unusable_or_too_slow_does_not_count_not_even_as_the_best():
    points = [
        Point(1, 40, 1.0),
        Point(2, 70, 1.5),
        Point(3, 90, 2.5),
        Point(4, 200, 2.0, unusable="it spilled"),
    ]
    assert find_knee(points, latency_bound_s=2.0).parallel == 2
    assert find_knee(points).parallel == 3
    assert refused(points[3]) == "it spilled"
    assert "above 2 s" in refused(points[2], 2.0)


def test_without_a_usable_point_there_is_no_knee_but_a_reason():
    knee = find_knee([Point(1, 0), Point(2, 50, unusable="it spilled")])
    assert knee.parallel is None
    assert "nothing was generated" in knee.reason
    assert "it spilled" in knee.reason
    assert "none was measured" in find_knee([]).reason


@pytest.mark.parametrize("share", [-0.1, 1, 1.5])
def test_a_share_that_makes_no_sense_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        find_knee(curve(flat), share=share)


points_of_any_kind = st.lists(
    st.builds(
        Point,
        parallel=st.integers(1, 64),
        tokens_per_second=st.floats(0, 1e4),
        latency_p95_s=st.none() | st.floats(0, 100),
        unusable=st.sampled_from(["", "", "it spilled"]),
    ),
    max_size=8,
    unique_by=lambda point: point.parallel,
)


@given(points_of_any_kind, st.floats(0, 0.5), st.none() | st.floats(0.1, 100))
def test_the_knee_is_admissible_good_enough_and_the_smallest_such(points, share, bound):
    knee = find_knee(points, share=share, latency_bound_s=bound)
    admissible = [point for point in points if not refused(point, bound)]
    if not admissible:
        assert knee.parallel is None
        return
    least = max(point.tokens_per_second for point in admissible) * (1 - share)
    good = [point.parallel for point in admissible if point.tokens_per_second >= least]
    assert knee.parallel == min(good)


class TestTogether:
    """Several models on one host, which has one parallel value."""

    def test_one_model_is_its_own_curve(self):
        points = curve(saturating)
        assert together({"a": points}) == points

    def test_a_fast_model_counts_no_more_than_a_slow_one(self):
        fast = [Point(1, 1000), Point(2, 1000)]
        slow = [Point(1, 5), Point(2, 10)]
        assert find_knee(together({"fast": fast, "slow": slow})).parallel == 2

    def test_a_value_counts_only_where_it_does_for_every_model(self):
        points = together(
            {"a": curve(linear, (1, 2, 4)), "b": [Point(1, 10), Point(2, 20), Point(4, 40, unusable="hm")]}
        )
        assert [point.unusable for point in points] == ["", "", "b: hm"]
        assert find_knee(points).parallel == 2
        assert (
            "b was not measured"
            in together({"a": [Point(1, 1), Point(2, 2)], "b": [Point(1, 1)]})[1].unusable
        )

    def test_the_latency_is_the_longest(self):
        points = together({"a": [Point(1, 1, 3.0)], "b": [Point(1, 1, 5.0)]})
        assert points[0].latency_p95_s == 5.0
