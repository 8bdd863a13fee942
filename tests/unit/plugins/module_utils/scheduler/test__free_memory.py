# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that is free on a server's GPUs: really, and as Ollama believes it."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import GpuMemory, ModelMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._free_memory import (
    Beliefs,
    Runner,
    believed_free_by_layout,
    really_free,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import Options, SchedulerGpu
from hypothesis import given
from hypothesis import strategies as st

OPTIONS = Options(
    context_length=4096, is_automatic_context=False, parallel=1, num_batch=None, num_gpu=-1, main_gpu=None
)


def gpus(*totals: int, libraries: str = "CCCCCCCC", taken: int = 0) -> list[SchedulerGpu]:
    names = {"C": "CUDA", "R": "ROCm"}
    return [
        SchedulerGpu(index, total, total - taken, library=names[libraries[index]])
        for index, total in enumerate(totals)
    ]


def runner(placement: tuple[int, ...], logged: int, used: int | None = None, free: int = 100) -> Runner:
    """A model that takes `used` and logs `logged` on each of its GPUs, which had `free` free at its start."""
    used = logged if used is None else used
    return Runner(
        name="m",
        key="m",
        options=OPTIONS,
        side_files=(),
        placement=placement,
        keep_alive_seconds=300,
        expires_at=300,
        memory=ModelMemory(tuple(GpuMemory(weights_bytes=used if i in placement else 0) for i in range(8))),
        logged_bytes=(logged,) * len(placement),
        free_at_load_bytes=(free,) * len(placement),
    )


def views(
    on: list[SchedulerGpu], *runners: Runner, renumbers: bool = True, context: int = 0
) -> list[tuple[int, ...]]:
    return Beliefs(on, runners, renumbers=renumbers, context_bytes=context).views()


def test_what_is_really_free_is_what_no_model_uses() -> None:
    assert really_free(gpus(100, 50, taken=10), [runner((0,), 20, used=25), runner((0, 1), 5)]) == (60, 35)


@pytest.mark.parametrize(
    ("runners", "context", "view"),
    [
        pytest.param([], 0, (90, 40), id="nothing loaded: what is free"),
        pytest.param([], 6, (84, 34), id="the discovery has a context of its own"),
        pytest.param(
            [runner((0,), 30, used=35)], 0, (55, 40), id="a GPU without a model: what is really free"
        ),
        pytest.param([runner((0,), 70, used=35)], 0, (30, 40), id="or less, by what the models logged"),
        pytest.param([runner((0,), 120, used=35)], 0, (0, 40), id="never less than nothing by their logs"),
        pytest.param([], 50, (40, 0), id="nor by the discovery's context"),
        pytest.param([runner((), 30)], 0, (90, 40), id="a model on the CPU counts for nothing"),
    ],
)
def test_a_fresh_discovery_reads_all_gpus(runners: list[Runner], context: int, view: tuple[int, ...]) -> None:
    assert views(gpus(100, 50, taken=10), *runners, context=context) == [view]


def test_once_every_gpu_has_a_model_their_logs_decide() -> None:
    # 30 logged of the 90 that were free; what it takes beyond its log stays unseen.
    assert views(gpus(100, taken=50), runner((0,), 30, used=45, free=90)) == [(60,)]
    # No less than nothing is left of what was free, and no more than there is.
    assert views(gpus(100), runner((0,), 30, free=20)) == [(0,)]
    assert views(gpus(100), runner((0,), 30, free=120)) == [(70,)]


def test_on_one_gpu_the_first_model_asked_answers_for_all() -> None:
    older, newer = runner((0,), 30, used=35, free=90), runner((0,), 20, used=25, free=55)
    assert views(gpus(100), older, newer) == [(50,), (35,)]
    assert views(gpus(100), newer, older) == [(35,), (50,)]


def test_on_one_gpu_each_of_many_models_may_be_asked_first() -> None:
    many = [runner((0,), 0, free=100 - number) for number in range(70)]
    assert views(gpus(100), runner((), 9), *many) == [(100 - number,) for number in range(70)]


def test_a_gpu_other_than_the_first_seems_empty_where_ollama_renumbers() -> None:
    both = [runner((0,), 30), runner((1,), 40)]
    assert views(gpus(100, 100), *both) == [(70, 100)]
    assert views(gpus(100, 100), *both, renumbers=False) == [(70, 60)]


def test_each_library_is_numbered_by_itself() -> None:
    assert views(gpus(100, 100, libraries="CR"), runner((0,), 30), runner((1,), 40)) == [(70, 60)]


def test_a_split_model_may_have_only_its_first_log_line_read() -> None:
    assert views(gpus(100, 100), runner((0, 1), 30, free=80)) == [(50, 50), (50, 70)]


def test_a_split_model_and_single_ones_may_each_answer() -> None:
    whole, single = runner((0, 1), 30, free=80), runner((0,), 10, free=95)
    assert views(gpus(100, 100), whole, single) == [(50, 50), (50, 70)]
    other = runner((1,), 20)
    assert views(gpus(100, 100), single, whole, other) == [(60, 70), (50, 50), (50, 70)]


def test_several_gpus_of_one_library_beside_another_answer_each() -> None:
    assert views(gpus(100, 100, 50, libraries="CCR"), runner((0, 1), 30), runner((2,), 10)) == [(70, 70, 40)]


def test_too_many_orders_are_narrowed_to_the_extremes() -> None:
    many = [runner((number % 2,), 1, free=100 - number) for number in range(40)]
    found = views(gpus(100, 100), *many, renumbers=False)
    assert found == [(80, 80), (61, 60)]


@pytest.mark.parametrize(("first", "second", "seen"), [(8, 8, 64), (13, 5, 2)])
def test_64_orders_are_told_apart_and_not_one_more(first: int, second: int, seen: int) -> None:
    answers = [runner((0,), 1, free=60 - number) for number in range(first)]
    answers += [runner((1,), 1, free=60 - number) for number in range(second)]
    assert len(views(gpus(100, 100), *answers, renumbers=False)) == seen


def test_versions_before_0_30_always_see_what_is_free() -> None:
    on = gpus(100, 100, taken=10)
    assert believed_free_by_layout(on, [runner((0,), 30, used=40), runner((0, 1), 20)]) == (30, 70)
    assert believed_free_by_layout(on, [runner((1,), 120, used=40)]) == (90, 0)


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100), st.integers(0, 100)), max_size=6),
    st.booleans(),
    st.integers(0, 10),
)
def test_ollama_never_believes_in_less_than_nothing_or_more_than_there_is(
    totals: list[int], placed: list[tuple[int, int, int]], renumbers: bool, context: int
) -> None:
    on = gpus(*totals)
    runners = [runner((position % len(on),), logged, free=free) for position, logged, free in placed]
    found = views(on, *runners, renumbers=renumbers, context=context)
    assert found
    for view in found:
        assert len(view) == len(on)
        assert all(0 <= one <= total for one, total in zip(view, totals))
