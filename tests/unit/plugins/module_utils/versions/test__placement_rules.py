# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures by which Ollama places models."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._placement_rules import PlacementRules

MIB = 1 << 20


@pytest.mark.parametrize(
    ("batch", "surcharge_mib"),
    [(64, 0), (512, 0), (1023, 0), (1024, 768), (2047, 768), (2048, 2048), (8192, 2048)],
)
def test_ollama_adds_to_its_prediction_for_a_large_batch(batch: int, surcharge_mib: int) -> None:
    assert PlacementRules().surcharge_bytes(batch) == surcharge_mib * MIB


def test_the_largest_batch_stands_first() -> None:
    steps = PlacementRules().batch_steps
    assert list(steps) == sorted(steps, key=lambda step: -step.batch)


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("load_percent", 80),
        ("default_batch", 512),
        ("constrained_batch", 256),
        ("constrained_context", 4096),
        ("constrained_gpu_bytes", 8192 * MIB),
        ("embedding_batch", 2048),
        ("projector_headroom_bytes", 1024 * MIB),
        ("projector_above_bytes", 0),
        ("projector_on_integrated", True),
        ("projector_pads_fit", True),
        ("fit_target_bytes", 1024 * MIB),
        ("models_per_gpu", 3),
        ("lower_contexts", (32768, 4096)),
    ],
)
def test_the_figures_are_those_of_0_33(figure: str, value: object) -> None:
    """As they stand in Ollama's server/sched.go and llm/llama_server.go, and in llama.cpp's common/common.h."""
    assert getattr(PlacementRules(), figure) == value


@pytest.mark.parametrize(("percent", "available", "limit"), [(80, 10, 8), (80, 9, 7), (55, 1000, 550), (100, 7, 7)])
def test_a_model_loads_beside_others_within_a_share_of_what_is_available(percent: int, available: int, limit: int) -> None:
    assert replace(PlacementRules(), load_percent=percent).load_limit_bytes(available) == limit


def test_the_batch_steps_are_those_of_0_33() -> None:
    """Batch, above which context, within which share, and what is added, in MiB."""
    steps = [
        (step.batch, step.above_context, step.within_percent, step.surcharge_bytes // MIB)
        for step in PlacementRules().batch_steps
    ]
    assert steps == [(2048, 32768, 60, 2048), (1024, 4096, 75, 768)]
