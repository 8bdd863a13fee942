# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What arithmetic alone says of settings: to the byte, with models that one can add up in the head."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._least import LeastMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._bounds import Bounds
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import scheduler_model
from ansible_collections.gpufleet.ollama.tests.unit.data import shape
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.planning.simulated import (
    MIB,
    model,
    simulation,
)

ONE, SPREAD = Candidate(1, 4096), Candidate(1, 4096, spread=True)
# What the engine leaves free of each GPU.
MARGIN = 1024
LARGE, SMALL = (scheduler_model(shape(name)) for name in ("llama3.1:8b", "llama3.2:1b"))
LARGE_MIB, SMALL_MIB = (LeastMemory(one.shape).bytes(4096, 1, "f16") / MIB for one in (LARGE, SMALL))
BYTE = 1 / MIB


@pytest.mark.parametrize(
    ("gpus_mib", "models", "candidate", "loaded", "is_hopeless"),
    [
        # The largest alone.
        ([LARGE_MIB + 100 + MARGIN], [LARGE, SMALL], ONE, 1, False),
        ([LARGE_MIB + 100 + MARGIN - BYTE], [LARGE, SMALL], ONE, 1, True),
        # As many as are to be loaded together, the smallest of them.
        ([LARGE_MIB + SMALL_MIB + 200 + MARGIN], [LARGE, SMALL], ONE, 2, False),
        ([LARGE_MIB + SMALL_MIB + 200 + MARGIN - BYTE], [LARGE, SMALL], ONE, 2, True),
        # Over several GPUs, the margin of each that has more; divided models take a context on each.
        ([LARGE_MIB + MARGIN, 100 + MARGIN], [LARGE], ONE, 1, False),
        ([LARGE_MIB + MARGIN, 100 + MARGIN - BYTE], [LARGE], ONE, 1, True),
        ([LARGE_MIB + 100 + MARGIN, MARGIN - 1], [LARGE], ONE, 1, False),
        ([LARGE_MIB + 100 + MARGIN - BYTE, MARGIN - 1], [LARGE], ONE, 1, True),
        ([LARGE_MIB + MARGIN, 200 + MARGIN], [LARGE], SPREAD, 1, False),
        ([LARGE_MIB + MARGIN, 200 + MARGIN - BYTE], [LARGE], SPREAD, 1, True),
        # Without a GPU or without models nothing is known.
        ([], [LARGE], ONE, 1, False),
        ([1], [], ONE, 1, False),
        # Without a shape only the context of the runner is.
        ([100 + MARGIN], [model("a", 10**6)], ONE, 1, False),
        ([100 + MARGIN - BYTE], [model("a")], ONE, 1, True),
    ],
)
def test_what_exceeds_all_memory_is_hopeless(gpus_mib, models, candidate, loaded, is_hopeless):
    bounds = Bounds(simulation(gpus_mib, models, overhead_mib=100))
    assert bounds.is_hopeless(models, candidate, loaded) is is_hopeless


def test_there_is_room_for_more_models_up_to_what_is_left_beyond_the_margin():
    """Beside LARGE and SMALL, which the server has not loaded yet, and after it has loaded a model of 500 MiB."""
    for used_mib, left_mib in ((0, 0), (600, 0), (600, BYTE)):
        room_mib = LARGE_MIB + SMALL_MIB + 200 + MARGIN + used_mib - left_mib
        loads = simulation([room_mib], [LARGE, SMALL, model("a")], overhead_mib=100, a=500)
        bounds, server = Bounds(loads), loads.server(ONE)
        if used_mib:
            server, _outcome = server.load(model("a"))
        assert bounds.has_room(server, [LARGE, SMALL], ONE) is not bool(left_mib)


def test_least_memory_says_nothing_of_ollama_before_llama_server():
    bounds = Bounds(simulation([1], [LARGE], version="0.24.0"))
    assert not bounds.is_hopeless([LARGE], ONE, 1)
    assert not bounds.rules_out([LARGE], 1, ONE)


MANY = [model(name) for name in "abcdefg"]


