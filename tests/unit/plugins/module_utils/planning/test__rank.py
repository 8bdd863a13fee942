# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is better than what, criterion by criterion."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._rank import Choice, rank

IN_ORDER = ("b", "a")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        # Each criterion by itself.
        (Choice(Candidate(2, 4096), 1), Choice(Candidate(1, 4096), 1)),
        (Choice(Candidate(1, 4096), 2), Choice(Candidate(1, 4096), 2, IN_ORDER)),
        (Choice(Candidate(1, 4096), 2), Choice(Candidate(1, 4096), 1)),
        (Choice(Candidate(1, 8192), 1), Choice(Candidate(1, 4096), 1)),
        (Choice(Candidate(1, 4096, "f16"), 1), Choice(Candidate(1, 4096, "q8_0"), 1)),
        (Choice(Candidate(1, 4096, "q8_0"), 1), Choice(Candidate(1, 4096, "q4_0"), 1)),
        (Choice(Candidate(1, 4096), 1), Choice(Candidate(1, 4096, spread=True), 1)),
        # Each against all that come after it.
        (Choice(Candidate(2, 4096, "q4_0", spread=True), 1, IN_ORDER), Choice(Candidate(1, 262144), 9)),
        (Choice(Candidate(1, 4096, "q4_0", spread=True), 1), Choice(Candidate(1, 262144), 9, IN_ORDER)),
        (Choice(Candidate(1, 4096, "q4_0", spread=True), 2), Choice(Candidate(1, 262144), 1)),
        (Choice(Candidate(1, 8192, "q4_0", spread=True), 1), Choice(Candidate(1, 4096), 1)),
        (Choice(Candidate(1, 4096, "f16", spread=True), 1), Choice(Candidate(1, 4096, "q8_0"), 1)),
    ],
)
def test_requests_come_first_then_any_order_then_models_then_context_then_cache_then_whole_models(better, worse):
    assert rank(better) > rank(worse)
