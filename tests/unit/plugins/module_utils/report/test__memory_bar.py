# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bar of a GPU adds up to its memory, with or without a plan."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._memory_bar import (
    KINDS,
    bar_of_facts,
    bar_of_plan,
)
from hypothesis import given
from hypothesis import strategies as st

GIB = 1 << 30


def planned_gpu(
    weights: int = 0,
    kv_cache: int = 0,
    projector: int = 0,
    others: int = 0,
    free: int = 0,
    margin: int = GIB,
    headroom: int = 0,
) -> dict[str, Any]:
    planned = weights + kv_cache + projector
    return {
        "index": 0,
        "uuid": "GPU-0",
        "name": "card",
        "total_bytes": others + planned + free,
        "others_bytes": others,
        "planned_bytes": planned,
        "free_bytes": free,
        "engine_margin_bytes": margin,
        "headroom_bytes": headroom,
        "weights_bytes": weights,
        "kv_cache_bytes": kv_cache,
        "compute_bytes": 0,
        "projector_bytes": projector,
        "projector_compute_bytes": 0,
        "cuda_context_bytes": 0,
    }


def test_a_plan_is_shown_kind_by_kind() -> None:
    drawn = bar_of_plan(planned_gpu(4 * GIB, 2 * GIB, GIB, others=3 * GIB, free=14 * GIB, headroom=GIB))
    assert drawn.parts == {
        "weights": 5 * GIB,
        "kv_cache": 2 * GIB,
        "compute": 0,
        "cuda_context": 0,
        "others": 3 * GIB,
        "headroom": 2 * GIB,
        "free": 12 * GIB,
    }
    assert drawn.short_bytes == 0


def test_what_is_missing_of_the_headroom_is_told() -> None:
    drawn = bar_of_plan(planned_gpu(23 * GIB, free=GIB // 2, headroom=GIB))
    assert (drawn.parts["headroom"], drawn.parts["free"], drawn.short_bytes) == (GIB // 2, 0, 3 * GIB // 2)


def test_a_gpu_with_nothing_planned_needs_no_headroom() -> None:
    assert bar_of_plan(planned_gpu(free=24 * GIB)).parts["headroom"] == 0


def test_without_a_plan_the_facts_are_shown() -> None:
    facts = {
        "index": 1,
        "uuid": "GPU-1",
        "name": "card",
        "memory_total_bytes": 24,
        "memory_free_bytes": 10,
        "memory_ours_bytes": 5,
    }
    drawn = bar_of_facts(facts)
    assert drawn.parts == {"ollama": 5, "others": 9, "free": 10}
    assert drawn.to_dict()["ollama_bytes"] == 5


@pytest.mark.parametrize("facts", [{}, {"memory_total_bytes": None, "memory_free_bytes": 3}])
def test_a_gpu_that_cannot_be_read_has_an_empty_bar(facts: dict[str, Any]) -> None:
    assert sum(bar_of_facts(facts).parts.values()) == 0


sizes = st.integers(min_value=0, max_value=96 * GIB)


@given(sizes, sizes, sizes, sizes, sizes, sizes)
def test_every_bar_adds_up(
    weights: int, kv_cache: int, projector: int, others: int, free: int, headroom: int
) -> None:
    drawn = bar_of_plan(planned_gpu(weights, kv_cache, projector, others, free, headroom=headroom))
    assert sum(drawn.parts.values()) == drawn.total_bytes
    assert min(drawn.parts.values()) >= 0
    assert set(drawn.parts) <= set(KINDS)


@given(sizes, sizes, sizes)
def test_every_bar_of_facts_adds_up(total: int, free: int, ours: int) -> None:
    drawn = bar_of_facts({"memory_total_bytes": total, "memory_free_bytes": free, "memory_ours_bytes": ours})
    assert sum(drawn.parts.values()) == drawn.total_bytes == total
    assert min(drawn.parts.values()) >= 0
