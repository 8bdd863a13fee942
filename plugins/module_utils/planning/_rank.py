# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes one safe choice of settings better than another: the objective of planning."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._candidate import Candidate
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import KV_CACHE_TYPES


@dataclass(frozen=True)
class Choice:
    """Settings with the number of models that are safe together under them.

    `order`: the names in the order in which they must be loaded; empty where every order is safe.
    """

    candidate: Candidate
    loaded: int
    order: tuple[str, ...] = ()


def rank(choice: Choice) -> tuple[int, bool, int, int, int, bool]:
    """How good a safe choice is: the objective of the whole search, the most important first.

    All wanted models loaded together is what every choice has. Then: requests served at once (the search
    tries no more than are asked for); no order of loading to keep; models loaded at once; context length;
    the better KV cache type; models not divided over GPUs.
    """
    return (
        choice.candidate.parallel,
        not choice.order,
        choice.loaded,
        choice.candidate.context_length,
        -KV_CACHE_TYPES.index(choice.candidate.kv_cache_type),
        not choice.candidate.spread,
    )