# Two of seven models are 21 pairs of 4 loads: more than are simulated, so that the bound will decide.
@pytest.mark.parametrize(
    ("gpus_mib", "models", "count", "candidate", "headroom_mib", "is_ruled_out"),
    [
        # As many as are asked about, the largest of them, exceed all memory.
        ([LARGE_MIB + 100 + MARGIN], [LARGE, SMALL], 1, ONE, 0, False),
        ([LARGE_MIB + 100 + MARGIN - BYTE], [LARGE, SMALL], 1, ONE, 0, True),
        ([LARGE_MIB + SMALL_MIB + 200 + MARGIN - BYTE], [LARGE, SMALL], 2, ONE, 0, True),
        # Few are left to the simulation, whatever Ollama predicts.
        ([LARGE_MIB + SMALL_MIB + 200 + MARGIN], [LARGE, SMALL], 2, ONE, 0, False),
        ([4000, 4000], MANY[:3], 2, SPREAD, 0, False),
        ([4000], MANY, 1, ONE, 4000 - MARGIN - 100, False),
        # The headroom is to stay free too.
        ([4000], MANY, 1, ONE, 4000 - MARGIN - 100 + 1, True),
        # Divided, or more than there are GPUs: the bound knows nothing of these.
        ([4000, 4000], MANY, 2, ONE, 0, False),
        ([4000, 4000], MANY, 2, SPREAD, 0, True),
        ([4000, 4000], MANY, 3, ONE, 0, True),
        # Each has to be within 80 % of the second largest GPU, less the context: (3100 - 100) * 80 %.
        ([5000, 3100, 500], [*MANY[:6], model("g", 2400)], 2, ONE, 0, False),
        ([5000, 3100, 500], [*MANY[:6], model("g", 2400 + BYTE)], 2, ONE, 0, True),
        # And beside another runner, with the margin and the headroom: 100 + 100 + 1024 + headroom.
        ([4000], MANY, 2, ONE, 2776, False),
        ([4000], MANY, 2, ONE, 2777, True),
        # Beside another runner within 80 % of what is left: (4000 - 100 - 100) * 80 %.
        ([4000], [*MANY[:6], model("g", 3040)], 2, ONE, 0, False),
        ([4000], [*MANY[:6], model("g", 3040 + BYTE)], 2, ONE, 0, True),
        # The largest is beside the second largest, all others beside the largest.
        ([LARGE_MIB + 200 + MARGIN], [*MANY[:6], LARGE], 2, ONE, 0, True),
        ([1.5 * LARGE_MIB + 200 + MARGIN], [*MANY[:6], LARGE], 2, ONE, 0, False),
        # So what Ollama predicts has to be within 80 % of what the largest other leaves: (3200 - 100 - 100) * 80 %.
        ([LARGE_MIB + 100 + 3100], [*MANY[:5], model("g", 2400), LARGE], 2, ONE, 0, False),
        ([LARGE_MIB + 100 + 3100], [*MANY[:5], model("g", 2400 + BYTE), LARGE], 2, ONE, 0, True),
        # Alone Ollama loads whatever it predicts; of 65 models not every one is simulated.
        ([4000], [*(model(str(number)) for number in range(64)), model("g", 3900)], 1, ONE, 0, False),
    ],
)
def test_what_no_simulation_will_call_safe_is_ruled_out(gpus_mib, models, count, candidate, headroom_mib, is_ruled_out):
    bounds = Bounds(simulation(gpus_mib, models, overhead_mib=100, headroom_mib=headroom_mib))
    assert bounds.rules_out(models, count, candidate) is is_ruled_out


def sized(*sizes_mib: int, **changes: object):
    """Models of these sizes, by their letters."""
    return [model(name, **changes) for name in "abcd"[: len(sizes_mib)]], dict(zip("abcd", sizes_mib))


