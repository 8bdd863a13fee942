# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark was measured on, and everything that can have changed since."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._conditions import (
    Conditions,
    Gpu,
    conditions_of,
    of_any_such_host,
    why_not,
)

CARD = "NVIDIA GeForce RTX 3060"
MEASURED = Conditions(
    gpus=(Gpu(CARD, "GPU-1"),),
    driver_version="570.1",
    ollama_version="0.33.0",
    models={"gemma3:4b": "sha256-aa"},
    context_length=8192,
    kv_cache_type="f16",
)


def test_what_is_the_same_holds():
    assert why_not(MEASURED, MEASURED) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gpus": (Gpu(CARD, "GPU-2"),)}, "GPU GPU-1"),
        ({"gpus": (Gpu(CARD, "GPU-1"), Gpu(CARD, "GPU-2"))}, "now they are 2 x"),
        ({"gpus": ()}, "GPU GPU-1"),
        ({"driver_version": "580.1"}, "the driver was 570.1, now it is 580.1"),
        ({"ollama_version": "0.34.0"}, "Ollama was 0.33.0, now it is 0.34.0"),
        ({"kv_cache_type": "q8_0"}, "the KV cache was f16, now it is q8_0"),
        ({"context_length": 4096}, "the context length was 8192, now it is 4096"),
        ({"models": {"gemma3:4b": "sha256-bb"}}, "gemma3:4b has changed (sha256-aa, now sha256-bb)"),
        ({"models": {"qwen3:8b": "sha256-aa"}}, "qwen3:8b is planned and was not measured"),
    ],
)
def test_what_has_changed_is_named(change, said):
    reasons = why_not(MEASURED, replace(MEASURED, **change))
    assert len(reasons) == 1
    assert said in reasons[0]


def test_fewer_planned_models_than_measured_are_fine():
    assert why_not(replace(MEASURED, models={"gemma3:4b": "sha256-aa", "other": "x"}), MEASURED) == []


def test_for_any_such_host_names_count_and_uuids_do_not():
    group = of_any_such_host(MEASURED)
    assert why_not(group, replace(MEASURED, gpus=(Gpu(CARD, "GPU-9"),))) == []
    assert why_not(group, replace(MEASURED, gpus=(Gpu("NVIDIA L4", "GPU-9"),))) == [
        f"the GPUs were 1 x {CARD}, now they are 1 x NVIDIA L4"
    ]
    assert why_not(group, replace(MEASURED, gpus=())) == [f"the GPUs were 1 x {CARD}, now they are none"]


def test_conditions_survive_json():
    assert Conditions.from_dict(MEASURED.to_dict()) == MEASURED


@pytest.mark.parametrize(
    "change",
    [
        {"gpus": "GPU-1"},
        {"gpus": [{}]},
        {"gpus": ["GPU-1"]},
        {"models": []},
        {"context_length": "8192"},
        {"context_length": True},
        {"kv_cache_type": None},
    ],
)
def test_what_is_not_in_the_form_is_refused(change):
    with pytest.raises(ValueError, match="conditions"):
        Conditions.from_dict({**MEASURED.to_dict(), **change})


def test_conditions_are_read_from_facts():
    facts = {"driver_version": "570.1", "devices": [{"name": CARD, "uuid": "GPU-1", "memory_total_bytes": 1}]}
    models = [{"name": "gemma3:4b", "digest": "sha256-aa"}, {"name": "other", "digest": "sha256-cc"}]
    found = conditions_of(
        facts, models, ["gemma3:4b"], ollama_version="0.33.0", context_length=8192, kv_cache_type="f16"
    )
    assert found == MEASURED
