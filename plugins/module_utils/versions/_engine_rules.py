# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine of each build does, as far as memory is concerned, from one row for each change between builds."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    MEASURED,
    EngineBuild,
    Standing,
    neighbours,
)


@dataclass(frozen=True)
class EngineRules:
    """What an engine does where builds differ; as it stands here: as b10488 does.

    keeps_experts: what the experts made and their weights live until they are added up. keeps_routing: all that the
    choice of experts is made of lives until they are chosen. groups_shared_expert: the first half of the shared expert
    runs right after that of the chosen ones. clamps_apart: a clamped value is a result of its own. projects_flat: Mamba 2
    projects rows of tokens, not of slots. copies_time_step: Mamba's time step is copied. turns_whole_query: queries of an
    uncompressed latent attention are turned in one piece. caches_predictions: blocks that only predict further tokens
    have a cache. takes_mixed_batches: a batch may hold tokens and embeddings. hands_over_at_once: however much a GPU is
    handed before it runs, it waits for all of it. gathers_once: the states of all slots are read at once.
    allocates_workspaces: those of cuBLAS are its own. wants_even_batches: some architectures abort on a batch that slots
    cannot share evenly. turns_flash_on: a quantised cache turns flash attention on where that is left to the engine, which
    refuses it otherwise. turns_in_place, counts_rows_together: a compressing attention turns the last elements of a row where
    they lie, and counts the rows that a batch makes for all slots together. allows_for_change: not known, so that what it
    takes is a bound.
    """

    keeps_experts: bool = False
    keeps_routing: bool = False
    groups_shared_expert: bool = False
    clamps_apart: bool = False
    projects_flat: bool = False
    copies_time_step: bool = False
    turns_whole_query: bool = False
    caches_predictions: bool = True
    takes_mixed_batches: bool = False
    hands_over_at_once: bool = False
    gathers_once: bool = False
    allocates_workspaces: bool = False
    wants_even_batches: bool = False
    turns_flash_on: bool = True
    turns_in_place: bool = False
    counts_rows_together: bool = False
    allows_for_change: bool = False


AS_FIRST_READ = EngineRules()


@dataclass(frozen=True)
class Change:
    """What the engine does since some build: surely not in `absent` and before, surely in `present` and later."""

    name: str
    absent: int
    present: int

    def holds(self, number: int, *, in_doubt: bool) -> bool:
        if number <= self.absent:
            return False
        return True if number >= self.present else in_doubt


# Source: llama.cpp at these builds: ggml/src/ggml-cuda/ggml-cuda.cu, ggml_backend_cuda_graph_optimize (fusions);
# ggml/src/ggml.c, ggml_clamp; src/models/mamba-base.cpp; src/models/deepseek2.cpp; src/llama-model.cpp, create_memory;
# src/llama-graph.cpp, build_inp_embd and build_rs; ggml/src/ggml-backend.cpp, ggml_backend_sched_split_graph;
# src/llama-context.cpp, llama_init_from_model.
CHANGES = (
    Change("turns_flash_on", 10068, 10091),
    Change("clamps_apart", 10488, 10630),
    Change("projects_flat", 10488, 10630),
    Change("turns_whole_query", 10488, 10630),
    Change("turns_in_place", 10488, 10630),
    Change("counts_rows_together", 10488, 10630),
    Change("keeps_experts", 10739, 10752),
    Change("hands_over_at_once", 10760, 10865),
    Change("drops_prediction_caches", 10865, 10941),
    Change("keeps_routing", 11117, 11149),
    Change("copies_time_step", 10970, 11218),
    Change("wants_even_batches", 10970, 11218),
    Change("allocates_workspaces", 10488, 10630),
    Change("groups_shared_expert", 11349, 11378),
    Change("takes_mixed_batches", 11393, 11401),
    Change("gathers_once", 11218, 11434),
)
_BY_NAME = {change.name: change for change in CHANGES}
# What a backend no longer does under GGML_CUDA_DISABLE_FUSION.
FUSIONS = ("keeps_experts", "keeps_routing", "groups_shared_expert")
# What changes no row, only whether there is one.
REFUSALS = ("turns_flash_on", "wants_even_batches")


def standing_of(build: EngineBuild) -> tuple[Standing, tuple[EngineBuild, ...]]:
    """How far the rules of a build are known, and the measured builds that they rest on."""
    before, after = neighbours(build)
    if not build.is_read or before is None:
        return Standing.ESTIMATE, tuple(one for one in (before or MEASURED[0],) if one)
    if before.number in (build.number, build.number + 1):
        return Standing.MEASURED, (before,)
    if after is not None and _rows_are_equal(before, after):
        return Standing.INHERITED, (before, after)
    return Standing.ESTIMATE, (before,)


def _rows_are_equal(one: EngineBuild, other: EngineBuild) -> bool:
    same = dict.fromkeys(REFUSALS, False)
    return replace(_rules(one.number), **same) == replace(_rules(other.number), **same)


@lru_cache(maxsize=256)
def _rules(number: int, fuses: bool = True, allows_for_change: bool = False) -> EngineRules:
    def holds(name: str) -> bool:
        return _BY_NAME[name].holds(number, in_doubt=True) and (fuses or name not in FUSIONS)

    names = [name for name in _BY_NAME if name != "drops_prediction_caches"]
    drops = _BY_NAME["drops_prediction_caches"].holds(number, in_doubt=False)
    return EngineRules(
        caches_predictions=not drops,
        allows_for_change=allows_for_change,
        **{name: holds(name) for name in names},
    )


@lru_cache(maxsize=256)
def engine_rules(build: EngineBuild, *, fuses: bool = True) -> EngineRules:
    """What an engine of that build does; fuses: its CUDA backend runs several operations as one where it can.

    A build that is not known goes by the one that stands for it, and what it takes is a bound.
    """
    return _rules(build.number, fuses, standing_of(build)[0] is Standing.ESTIMATE)


def rules_name(build: EngineBuild, version: object) -> str:
    """By which rules a version of Ollama is planned, e.g. `llama.cpp b10488 (Ollama 0.33.0-rc2)`."""
    standing, based = standing_of(build)
    names = " and ".join(str(one) for one in based)
    if standing is Standing.MEASURED:
        return f"llama.cpp {build} (Ollama {version})"
    if standing is Standing.INHERITED:
        return f"llama.cpp {build} (Ollama {version}), as {names}, between which nothing changed"
    if build.is_read:
        return f"llama.cpp {build} (Ollama {version}), not measured: a bound by {names}"
    return f"llama.cpp of a build that is not known (Ollama {version}): a bound by {names}"
