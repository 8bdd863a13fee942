# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama decides before it starts a model: predicted size, GPUs, batch, whether to evict first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._shape import ModelShape

MIB = 1 << 20
GIB = 1 << 30

# Source: ollama server/sched.go, load() and automaticGenerationBatch() (v0.33.0-rc2).
LOAD_PERCENT = 80
MEDIUM_BATCH_PERCENT = 75
LARGE_BATCH_PERCENT = 60
CONSTRAINED_BATCH, DEFAULT_BATCH, MEDIUM_BATCH, LARGE_BATCH = 256, 512, 1024, 2048
MEDIUM_BATCH_CONTEXT, LARGE_BATCH_CONTEXT = 4096, 32768
MEDIUM_BATCH_BYTES, LARGE_BATCH_BYTES = 768 * MIB, 2 * GIB
CONSTRAINED_GPU_BYTES = 8 * GIB
# Source: ollama llm/llama_server.go, DefaultEmbeddingNumBatch and mmprojOffloadHeadroom (v0.33.0-rc2).
EMBEDDING_BATCH = 2048
PROJECTOR_HEADROOM_BYTES = 1 * GIB
# Its projector gives wrong results on the CPU, so it stays on the GPU; same source.
PROJECTOR_ALWAYS_ON_GPU = frozenset(("gemma3n",))


@dataclass(frozen=True)
class SchedulerGpu:
    """A GPU as Ollama sees it, in its order; `free_bytes` is what is free while no model is loaded."""

    index: int
    total_bytes: int
    free_bytes: int
    library: str = "CUDA"
    integrated: bool = False
    compute_capability: str | None = None


@dataclass(frozen=True)
class SchedulerModel:
    """What the scheduler knows of a model; `key` is its blob, which tags may share. Sizes in bytes.

    `prediction_bytes_per_token`: what Ollama adds to the file size for each token of context. `side_files`: what tells
    its projector and adapters from those of another tag of the same file.
    """

    name: str
    key: str
    file_bytes: int
    prediction_bytes_per_token: int
    context_length_trained: int
    block_count: int
    family: str = ""
    architecture: str = ""
    is_embedding: bool = False
    is_vision: bool = False
    projector_bytes: int = 0
    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    side_files: tuple[str, ...] = ()
    shape: ModelShape | None = None

    @property
    def side_bytes(self) -> int:
        """What is loaded beside the model's own file: projector and adapters."""
        return self.projector_bytes + (self.shape.adapter_bytes if self.shape else 0)


@dataclass(frozen=True)
class Options:
    """The options of one load, as a request, a Modelfile and the server's settings add up to them.

    `context_length` is per slot and within the trained context. `num_batch` is None where Ollama chooses;
    `num_gpu` of -1 means all layers, `main_gpu` None any GPU.
    """

    context_length: int
    is_automatic_context: bool
    parallel: int
    num_batch: int | None
    num_gpu: int
    main_gpu: int | None

    @property
    def total_context(self) -> int:
        return self.context_length * self.parallel


@dataclass(frozen=True)
class Decision:
    """Where a model goes and how: positions in the list of GPUs, empty for the CPU; sizes in bytes.

    `predicted_bytes` includes the surcharge of the batch. `must_evict`: it does not start beside what is
    loaded.
    """

    placement: tuple[int, ...]
    is_alone: bool
    batch: int
    predicted_bytes: int
    available_bytes: int
    must_evict: bool
    projector_on_gpu: bool


def scheduler_model(shape: ModelShape) -> SchedulerModel:
    """What the scheduler knows of the model with this shape."""
    parameters = shape.parameters
    return SchedulerModel(
        name=shape.name,
        key=shape.digest or shape.name,
        file_bytes=shape.file_bytes,
        prediction_bytes_per_token=_prediction_bytes_per_token(shape),
        context_length_trained=shape.context_length_trained,
        block_count=shape.block_count,
        family=shape.family,
        architecture=shape.architecture,
        is_embedding=shape.is_embedding,
        is_vision="vision" in shape.capabilities,
        projector_bytes=shape.projector_bytes or shape.inline_projector_bytes,
        num_ctx=shape.num_ctx,
        num_batch=_whole_number(parameters.get("num_batch")),
        num_gpu=_whole_number(parameters.get("num_gpu")),
        main_gpu=_whole_number(parameters.get("main_gpu")),
        side_files=_side_files(shape),
        shape=shape,
    )


