# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama decides before it starts a model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    Options,
    SchedulerGpu,
    SchedulerModel,
    effective_context,
    predicted_bytes,
    prediction_bytes_per_token,
    scheduler_model,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._placement import (
    Decision,
    View,
    decide,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._placement_rules import (
    BatchStep,
    PlacementRules,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, HEADERS, header, shape
from hypothesis import given
from hypothesis import strategies as st

GIB = 1 << 30
MIB = 1 << 20
RECORDED_MODELS = json.loads((DATA / "ollama_scheduler_models.json").read_text())

# Predicts 4 GiB of file and 1 GiB for each 8192 tokens.
MODEL = SchedulerModel(
    name="m",
    key="sha256-m",
    file_bytes=4 * GIB,
    prediction_bytes_per_token=GIB // 8192,
    context_length_trained=131072,
    block_count=32,
)


def options(context_length: int = 4096, parallel: int = 1, **changes: object) -> Options:
    given_options = Options(
        context_length=context_length,
        is_automatic_context=False,
        parallel=parallel,
        num_batch=None,
        num_gpu=-1,
        main_gpu=None,
    )
    return replace(given_options, **changes)


def gpu(free_gib: float, library: str = "CUDA", *, integrated: bool = False) -> SchedulerGpu:
    return SchedulerGpu(0, int(free_gib * GIB), int(free_gib * GIB), library, integrated)


def decided(gpus: list[SchedulerGpu], model: SchedulerModel = MODEL, **changes: object) -> Decision:
    asked = changes.pop("options", options())
    rules = changes.pop("rules", PlacementRules())
    view = View(gpus, [one.free_bytes for one in gpus], changes.pop("system_free_bytes", 64 * GIB))
    settings = {
        "others_loaded": False,
        "spread": False,
        "flash_attention": "auto",
        **changes,
    }
    return decide(model, asked, view, rules, **settings)


@pytest.mark.parametrize("tag", sorted(RECORDED_MODELS))
def test_the_prediction_per_token_follows_from_a_models_numbers(tag: str) -> None:
    facts = RECORDED_MODELS[tag]
    path = HEADERS / f"{tag.replace(':latest', '').replace(':', '_')}.json"
    kv_heads = min(facts["kv"]) if isinstance(facts["kv"], list) else facts["kv"]
    per_token = prediction_bytes_per_token(facts["blocks"], kv_heads, facts["emb"], facts["heads"])
    assert per_token == 4 * facts["blocks"] * max(kv_heads, 1) * (facts["emb"] // facts["heads"])
    if path.exists():
        assert scheduler_model(shape(path.stem)).prediction_bytes_per_token == per_token


def test_a_model_without_heads_is_predicted_by_its_file() -> None:
    assert prediction_bytes_per_token(12, 0, 768, 0) == 0


def test_ollama_predicts_its_own_numbers_for_gemma3() -> None:
    gemma3 = shape("gemma3:4b")
    per_token = 2 * 34 * 4 * (2560 // 8) * 2
    assert predicted_bytes(gemma3, 4096, 3) == gemma3.file_bytes + per_token * 4096 * 3
    assert predicted_bytes(gemma3, 10**9, 1) == gemma3.file_bytes + per_token * 131072


def test_parameters_of_the_modelfile_reach_the_scheduler() -> None:
    llama = header("llama3.1:8b")
    parameters = {"num_batch": "64", "num_gpu": 20, "main_gpu": 1, "temperature": 0.5}
    model = scheduler_model(shape_from_header(llama, name="m", num_ctx=2048, parameters=parameters))
    assert (model.num_ctx, model.num_batch, model.num_gpu, model.main_gpu) == (2048, 64, 20, 1)
    odd = scheduler_model(
        shape_from_header(llama, name="m", parameters={"num_batch": "many", "num_gpu": True})
    )
    assert (odd.num_batch, odd.num_gpu) == (None, None)


def test_the_context_is_never_longer_than_trained() -> None:
    assert effective_context(MODEL, 10**9) == 131072
    assert effective_context(MODEL, 4096) == 4096
    assert effective_context(replace(MODEL, context_length_trained=0), 10**9) == 10**9


@pytest.mark.parametrize(
    ("gpus", "changes", "placement", "is_alone"),
    [
        pytest.param([], {}, (), False, id="no GPU: the CPU"),
        pytest.param([gpu(24)], {"options": options(num_gpu=0)}, (), False, id="num_gpu 0: the CPU"),
        pytest.param([gpu(1)], {}, (0,), False, id="one GPU takes it whatever is free"),
        pytest.param([gpu(24)], {}, (0,), False, id="one GPU is not picked"),
        pytest.param([gpu(24), gpu(24)], {}, (0,), True, id="equal GPUs: the first"),
        pytest.param([gpu(12), gpu(24)], {}, (1,), True, id="the most free memory"),
        pytest.param([gpu(5), gpu(5)], {}, (0, 1), False, id="none has 80 % room: all"),
        pytest.param([gpu(24), gpu(24)], {"spread": True}, (0, 1), False, id="spread: all"),
        pytest.param([gpu(24), gpu(96, integrated=True)], {}, (0,), True, id="discrete before integrated"),
        pytest.param(
            [gpu(5), gpu(24, integrated=True)], {}, (1,), True, id="integrated if no discrete one fits"
        ),
        pytest.param(
            [gpu(24, integrated=True), gpu(20, integrated=True)],
            {"system_free_bytes": 8 * GIB},
            (0,),
            True,
            id="an integrated GPU has no more than the system",
        ),
        pytest.param(
            [gpu(5), gpu(4, "ROCm"), gpu(4, "ROCm")], {}, (1, 2), False, id="the library with the most memory"
        ),
        pytest.param([gpu(5), gpu(5, "ROCm")], {}, (0,), False, id="of equal libraries the first"),
        pytest.param(
            [gpu(3), gpu(96, "Vulkan", integrated=True)],
            {"system_free_bytes": 4 * GIB},
            (0,),
            False,
            id="a library with a discrete GPU first",
        ),
        pytest.param([gpu(24), gpu(24)], {"options": options(main_gpu=1)}, (1,), True, id="main_gpu"),
        pytest.param(
            [gpu(24), gpu(24)],
            {"options": options(main_gpu=5)},
            (0, 1),
            False,
            id="a main_gpu that is not there",
        ),
        pytest.param(
            [gpu(1), gpu(24)], {"options": options(main_gpu=0)}, (0,), True, id="main_gpu wins without room"
        ),
        pytest.param(
            [gpu(24), gpu(24)], {"options": options(main_gpu=2)}, (0, 1), False, id="main_gpu counts from 0"
        ),
        pytest.param([gpu(24), gpu(24)], {"options": options(main_gpu=-1)}, (0, 1), False, id="and not back"),
        pytest.param(
            [gpu(12), gpu(24), gpu(16, "ROCm"), gpu(16, "ROCm")],
            {"options": options(main_gpu=0)},
            (2,),
            True,
            id="main_gpu is one of each library, and of these the most free memory counts",
        ),
    ],
)
def test_where_a_model_goes(
    gpus: list[SchedulerGpu], changes: dict[str, object], placement: tuple[int, ...], is_alone: bool
) -> None:
    decision = decided(gpus, **changes)
    assert (decision.placement, decision.is_alone) == (placement, is_alone)


@pytest.mark.parametrize(
    ("total_context", "free_gib", "batch"),
    [
        (4096, 100, 512),
        (4097, 100, 1024),
        (32768, 100, 1024),
        (32769, 100, 2048),
        # 4 GiB + 1 GiB are within 75 % of 6.7 GiB, but with 768 MiB more beyond 80 %.
        (8192, 6.7, 512),
        (8192, 7.2, 1024),
        # 9 GiB are more than 60 % of 14 GiB and no more than 75 % of it.
        (40960, 14, 1024),
        (40960, 16, 2048),
        (40960, 12, 512),
        (40960, 10, 512),
    ],
)
def test_the_batch_grows_with_the_context_where_there_is_room(
    total_context: int, free_gib: float, batch: int
) -> None:
    assert decided([gpu(free_gib)], options=options(total_context)).batch == batch


@pytest.mark.parametrize(
    ("file_gib", "total_context", "least_free_gib", "batch", "smaller"),
    [
        pytest.param(4, 8192, 7.1875, 1024, 512, id="5 GiB and 768 MiB within 80 %"),
        pytest.param(4, 65536, 16, 1024, 512, id="12 GiB within 75 %"),
        pytest.param(4, 40960, 15, 2048, 1024, id="9 GiB within 60 %"),
        pytest.param(0, 40960, 8.75, 2048, 1024, id="5 GiB and 2 GiB within 80 %"),
    ],
)
def test_a_batch_needs_its_share_of_the_free_memory_to_the_byte(
    file_gib: int, total_context: int, least_free_gib: float, batch: int, smaller: int
) -> None:
    model, asked = replace(MODEL, file_bytes=file_gib * GIB), options(total_context)
    enough = gpu(least_free_gib)
    assert decided([enough], model, options=asked).batch == batch
    assert decided([replace(enough, free_bytes=enough.free_bytes - 1)], model, options=asked).batch == smaller


@pytest.mark.parametrize(("free_gib", "file_gib", "batch"), [(1, 0, 2048), (0, 4, 2048), (1, 4, 512)])
def test_the_batch_is_large_where_ollama_knows_of_no_size_or_of_no_memory(
    free_gib: int, file_gib: int, batch: int
) -> None:
    model = replace(MODEL, file_bytes=file_gib * GIB, prediction_bytes_per_token=0)
    assert decided([gpu(free_gib)], model, options=options(40960)).batch == batch


def test_a_model_goes_onto_one_gpu_and_beside_others_within_80_percent_to_the_byte() -> None:
    enough = gpu(5.625)  # of which 80 % are the 4.5 GiB that are predicted
    short = replace(enough, free_bytes=enough.free_bytes - 1)
    for one, placement in ((enough, (0,)), (short, (0, 1))):
        assert decided([one, one]).placement == placement
        assert decided([one], others_loaded=True).must_evict is (one is short)


def test_an_integrated_gpu_has_all_that_is_free_where_the_systems_memory_is_not_known() -> None:
    shared = gpu(8, integrated=True)
    assert View([shared], [shared.free_bytes]).available_bytes(0) == 8 * GIB
    assert View([shared, shared], [shared.free_bytes] * 2).available_to((0, 1)) == 16 * GIB


def test_the_batch_depends_on_all_slots_together() -> None:
    assert decided([gpu(100)], options=options(4096, parallel=3)).batch == 1024


@pytest.mark.parametrize(
    ("free_gib", "library", "total_context", "batch"),
    [
        (24, "CUDA", 32768, 512),
        (8, "CUDA", 32768, 256),
        (8 + 1 / GIB, "CUDA", 32768, 512),
        (8, "CUDA", 4097, 256),
        (8, "CUDA", 4096, 512),
        (24, "ROCm", 32768, 1024),
    ],
)
def test_without_flash_attention_cuda_keeps_a_small_batch(
    free_gib: float, library: str, total_context: int, batch: int
) -> None:
    decision = decided([gpu(free_gib, library)], options=options(total_context), flash_attention="off")
    assert decision.batch == batch


@pytest.mark.parametrize(
    ("num_batch", "context_length", "batch"), [(None, 8192, 2048), (None, 512, 512), (64, 8192, 64)]
)
def test_an_embedding_model_computes_its_context_at_once_up_to_a_limit(
    num_batch: int | None, context_length: int, batch: int
) -> None:
    model = replace(MODEL, is_embedding=True)
    decision = decided([gpu(24)], model, options=options(context_length, num_batch=num_batch))
    assert decision.batch == batch
    assert decision.predicted_bytes == predicted_bytes(model, context_length, 1)


@pytest.mark.parametrize(("num_batch", "surcharge"), [(64, 0), (1024, 768 * MIB), (4096, 2 * GIB)])
def test_an_explicit_batch_is_taken_and_charged_for(num_batch: int, surcharge: int) -> None:
    decision = decided([gpu(24)], options=options(num_batch=num_batch))
    assert decision.batch == num_batch
    assert decision.predicted_bytes == predicted_bytes(MODEL, 4096, 1) + surcharge


@pytest.mark.parametrize(
    ("free_gib", "others_loaded", "changes", "must_evict"),
    [
        (5, False, {}, False),
        (5, True, {}, True),
        (5.7, True, {}, False),
        (5, True, {"options": options(num_gpu=1)}, False),
        (5, True, {"options": options(num_gpu=32)}, False),
        (5, True, {"options": options(num_gpu=33)}, True),
        (5, True, {"options": options(num_gpu=0)}, False),
    ],
)
def test_a_model_beside_others_must_be_within_80_percent(
    free_gib: float, others_loaded: bool, changes: dict[str, object], must_evict: bool
) -> None:
    assert decided([gpu(free_gib)], others_loaded=others_loaded, **changes).must_evict is must_evict


@pytest.mark.parametrize(
    ("free_gib", "architecture", "changes", "on_gpu"),
    [
        (24, "gemma3", {}, True),
        (1.78125, "gemma3", {}, True),
        (1.78, "gemma3", {}, False),
        (1.5, "gemma3n", {}, True),
        (24, "gemma3", {"options": options(num_gpu=4)}, False),
        (24, "gemma3", {"options": options(num_gpu=0)}, False),
    ],
)
def test_a_projector_needs_a_gibibyte_beside_it(
    free_gib: float, architecture: str, changes: dict[str, object], on_gpu: bool
) -> None:
    model = replace(MODEL, projector_bytes=800 * MIB, architecture=architecture)
    assert decided([gpu(free_gib)], model, **changes).projector_on_gpu is on_gpu


@pytest.mark.parametrize("total_bytes", [24 * GIB, 0])
def test_a_gpu_that_claims_no_free_memory_is_taken_at_its_size_and_one_without_a_size_for_large(total_bytes: int) -> None:
    model = replace(MODEL, projector_bytes=800 * MIB)
    full = SchedulerGpu(0, total_bytes, 0)
    assert decided([full], model).projector_on_gpu
    assert decided([full], flash_attention="off", options=options(8192)).batch == 512


@pytest.mark.parametrize(
    ("total_bytes", "free_bytes", "usable_bytes"),
    [(24, 0, 24), (24, 10, 10), (24, 24, 24), (8, 10, 8), (1, 10, 1), (0, 10, 10), (24, 1, 1)],
)
def test_what_is_taken_for_a_gpus_memory_is_what_is_free_but_no_more_than_there_is(
    total_bytes: int, free_bytes: int, usable_bytes: int
) -> None:
    assert View([SchedulerGpu(0, total_bytes, free_bytes)], [free_bytes]).usable_bytes(0) == usable_bytes


@pytest.mark.parametrize(("system", "alone", "both"), [(0, 50, 115), (1, 1, 16), (99, 50, 114), (100, 50, 115)])
def test_integrated_gpus_have_together_what_the_system_has_free(system: int, alone: int, both: int) -> None:
    on = [SchedulerGpu(index, 100, 50, "CUDA", index < 2) for index in range(3)]
    view = View(on, (50, 50, 15), system)
    assert (view.available_bytes(0), view.available_bytes(2)) == (alone, 15)
    assert view.available_to((0, 1, 2)) == both


@given(
    st.lists(st.integers(0, 96), min_size=1, max_size=8),
    st.integers(1, 10**6),
    st.integers(1, 32),
    st.booleans(),
)
def test_a_model_goes_to_one_gpu_or_to_all(
    free_gib: list[int], context_length: int, parallel: int, others_loaded: bool
) -> None:
    gpus = [gpu(free) for free in free_gib]
    decision = decided(gpus, options=options(context_length, parallel), others_loaded=others_loaded)
    assert len(decision.placement) in (1, len(gpus))
    assert decision.batch in (512, 1024, 2048)
    assert decision.must_evict == (
        others_loaded and decision.predicted_bytes > decision.available_bytes * 80 // 100
    )
    if decision.is_alone:
        assert decision.available_bytes == max(free_gib) * GIB


SMALL_STEP = BatchStep(768, above_context=4096, within_percent=90, surcharge_bytes=0)


@pytest.mark.parametrize(
    ("figures", "what", "usual", "changed", "host"),
    [
        # 4.5 GiB are predicted.
        ({"load_percent": 100}, "must_evict", True, False, {"gib": 5, "others_loaded": True}),
        ({"load_percent": 50}, "is_alone", True, False, {"gib": 6, "count": 2}),
        ({"default_batch": 300}, "batch", 512, 300, {"gib": 24}),
        ({"batch_steps": (SMALL_STEP,)}, "batch", 1024, 768, {"gib": 24, "context": 8192}),
        ({"batch_steps": ()}, "predicted_bytes", 5 * GIB + 768 * MIB, 5 * GIB, {"gib": 24, "context": 8192}),
        ({"constrained_batch": 64}, "batch", 256, 64, {"gib": 6, "context": 8192, "flash": "off"}),
        ({"constrained_context": 9000}, "batch", 256, 512, {"gib": 6, "context": 8192, "flash": "off"}),
        ({"constrained_gpu_bytes": 5 * GIB}, "batch", 256, 512, {"gib": 6, "context": 8192, "flash": "off"}),
        ({"embedding_batch": 100}, "batch", 2048, 100, {"gib": 24, "is_embedding": True}),
        (
            {"projector_headroom_bytes": 6 * GIB},
            "projector_on_gpu",
            True,
            False,
            {"gib": 6, "projector": GIB},
        ),
    ],
)
def test_each_figure_is_the_versions_own(
    figures: dict[str, object], what: str, usual: object, changed: object, host: dict[str, object]
) -> None:
    model = replace(
        MODEL, is_embedding=host.get("is_embedding", False), projector_bytes=host.get("projector", 0)
    )
    asked = options(host.get("context", 4096))
    gpus = [gpu(host["gib"]) for _unused in range(host.get("count", 1))]
    seen = [
        getattr(
            decided(
                gpus,
                model,
                options=asked,
                rules=rules,
                others_loaded=host.get("others_loaded", False),
                flash_attention=host.get("flash", "auto"),
            ),
            what,
        )
        for rules in (PlacementRules(), replace(PlacementRules(), **figures))
    ]
    assert seen == [usual, changed]
