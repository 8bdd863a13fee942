# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scheduler knows of a model, by its shape."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    Options,
    SchedulerGpu,
    SchedulerModel,
    by_library,
    effective_context,
    has_single_slot,
    predicted_bytes,
    prediction_bytes_per_token,
    scheduler_model,
    single_slot_models,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import rules
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

SHAPE = shape("llama3.1:8b")
MODEL = scheduler_model(SHAPE)


# PredictServerVRAM: 2 (keys and values) x layers x KV heads x head length x 2 bytes; the heads that are fewest and most.
@pytest.mark.parametrize(
    ("layers", "kv_heads", "embedding", "heads", "expected"),
    [
        (32, 8, 4096, 32, 2 * 32 * 8 * 128 * 2),
        (32, 0, 4096, 32, 2 * 32 * 1 * 128 * 2),
        (10, 3, 100, 3, 2 * 10 * 3 * 33 * 2),
        (32, 8, 4096, 0, 0),
    ],
)
def test_a_token_is_predicted_as_if_all_layers_were_alike(layers, kv_heads, embedding, heads, expected):
    assert prediction_bytes_per_token(layers, kv_heads, embedding, heads) == expected


@pytest.mark.parametrize(
    ("changes", "per_token"),
    [
        ({}, 2 * 32 * 8 * 128 * 2),
        # Ollama counts one KV head where the header has none, though the model has as many as heads.
        ({"numbers": {}}, 2 * 32 * 1 * 128 * 2),
        # The fewest KV heads and the most heads of any layer.
        (
            {"layers": (replace(SHAPE.layers[0], head_count_kv=2, head_count=64), *SHAPE.layers[1:])},
            2 * 32 * 2 * 64 * 2,
        ),
        ({"layers": (replace(SHAPE.layers[0], head_count_kv=16, head_count=8), *SHAPE.layers[1:])}, 2 * 32 * 8 * 128 * 2),
    ],
)
def test_the_heads_come_from_the_layers(changes, per_token):
    assert scheduler_model(replace(SHAPE, **changes)).prediction_bytes_per_token == per_token


def test_beside_the_file_lie_projector_and_adapters():
    plain = replace(MODEL, projector_bytes=7)
    assert replace(plain, shape=replace(SHAPE, adapter_bytes=8)).side_bytes == 15
    assert replace(plain, shape=None).side_bytes == 7


def test_models_that_answer_one_request_at_a_time_are_named_and_embeddings_are_not():
    plain, single = replace(MODEL, name="plain"), replace(MODEL, name="single", family="mllama")
    embedding = replace(MODEL, name="embedding", is_embedding=True)
    assert single_slot_models([plain, single, embedding], rules("0.33.0")) == ("single",)


PER_TOKEN = 2 * 32 * 8 * 128 * 2


@pytest.mark.parametrize(
    ("context", "slots", "tokens"),
    [(4096, 1, 4096), (4096, 3, 12288), (1 << 20, 1, 131072), (1 << 20, 2, 262144), (4096, 0, 4096)],
)
def test_the_prediction_is_the_file_and_every_token_it_was_trained_for(context, slots, tokens):
    for model in (SHAPE, MODEL):
        assert predicted_bytes(model, context, slots) == SHAPE.file_bytes + PER_TOKEN * tokens


@pytest.mark.parametrize(("trained", "context"), [(131072, 131072), (1 << 21, 1 << 20), (0, 1 << 20)])
def test_no_model_gets_more_context_than_it_was_trained_for_where_it_says_so(trained, context):
    assert effective_context(replace(MODEL, context_length_trained=trained), 1 << 20) == context


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"digest": "sha256-1"}, "key", "sha256-1"),
        ({"digest": ""}, "key", SHAPE.name),
        ({"projector_bytes": 5}, "projector_bytes", 5),
        ({"inline_projector_bytes": 7}, "projector_bytes", 7),
        ({"capabilities": ("completion", "vision")}, "is_vision", True),
        ({"capabilities": ("completion",)}, "is_vision", False),
        ({"capabilities": ("embedding",)}, "is_embedding", True),
        ({"num_ctx": 2048}, "num_ctx", 2048),
        ({"parameters": {"num_batch": 256}}, "num_batch", 256),
        ({"parameters": {"num_gpu": "0"}}, "num_gpu", 0),
        ({"parameters": {"main_gpu": 1}}, "main_gpu", 1),
        # Whatever is no whole number says nothing.
        ({"parameters": {"num_batch": True}}, "num_batch", None),
        ({"parameters": {"num_batch": "many"}}, "num_batch", None),
        ({"parameters": {"num_batch": 1.5}}, "num_batch", None),
        ({}, "main_gpu", None),
        # Digests tell side files apart; where there are none, sizes do.
        ({"parameters": {"side_files": ["sha256-1", "sha256-2"]}, "projector_bytes": 5}, "side_files", ("sha256-1", "sha256-2")),
        ({"parameters": {"side_files": []}, "projector_bytes": 5}, "side_files", ("projector of 5 bytes",)),
        ({"parameters": {"side_files": "sha256-1"}, "adapter_bytes": 7}, "side_files", ("adapter of 7 bytes",)),
        ({"projector_bytes": 5, "adapter_bytes": 7}, "side_files", ("adapter of 7 bytes", "projector of 5 bytes")),
        ({}, "side_files", ()),
    ],
)
def test_what_is_known_of_a_model(changes, field, value):
    assert getattr(scheduler_model(replace(SHAPE, **changes)), field) == value


@pytest.mark.parametrize(
    ("changes", "version", "has_one"),
    [
        ({}, "0.33.0", False),
        ({"is_embedding": True}, "0.33.0", True),
        ({"family": "mllama"}, "0.33.0", True),
        # server/sched.go names it from 0.17.1 on.
        ({"family": "qwen35"}, "0.17.1", True),
        ({"family": "qwen35"}, "0.17.0", False),
    ],
)
def test_some_models_get_one_slot(changes, version, has_one):
    assert has_single_slot(replace(MODEL, **changes), rules(version)) is has_one


def test_the_context_of_all_slots_is_theirs_together():
    assert Options(4096, False, 3, None, -1, None).total_context == 12288


def test_of_a_gpu_nothing_is_taken_for_granted_but_that_it_is_nvidias():
    assert vars(SchedulerGpu(1, 2, 3)) == {
        "index": 1,
        "total_bytes": 2,
        "free_bytes": 3,
        "library": "CUDA",
        "integrated": False,
        "compute_capability": None,
    }


def test_gpus_are_grouped_by_library_in_their_order():
    gpus = [SchedulerGpu(9 - position, 1, 1, library) for position, library in enumerate("ABACB")]
    assert by_library(gpus) == [[0, 2], [1, 4], [3]]


def test_of_a_model_nothing_is_taken_for_granted():
    plain = SchedulerModel("a", "b", 1, 2, 3, 4)
    assert {name for name, value in vars(plain).items() if value} == {
        "name",
        "key",
        "file_bytes",
        "prediction_bytes_per_token",
        "context_length_trained",
        "block_count",
    }
