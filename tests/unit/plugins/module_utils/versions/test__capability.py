# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CUDA's compute capability as drivers and descriptions write it."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._capability import capability_of


@pytest.mark.parametrize(
    ("text", "capability"),
    [("8.6", (8, 6)), ("12.0", (12, 0)), ("7.10", (7, 10))]
    + [(text, None) for text in (None, "", "8", "8.", "sm_86", "8.6.1", " 8.6", "\u0668.\u0666", "1234.0")],
)
def test_a_compute_capability_is_two_numbers_or_not_told(text: str | None, capability: tuple[int, int] | None) -> None:
    assert capability_of(text) == capability