def _side_files(shape: ModelShape) -> tuple[str, ...]:
    """The digests of projectors and adapters; their sizes where a description has no digests."""
    told = shape.parameters.get("side_files")
    if isinstance(told, (list, tuple)) and told:
        return tuple(str(one) for one in told)
    sizes = {"adapter": shape.adapter_bytes, "projector": shape.projector_bytes}
    return tuple(f"{kind} of {size} bytes" for kind, size in sizes.items() if size)


def predicted_bytes(model: ModelShape | SchedulerModel, context_length: int, parallel: int) -> int:
    """The size that Ollama predicts for a model with `parallel` slots of `context_length` tokens each.

    It counts the file and a key-value cache of 16-bit elements, as if all layers were alike; it knows
    nothing of quantised caches, sliding windows, compute buffers or separate projector files.

    Source: ollama llm/llama_server.go, PredictServerVRAM (v0.33.0-rc2).
    """
    if isinstance(model, ModelShape):
        model = scheduler_model(model)
    context = effective_context(model, context_length) * max(parallel, 1)
    return model.file_bytes + model.prediction_bytes_per_token * context


def effective_context(model: SchedulerModel, context_length: int) -> int:
    """The context length that Ollama runs: never more than the model was trained for."""
    trained = model.context_length_trained
    return min(context_length, trained) if trained else context_length


def prediction_bytes_per_token(
    block_count: int, fewest_kv_heads: int, embedding_length: int, most_heads: int
) -> int:
    """Bytes that Ollama predicts for one token of context; no KV heads at all count as one.

    Source: ollama llm/llama_server.go, PredictServerVRAM (v0.33.0-rc2).
    """
    head_length = embedding_length // most_heads if most_heads else 0
    return 2 * block_count * max(fewest_kv_heads, 1) * head_length * 2


def decide(
    model: SchedulerModel,
    options: Options,
    gpus: Sequence[SchedulerGpu],
    free_bytes: Sequence[int],
    *,
    system_free_bytes: int,
    others_loaded: bool,
    spread: bool,
    flash_attention: str,
) -> Decision:
    """What Ollama decides, given the free memory that it believes the GPUs to have.

    `flash_attention`: 'on', 'off' or 'auto', as the engine is told.

    Source: ollama server/sched.go, load() (v0.33.0-rc2).
    """
    predicted = model.file_bytes + model.prediction_bytes_per_token * options.total_context
    available_each = [
        min(free, system_free_bytes) if gpu.integrated and system_free_bytes else free
        for gpu, free in zip(gpus, free_bytes)
    ]
    placement, is_alone = _select_gpus(
        options, gpus, free_bytes, available_each, predicted, system_free_bytes, spread
    )
    available = (
        available_each[placement[0]]
        if is_alone
        else _available_to_group(gpus, free_bytes, placement, system_free_bytes)
    )
    batch = _batch(model, options, gpus, free_bytes, placement, predicted, available, flash_attention)
    if not model.is_embedding:
        predicted += _batch_surcharge_bytes(batch)
    is_partial_by_request = 0 < options.num_gpu < model.block_count + 1
    return Decision(
        placement=placement,
        is_alone=is_alone,
        batch=batch,
        predicted_bytes=predicted,
        available_bytes=available,
        must_evict=(
            others_loaded
            and bool(placement)
            and not is_partial_by_request
            and predicted > available * LOAD_PERCENT // 100
        ),
        projector_on_gpu=_projector_on_gpu(model, options, gpus, free_bytes, placement),
    )


def _select_gpus(
    options: Options,
    gpus: Sequence[SchedulerGpu],
    free_bytes: Sequence[int],
    available_each: Sequence[int],
    predicted: int,
    system_free_bytes: int,
    spread: bool,
) -> tuple[tuple[int, ...], bool]:
    """Positions of the GPUs for a model, and whether one was picked out of several."""
    if options.num_gpu == 0:
        return (), False
    if len(gpus) <= 1:
        return tuple(range(len(gpus))), False
    groups = _library_groups(gpus)
    if options.main_gpu is not None:
        asked = [group[options.main_gpu] for group in groups if 0 <= options.main_gpu < len(group)]
        candidates = asked
    elif spread:
        candidates = []
    else:
        candidates = [
            position
            for group in groups
            for position in group
            if predicted <= available_each[position] * LOAD_PERCENT // 100
        ]
    if candidates:
        return (_best(candidates, gpus, available_each),), True
    group_available = [_available_to_group(gpus, free_bytes, group, system_free_bytes) for group in groups]
    has_discrete = [any(not gpus[position].integrated for position in group) for group in groups]
    best = max(range(len(groups)), key=lambda i: (has_discrete[i], group_available[i], -i))
    return tuple(groups[best]), False


