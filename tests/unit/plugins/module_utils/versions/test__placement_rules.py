# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures by which Ollama places models."""

from __future__ import annotations

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
