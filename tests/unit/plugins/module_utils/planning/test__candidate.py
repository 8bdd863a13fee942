# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables that give Ollama the values of a plan."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import (
    PLANNED_VARIABLES,
    Candidate,
)

PLAIN = {"OLLAMA_NUM_PARALLEL": "2", "OLLAMA_MAX_LOADED_MODELS": "3", "OLLAMA_CONTEXT_LENGTH": "8192"}
# A quantised cache needs flash attention: Ollama up to 0.24 ignores the type without it, the engine later refuses it.
QUANTISED = {"OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": "1"}


@pytest.mark.parametrize(
    ("candidate", "environment"),
    [
        (Candidate(2, 8192), PLAIN),
        (Candidate(2, 8192, "q8_0"), {**PLAIN, **QUANTISED}),
        (Candidate(2, 8192, spread=True), {**PLAIN, "OLLAMA_SCHED_SPREAD": "1"}),
    ],
)
def test_what_is_ollamas_default_is_left_out(candidate, environment):
    assert candidate.environment(3) == environment
    assert set(environment) <= {*PLANNED_VARIABLES, "OLLAMA_FLASH_ATTENTION"}