def _best(candidates: Sequence[int], gpus: Sequence[SchedulerGpu], available_each: Sequence[int]) -> int:
    """Discrete before integrated, then the most available memory, then the first."""
    best = candidates[0]
    best_rank = (not gpus[best].integrated, available_each[best])
    for position in candidates[1:]:
        rank = (not gpus[position].integrated, available_each[position])
        if rank > best_rank:
            best, best_rank = position, rank
    return best


def _library_groups(gpus: Sequence[SchedulerGpu]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for position, gpu in enumerate(gpus):
        groups.setdefault(gpu.library, []).append(position)
    return list(groups.values())


def _available_to_group(
    gpus: Sequence[SchedulerGpu], free_bytes: Sequence[int], placement: Sequence[int], system_free_bytes: int
) -> int:
    """Free memory of several GPUs together; integrated ones have no more than the system has free."""
    shared = sum(free_bytes[position] for position in placement if gpus[position].integrated)
    discrete = sum(free_bytes[position] for position in placement if not gpus[position].integrated)
    if shared and 0 < system_free_bytes < shared:
        shared = system_free_bytes
    return discrete + shared


def _batch(
    model: SchedulerModel,
    options: Options,
    gpus: Sequence[SchedulerGpu],
    free_bytes: Sequence[int],
    placement: Sequence[int],
    predicted: int,
    available: int,
    flash_attention: str,
) -> int:
    if model.is_embedding:
        return min(options.num_batch or EMBEDDING_BATCH, options.total_context)
    if options.num_batch is not None:
        return options.num_batch
    cuda = [position for position in placement if gpus[position].library == "CUDA"]
    if flash_attention == "off" and cuda:
        is_constrained = options.total_context > MEDIUM_BATCH_CONTEXT and any(
            0 < _usable_bytes(gpus[position], free_bytes[position]) <= CONSTRAINED_GPU_BYTES
            for position in cuda
        )
        return CONSTRAINED_BATCH if is_constrained else DEFAULT_BATCH
    if options.total_context > LARGE_BATCH_CONTEXT and _batch_fits(LARGE_BATCH, predicted, available):
        return LARGE_BATCH
    if options.total_context > MEDIUM_BATCH_CONTEXT and _batch_fits(MEDIUM_BATCH, predicted, available):
        return MEDIUM_BATCH
    return DEFAULT_BATCH


def _batch_fits(batch: int, predicted: int, available: int) -> bool:
    if not predicted or not available:
        return True
    percent = LARGE_BATCH_PERCENT if batch >= LARGE_BATCH else MEDIUM_BATCH_PERCENT
    return (
        predicted <= available * percent // 100
        and predicted + _batch_surcharge_bytes(batch) <= available * LOAD_PERCENT // 100
    )


def _batch_surcharge_bytes(batch: int) -> int:
    if batch >= LARGE_BATCH:
        return LARGE_BATCH_BYTES
    return MEDIUM_BATCH_BYTES if batch >= MEDIUM_BATCH else 0


def _projector_on_gpu(
    model: SchedulerModel,
    options: Options,
    gpus: Sequence[SchedulerGpu],
    free_bytes: Sequence[int],
    placement: Sequence[int],
) -> bool:
    """Source: ollama llm/llama_server.go, shouldDisableMMProjOffload (v0.33.0-rc2)."""
    if not model.projector_bytes or not placement:
        return False
    if model.architecture in PROJECTOR_ALWAYS_ON_GPU:
        return True
    if 0 < options.num_gpu < model.block_count + 1:
        return False
    needed = model.projector_bytes + PROJECTOR_HEADROOM_BYTES
    usable = (_usable_bytes(gpus[position], free_bytes[position]) for position in placement)
    return all(not 0 < one < needed for one in usable)


def _usable_bytes(gpu: SchedulerGpu, free_bytes: int) -> int:
    if not free_bytes or 0 < gpu.total_bytes < free_bytes:
        return gpu.total_bytes
    return free_bytes


def _prediction_bytes_per_token(shape: ModelShape) -> int:
    heads = [layer.head_count for layer in shape.layers]
    # Without the key a model's KV heads are its heads, but Ollama counts one.
    has_kv_heads = "attention.head_count_kv" in shape.numbers
    fewest_kv_heads = min((layer.head_count_kv for layer in shape.layers), default=0) if has_kv_heads else 0
    return prediction_bytes_per_token(
        shape.block_count, fewest_kv_heads, shape.embedding_length, max(heads, default=0)
    )


def _whole_number(value: object) -> int | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return int(str(value))
    except ValueError:
        return None
