# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scheduler knows of a GPU, of a model, and of the options of one load."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import VersionRules


@dataclass(frozen=True)
class SchedulerGpu:
    """A GPU as Ollama sees it, in its order; `free_bytes` is what is free while no model is loaded."""

    index: int
    total_bytes: int
    free_bytes: int
    library: str = "CUDA"
    integrated: bool = False
    compute_capability: str | None = None


def by_library(gpus: Sequence[SchedulerGpu]) -> list[list[int]]:
    """The positions of the GPUs of each library."""
    groups: dict[str, list[int]] = {}
    for position, gpu in enumerate(gpus):
        groups.setdefault(gpu.library, []).append(position)
    return list(groups.values())


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


def _prediction_bytes_per_token(shape: ModelShape) -> int:
    heads = [layer.head_count for layer in shape.layers]
    # Without the key a model's KV heads are its heads, but Ollama counts one.
    has_kv_heads = "attention.head_count_kv" in shape.numbers
    fewest_kv_heads = min(layer.head_count_kv for layer in shape.layers) if has_kv_heads else 1
    return prediction_bytes_per_token(shape.block_count, fewest_kv_heads, shape.embedding_length, max(heads))


def _whole_number(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def has_single_slot(model: SchedulerModel, rules: VersionRules) -> bool:
    """Whether Ollama gives the model one slot, whatever the parallel value."""
    return model.is_embedding or rules.forces_single_slot(model.family)


def single_slot_models(models: Sequence[SchedulerModel], rules: VersionRules) -> tuple[str, ...]:
    """The names of those that answer requests, and of these one at a time because of their family."""
    return tuple(
        model.name for model in models if not model.is_embedding and has_single_slot(model, rules)
    )
