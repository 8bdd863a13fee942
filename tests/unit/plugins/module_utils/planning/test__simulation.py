# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When so many loads are simulated, and what is said where one is not safe."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._simulation import (
    loads_of_all_orders,
    scheduler_gpu,
    simulates,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._server import Server
from ansible_collections.gpufleet.ollama.tests.unit.plugins.module_utils.planning.simulated import (
    MIB,
    model,
    simulation,
)

GIB = 1 << 30


@pytest.mark.parametrize(
    ("count", "loads"),
    [
        (0, 0),
        (1, 1),
        # Two that come first, then the other one each.
        (2, 2 + 2),
        (3, 3 + 6 + 6),
        (4, 4 + 12 + 24 + 24),
        (5, 5 + 20 + 60 + 120 + 120),
    ],
)
def test_each_beginning_of_an_order_is_loaded_once(count, loads):
    assert loads_of_all_orders(count) == loads


@pytest.mark.parametrize(
    ("models", "count", "is_tried"),
    [
        # 64 loads are tried and not one more: four models in all orders, or sixteen of two of them.
        (4, 4, True),
        (5, 5, False),
        (6, 2, True),  # 15 x 4
        (7, 2, False),  # 21 x 4
        (64, 1, True),
        (65, 1, False),
        (4, 3, True),  # 4 x 15
        (5, 3, False),  # 10 x 15
    ],
)
def test_every_order_is_tried_where_that_are_few_loads(models, count, is_tried):
    assert simulates(models, count) is is_tried


GPU = GpuDevice(3, "GPU-3", "", "nvidia", "L4", memory_total_bytes=24 * GIB, memory_free_bytes=20 * GIB)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (24 * GIB, 20 * GIB, "Vulkan")),
        # What Ollama holds now it gives back at its restart, but a GPU never has more than it has.
        ({"memory_ours_bytes": 3 * GIB}, (24 * GIB, 23 * GIB, "Vulkan")),
        ({"memory_ours_bytes": 9 * GIB}, (24 * GIB, 24 * GIB, "Vulkan")),
        ({"memory_total_bytes": None}, (0, 0, "Vulkan")),
    ],
)
def test_a_gpu_has_what_a_plan_may_count_on(changes, expected):
    gpu = scheduler_gpu(replace(GPU, **changes), "Vulkan")
    assert gpu.index == 3
    assert (gpu.total_bytes, gpu.free_bytes, gpu.library) == expected


SETTING = Candidate(1, 4096)


# The engine leaves 1024 MiB free of each GPU that it uses, the default of LLAMA_ARG_FIT_TARGET.
@pytest.mark.parametrize(
    ("gpus_mib", "name", "size_mib", "headroom_mib", "reason"),
    [
        ([4096], "a", 3072, 0, ""),
        ([4096], "a", 3073, 0, "a leaves 1.0 GiB of GPU 0 free, and 1.0 GiB are to stay free"),
        ([4096], "a", 2048, 1024, ""),
        ([4096], "a", 2049, 1024, "a leaves 2.0 GiB of GPU 0 free, and 2.0 GiB are to stay free"),
        ([4096], "a", 4097, 0, "a does not lie wholly in GPU memory: it is large"),
        ([4096], "a", -1, 0, "a does not start: it cannot be"),
        (
            [4096],
            "refitted",
            100,
            0,
            "the usual split of refitted over the GPUs does not fit, and the engine's other one may not last",
        ),
        # A GPU that nothing lies on need not have anything free.
        ([4096, 100], "a", 2000, 0, ""),
        ([100, 4096], "a", 3073, 0, "a leaves 1.0 GiB of GPU 1 free, and 1.0 GiB are to stay free"),
        # Without GPU it takes system memory, of which there are 1000 MiB.
        ([], "a", 1000, 0, ""),
        ([], "a", 1001, 0, "a needs 1.0 GiB of system memory, and 1.0 GiB are available"),
    ],
)
def test_what_is_not_safe_about_one_model_is_said(gpus_mib, name, size_mib, headroom_mib, reason):
    one = model(name)
    verdict = (
        simulation(gpus_mib, [one], headroom_mib=headroom_mib, **{name: size_mib}).alone(one, SETTING).verdict
    )
    assert (verdict.is_safe, verdict.order, verdict.reason) == (not reason, (name,), reason)


def test_the_most_that_a_model_takes_of_one_gpu_is_known_and_of_several_it_is_not():
    one = model("a", num_batch=256)
    peak = simulation([8192], [one], headroom_mib=100, a=2000).alone(one, SETTING).peak
    assert peak is not None
    assert (peak.used_bytes, peak.to_stay_free_bytes) == (2000 * MIB, 1124 * MIB)
    assert (peak.options.context_length, peak.options.parallel, peak.options.num_batch) == (4096, 1, 256)
    assert (peak.options.num_gpu, peak.options.main_gpu, peak.options.is_automatic_context) == (
        -1,
        None,
        False,
    )
    divided = Candidate(1, 4096, spread=True)
    assert simulation([8192, 8192], [one], a=2000).alone(one, divided).peak is None
    # Nor of a model that is bound to one of several.
    bound = model("a", main_gpu=0)
    assert simulation([8192, 8192], [bound], a=2000).alone(bound, SETTING).peak is None
    assert simulation([8192], [bound], a=2000).alone(bound, SETTING).peak is not None


A, B, C = (model(name) for name in "abc")


