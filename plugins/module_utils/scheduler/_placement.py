# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama decides before it starts a model: predicted size, GPUs, batch, whether to evict first."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._architectures import traits
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import (
    Options,
    SchedulerGpu,
    SchedulerModel,
    by_library,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._placement_rules import PlacementRules


@dataclass(frozen=True)
class View:
    """The memory of a host as Ollama sees it when it decides: its GPUs, and what it believes to be free.

    `free_bytes`: of each GPU. `system_free_bytes`: what integrated GPUs have together at the most; 0: not known.
    """

    gpus: Sequence[SchedulerGpu]
    free_bytes: Sequence[int]
    system_free_bytes: int = 0

    def available_bytes(self, position: int) -> int:
        """What is free for a model that has this GPU alone."""
        free = self.free_bytes[position]
        return min(free, self.system_free_bytes or free) if self.gpus[position].integrated else free

    def available_to(self, placement: Sequence[int]) -> int:
        """Free memory of several GPUs together; integrated ones have no more than the system has free."""
        shared = sum(self.free_bytes[one] for one in placement if self.gpus[one].integrated)
        discrete = sum(self.free_bytes[one] for one in placement if not self.gpus[one].integrated)
        return discrete + min(shared, self.system_free_bytes or shared)

    def usable_bytes(self, position: int) -> int:
        """What Ollama takes for a GPU's memory where it asks for its size."""
        total, free = self.gpus[position].total_bytes, self.free_bytes[position]
        return min(free or total, total or free)


@dataclass(frozen=True)
class Decision:
    """Where a model goes and how: positions in the list of GPUs, empty for the CPU; sizes in bytes.

    `predicted_bytes` includes the surcharge of the batch. `must_evict`: it does not start beside what is
    loaded. `is_alone`: one GPU was picked out of several.
    """

    placement: tuple[int, ...]
    batch: int
    predicted_bytes: int
    available_bytes: int
    must_evict: bool
    projector_on_gpu: bool
    is_alone: bool = False


def decide(
    model: SchedulerModel,
    options: Options,
    view: View,
    rules: PlacementRules,
    *,
    others_loaded: bool,
    spread: bool,
    flash_attention: str,
) -> Decision:
    """What Ollama decides about a load.

    `flash_attention`: 'on', 'off' or 'auto', as the engine is told.

    Source: ollama server/sched.go, load() (v0.33.0-rc2).
    """
    predicted = model.file_bytes + model.prediction_bytes_per_token * options.total_context
    placement, is_alone = _select_gpus(options, view, rules, predicted, spread=spread)
    available = view.available_to(placement)
    if model.is_embedding:
        batch = min(options.num_batch or rules.embedding_batch, options.total_context)
    elif options.num_batch is not None:
        batch = options.num_batch
    elif flash_attention == "off" and any(view.gpus[position].library == "CUDA" for position in placement):
        batch = _batch_without_flash(options, view, rules, placement)
    else:
        batch = _batch(options, rules, predicted, available)
    if not model.is_embedding:
        predicted += rules.surcharge_bytes(batch)
    return Decision(
        placement=placement,
        batch=batch,
        predicted_bytes=predicted,
        available_bytes=available,
        must_evict=(
            others_loaded
            and bool(placement)
            and not _is_partial_by_request(model, options)
            and predicted > rules.load_limit_bytes(available)
        ),
        projector_on_gpu=_projector_on_gpu(model, options, view, rules, placement),
        is_alone=is_alone,
    )


def _select_gpus(
    options: Options, view: View, rules: PlacementRules, predicted: int, *, spread: bool
) -> tuple[tuple[int, ...], bool]:
    """Positions of the GPUs for a model, and whether one was picked out of several."""
    if options.num_gpu == 0:
        return (), False
    if len(view.gpus) <= 1:
        return tuple(range(len(view.gpus))), False
    groups = by_library(view.gpus)
    if options.main_gpu is not None:
        candidates = [group[options.main_gpu] for group in groups if 0 <= options.main_gpu < len(group)]
    elif spread:
        candidates = []
    else:
        candidates = [
            position
            for group in groups
            for position in group
            if predicted <= rules.load_limit_bytes(view.available_bytes(position))
        ]
    if candidates:
        # Discrete before integrated, then the most available memory, then the first.
        best = max(candidates, key=lambda one: (not view.gpus[one].integrated, view.available_bytes(one)))
        return (best,), True
    has_discrete = [any(not view.gpus[position].integrated for position in group) for group in groups]
    most = max(range(len(groups)), key=lambda i: (has_discrete[i], view.available_to(groups[i])))
    return tuple(groups[most]), False


def _batch(options: Options, rules: PlacementRules, predicted: int, available: int) -> int:
    """The largest batch for so much context that the prediction leaves room for."""
    for step in rules.batch_steps:
        has_room = not predicted or not available
        has_room = has_room or (
            predicted <= available * step.within_percent // 100
            and predicted + step.surcharge_bytes <= rules.load_limit_bytes(available)
        )
        if options.total_context > step.above_context and has_room:
            return step.batch
    return rules.default_batch


def _batch_without_flash(
    options: Options, view: View, rules: PlacementRules, placement: Sequence[int]
) -> int:
    """The batch where CUDA computes without flash attention: smaller on a small GPU."""
    is_constrained = options.total_context > rules.constrained_context and any(
        0 < view.usable_bytes(position) <= rules.constrained_gpu_bytes
        for position in placement
        if view.gpus[position].library == "CUDA"
    )
    return rules.constrained_batch if is_constrained else rules.default_batch


def _is_partial_by_request(model: SchedulerModel, options: Options) -> bool:
    return 0 < options.num_gpu <= model.block_count


def takes_projector(gpu: SchedulerGpu, free_bytes: int, rules: PlacementRules) -> bool:
    """Whether a version puts a projector on such a GPU at all, however small it is."""
    is_large = not 0 < free_bytes <= rules.projector_above_bytes
    return is_large and (rules.projector_on_integrated or not gpu.integrated)


def _projector_on_gpu(
    model: SchedulerModel, options: Options, view: View, rules: PlacementRules, placement: Sequence[int]
) -> bool:
    """Source: ollama llm/llama_server.go, shouldDisableMMProjOffload (v0.33.0-rc2)."""
    if not model.projector_bytes or not placement:
        return False
    if traits(model.architecture).keeps_projector_on_gpu:
        return True
    if _is_partial_by_request(model, options):
        return False
    if not all(takes_projector(view.gpus[one], view.usable_bytes(one), rules) for one in placement):
        return False
    needed = model.projector_bytes + rules.projector_headroom_bytes
    return all(not 0 < view.usable_bytes(position) < needed for position in placement)
