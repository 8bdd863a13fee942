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


def share(weights: int, kv_cache: int = 0, projector: int = 0, index: int = 0) -> dict[str, Any]:
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "layers": 1,
        "weights_bytes": weights,
        "kv_cache_bytes": kv_cache,
        "compute_bytes": 0,
        "projector_bytes": projector,
        "projector_compute_bytes": 0,
        "cuda_context_bytes": 0,
    }


def planned_gpu(
    planned: int, others: int = 0, total: int = 24 * GIB, margin: int = GIB, headroom: int = 0
) -> dict[str, Any]:
    return {
        "index": 0,
        "uuid": "GPU-0",
        "name": "card",
        "total_bytes": total,
        "others_bytes": others,
        "planned_bytes": planned,
        "free_bytes": total - others - planned,
        "engine_margin_bytes": margin,
        "headroom_bytes": headroom,
    }


def test_a_plan_is_shown_kind_by_kind() -> None:
    models = [
        {"planned": True, "gpus": [share(4 * GIB, 2 * GIB, projector=GIB), share(9 * GIB, index=1)]},
        {"planned": False, "gpus": [share(8 * GIB)]},
    ]
    drawn = bar_of_plan(planned_gpu(7 * GIB, others=3 * GIB, headroom=GIB), models)
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
    drawn = bar_of_plan(
        planned_gpu(23 * GIB, others=GIB // 2, headroom=GIB), [{"planned": True, "gpus": [share(23 * GIB)]}]
    )
    assert (drawn.parts["headroom"], drawn.parts["free"], drawn.short_bytes) == (GIB // 2, 0, 3 * GIB // 2)


def test_a_gpu_with_nothing_planned_needs_no_headroom() -> None:
    assert bar_of_plan(planned_gpu(0), []).parts["headroom"] == 0


def test_models_that_are_never_loaded_together_share_what_is_planned() -> None:
    models = [
        {"planned": True, "gpus": [share(4 * GIB, 2 * GIB)]},
        {"planned": True, "gpus": [share(4 * GIB, 2 * GIB)]},
    ]
    drawn = bar_of_plan(planned_gpu(6 * GIB), models)
    assert (drawn.parts["weights"], drawn.parts["kv_cache"]) == (4 * GIB, 2 * GIB)


def test_planned_memory_without_a_division_counts_as_weights() -> None:
    assert bar_of_plan(planned_gpu(6 * GIB), []).parts["weights"] == 6 * GIB


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


@given(sizes, sizes, sizes, sizes, st.lists(st.builds(share, sizes, sizes, sizes), max_size=3))
def test_every_bar_adds_up(
    planned: int, others: int, free: int, headroom: int, shares: list[dict[str, Any]]
) -> None:
    gpu = planned_gpu(planned, others, planned + others + free, headroom=headroom)
    drawn = bar_of_plan(gpu, [{"planned": True, "gpus": shares}])
    assert sum(drawn.parts.values()) == drawn.total_bytes
    assert min(drawn.parts.values()) >= 0
    assert set(drawn.parts) <= set(KINDS)


@given(sizes, sizes, sizes)
def test_every_bar_of_facts_adds_up(total: int, free: int, ours: int) -> None:
    drawn = bar_of_facts({"memory_total_bytes": total, "memory_free_bytes": free, "memory_ours_bytes": ours})
    assert sum(drawn.parts.values()) == drawn.total_bytes == total
    assert min(drawn.parts.values()) >= 0