@pytest.mark.parametrize(
    ("gpus_mib", "sizes_mib", "count", "reason"),
    [
        # One GPU: the largest beside the largest others, and the margin.
        ([1000 + 500 + MARGIN], (1000, 500, 250), 2, ""),
        (
            [1000 + 500 + MARGIN - 1],
            (1000, 500, 250),
            2,
            "a needs 2.0 GiB with what is to stay free, and GPU 0 has 2.0 GiB beside b",
        ),
        ([1000 + 500 + 250 + MARGIN], (1000, 500, 250), 3, ""),
        (
            [1000 + 500 + 250 + MARGIN - 1],
            (1000, 500, 250),
            3,
            "a needs 2.0 GiB with what is to stay free, and GPU 0 has 2.0 GiB beside b, c",
        ),
        ([1000 + MARGIN], (1000, 500), 1, ""),
        ([1000 + MARGIN - 1], (1000, 500), 1, "a leaves 1.0 GiB of GPU 0 free, and 1.0 GiB are to stay free"),
        # Several: each on the smallest of as many GPUs as models, the largest of them.
        ([5000, 1000 + MARGIN, 100], (1000, 1000), 2, ""),
        (
            [5000, 1000 + MARGIN - 1, 100],
            (1000, 1000),
            2,
            "a needs 2.0 GiB with what is to stay free, and GPU 1 has 2.0 GiB",
        ),
        ([5000, 5000], (10, 10, 10), 3, "3 models are more than the 2 GPUs"),
        ([5000, 5000], (10, 10, 10), 2, ""),
        # None: the largest ones in system memory, of which there are 1000 MiB.
        ([], (10, 10), 2, ""),
        ([], (500, 300, 200), 3, ""),
        ([], (500, 300, 200, 100), 3, ""),
        ([], (500, 300, 201), 3, "a, b, c need 1.0 GiB of system memory, and 1.0 GiB are available"),
        ([], (500, 300, 201), 2, ""),
        ([], (1001, 1), 1, "a needs 1.0 GiB of system memory, and 1.0 GiB are available"),
    ],
)
def test_the_bound_says_what_is_safe_in_any_order(gpus_mib, sizes_mib, count, reason):
    models, sizes = sized(*sizes_mib)
    verdict = Bounds(simulation(gpus_mib, models, **sizes)).verdict(models, count, ONE)
    assert (verdict.is_safe, verdict.reason) == (not reason, reason)


@pytest.mark.parametrize(
    ("overhead_mib", "file_mib", "reason"),
    [
        # b takes 3000 of 5000, and Ollama loads beside it what it predicts within 80 % of the rest.
        (0, 1600, ""),
        (0, 1600 + BYTE, "Ollama predicts 1.6 GiB for a, more than 80 % of the 2.0 GiB that GPU 0 has free beside b"),
        # The contexts of both runners are no part of what it believes to be free: (5000 - 3100 - 100) * 80 %.
        (100, 1440, ""),
        (100, 1440 + BYTE, "Ollama predicts 1.4 GiB for a, more than 80 % of the 1.8 GiB that GPU 0 has free beside b"),
    ],
)
def test_what_ollama_would_evict_for_is_not_safe(overhead_mib, file_mib, reason):
    models = [model("a", file_mib), model("b")]
    found = simulation([5000], models, overhead_mib=overhead_mib, a=500, b=3000)
    verdict = Bounds(found).verdict(models, 2, ONE)
    assert (verdict.is_safe, verdict.reason) == (not reason, reason and f"{reason}, and would evict")


@pytest.mark.parametrize(
    ("gpu_mib", "headroom_mib", "is_safe"),
    [(3100 + 2 * 800, 0, True), (3100 + 2 * 800 - BYTE, 0, False), (3100 + 2 * 800, 1, False), (3100 + 1601, 1, True)],
)
def test_the_bound_leaves_what_all_of_them_take_while_they_compute(gpu_mib, headroom_mib, is_safe):
    models, sizes = sized(2000, 1100)
    found = simulation([gpu_mib], models, pool_mib=800, headroom_mib=headroom_mib, **sizes)
    assert Bounds(found).verdict(models, 2, ONE).is_safe is is_safe


def test_the_bound_knows_nothing_of_divided_models():
    models, sizes = sized(10, 10)
    bounds = Bounds(simulation([5000, 5000], models, **sizes))
    assert bounds.verdict(models, 2, SPREAD).reason.startswith("models that are divided over several GPUs depend")
    assert Bounds(simulation([5000], models, **sizes)).verdict(models, 2, SPREAD).is_safe
    bound, sizes = sized(10, 10, main_gpu=0)
    found = Bounds(simulation([5000, 5000], bound, **sizes)).verdict(bound, 2, ONE)
    assert found.reason == "a lies on several GPUs"