@pytest.mark.parametrize(
    ("gpu_mib", "in_order", "in_all_orders"),
    [
        (4024, "", ""),
        (4023, "c leaves 1.0 GiB of GPU 0 free", "c leaves 1.0 GiB of GPU 0 free"),
    ],
)
def test_models_are_loaded_one_after_the_other(gpu_mib, in_order, in_all_orders):
    found = simulation([gpu_mib], [A, B, C], a=500, b=1000, c=1500)
    server = found.server(SETTING)
    one = found.in_order(server, (A, B, C), ())
    every = found.in_all_orders(server, (A, B, C), ())
    assert one.reason.startswith(in_order)
    assert every.reason.startswith(in_all_orders)
    assert one.order == ("a", "b", "c")
    if in_order:
        assert one.reason.endswith(", when it is loaded after a, b")


def test_of_tags_of_one_file_the_one_that_takes_most_counts_and_large_files_come_first():
    small, large = model("small", 100), model("large", 300)
    short, long = (
        model(name, 200, key="x", num_ctx=num_ctx, prediction_bytes_per_token=10)
        for name, num_ctx in (("short", 1024), ("long", 8192))
    )
    found = simulation([8192], [small, short, long, large])
    assert [one.name for one in found.runners([small, short, long, large], SETTING)] == [
        "large",
        "long",
        "small",
    ]
    assert [one.name for one in found.runners([long, short], SETTING)] == ["long"]
    # One of them is loaded at a time: a projector counts for as much as the context that another tag has more.
    for projector_bytes, counts in ((10 * (8192 - 1024), "long"), (10 * (8192 - 1024) + 1, "short")):
        seeing = replace(short, projector_bytes=projector_bytes)
        assert [one.name for one in found.runners([long, seeing], SETTING)] == [counts]
    # Alike they come by name, and of tags that take as much the first stays.
    assert [one.name for one in found.runners([B, A], SETTING)] == ["a", "b"]
    twin = replace(long, name="twin")
    assert [one.name for one in found.runners([twin, long], SETTING)] == ["twin"]


def test_only_a_server_that_is_to_be_shown_tells_every_step():
    found = simulation([8192], [model("a")], a=10)
    assert (found.server(SETTING).tells, found.telling_server(SETTING).tells) == (False, True)


def test_what_ollama_predicts_is_the_file_and_its_tokens():
    one = model("a", prediction_bytes_per_token=10)
    assert simulation([8192], [one]).predicted_bytes(one, Candidate(3, 4096)) == 100 * MIB + 10 * 3 * 4096


def test_no_number_of_models_makes_the_server_evict():
    found = simulation([8192], [A, B, C], a=10, b=10, c=10)
    assert found.in_all_orders(found.server(SETTING), (A, B, C), ()).is_safe


def test_another_host_is_simulated_with_the_same_settings():
    one = model("a")
    small = simulation([4096], [one], headroom_mib=1024, a=2049)
    large = replace(
        small.host,
        gpus=(replace(small.host.gpus[0], memory_free_bytes=4097 * MIB, memory_total_bytes=4097 * MIB),),
    )
    assert not small.alone(one, SETTING).verdict.is_safe
    assert small.on(large).alone(one, SETTING).verdict.is_safe
    assert small.on(large).runner_overhead_bytes == 0


@pytest.mark.parametrize(
    ("pool_mib", "headroom_mib", "is_safe"),
    [(1300, 0, True), (1300 + 1 / MIB, 0, False), (1200, 100, True), (1200, 101, False), (0, 276, True), (0, 277, False)],
)
def test_what_models_take_while_they_compute_is_to_be_free_besides_the_headroom(
    pool_mib: float, headroom_mib: int, is_safe: bool
) -> None:
    # 4300 - 3000 MiB are free after the load, and the engine's fit leaves 1024 of that by itself.
    one = simulation([4300], [model("one")], one=3000, pool_mib=pool_mib, headroom_mib=headroom_mib)
    verdict = one.alone(one.models[0], Candidate(1, 4096)).verdict
    assert verdict.is_safe is is_safe
    assert is_safe or "free" in verdict.reason


def test_the_pools_of_all_models_on_a_gpu_count() -> None:
    def verdict(pool_mib):
        both = simulation([8200], [model("a"), model("b")], a=3000, b=3000, pool_mib=pool_mib)
        return both.in_order(both.server(Candidate(1, 4096)), both.models, ())

    assert verdict(1100).is_safe
    unsafe = verdict(1101)
    assert not unsafe.is_safe
    assert unsafe.reason == (
        "b leaves 2.1 GiB of GPU 0 free, and the engine's pools take up to 2.2 GiB there as the contexts fill, when it is "
        "loaded after a"
    )


def test_orders_with_the_same_beginning_share_its_loads(monkeypatch):
    simulated, loads = simulation([8000], [model(name) for name in "abc"], a=100, b=100, c=100), []
    possible_loads = Server.possible_loads

    def counted(server, loaded, request=None):
        loads.append((*server.loaded, loaded.name))
        return possible_loads(server, loaded, request)

    monkeypatch.setattr(Server, "possible_loads", counted)
    a, b, c = simulated.models
    server = simulated.server(Candidate(1, 4096))
    for order in ((a, b, c), (a, b), (a, c, b)):
        assert simulated.in_order(server, order, ()).is_safe
    assert simulated.in_all_orders(server, (a, b, c), ()).is_safe
    assert len(loads) == len(set(loads)) == loads_of_all_orders(3)
