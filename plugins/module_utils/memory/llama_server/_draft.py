# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model takes besides that predicts tokens ahead, by layers of its own (MTP) or a draft model: a second context.

Where a Modelfile sets draft_num_predict, or names a draft model, Ollama starts the engine with --spec-type. The second
context is made after the first one, whose layers were fitted to the free memory without it.

Source: ollama v0.30.0 to v0.33.0-rc2 llm/llama_server.go (hasMTPDraft, appendDraftArgs), server/routes.go (modelOptions);
measured with llama.cpp b10068 to v0.5.0 on three models (qwen3.5:9b, qwen3.6:27b, glm-4.7:358b; 1 and 4 tokens ahead).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import (
    ESTIMATE,
    GpuMemory,
    HostMemory,
    KvCache,
    ModelMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import cells
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._ahead import tokens_ahead
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._side_files import draft_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tensor_types import cuda_tensor_bytes

# Their second context holds the cache of the predicting layers alone; that of others held the whole model's, and no draft
# model keeps more than the model that it is a draft of.
OWN_CACHE = frozenset(("qwen35", "qwen35moe"))
# The second compute buffer was at most 1.08 times the first.
COMPUTE_PERCENT = 125
LOGIT_BYTES = 4
# Outputs of every slot's tokens ahead were at most twice their logits beside the first compute buffer.
OUTPUT_TIMES = 2


@dataclass(frozen=True)
class SecondContext:
    """What the second context takes, and what the first one takes more, in bytes; `ahead`: tokens predicted at once."""

    ahead: int
    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it but the recurrent states, which are kept where their layers lie."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes


def second_context(
    shape: ModelShape, settings: LoadSettings, first: GpuMemory | HostMemory, whole_cache: KvCache
) -> SecondContext:
    """The most that predicting ahead takes beside a first context that computes on a device with so much compute buffer.

    Of sampling on the GPU, with which Ollama starts it, a report shows 581.77 MiB at 4096 tokens (ollama issue 17482), so
    that the logits of a whole batch are counted too.
    """
    ahead = tokens_ahead(shape)
    layout = cells(shape, settings.context_length, settings.parallel, settings.batch)
    outputs = OUTPUT_TIMES * LOGIT_BYTES * shape.vocabulary_size * settings.parallel * (1 + ahead)
    logits = LOGIT_BYTES * shape.vocabulary_size * layout.batch
    return SecondContext(
        ahead=ahead,
        # Those of a draft model are counted by its file.
        weights_bytes=0 if draft_bytes(shape) else shape.ahead_bytes,
        kv_cache_bytes=_cache_bytes(shape, settings, layout.full * layout.slots, whole_cache),
        compute_bytes=first.compute_bytes * COMPUTE_PERCENT // 100 + outputs + logits,
    )


def with_second_context(shape: ModelShape, settings: LoadSettings, memory: ModelMemory) -> ModelMemory:
    """The memory with what predicting ahead takes: the second context lies beside the model's last layers."""
    ahead = tokens_ahead(shape)
    if not ahead:
        return memory
    gpus, host = list(memory.gpus), memory.host
    whole = host.kv_cache
    for gpu in gpus:
        whole = whole + gpu.kv_cache
    last = max((position for position, gpu in enumerate(gpus) if gpu.layers), default=None)
    second = second_context(shape, settings, host if last is None else gpus[last], whole)
    gpus = [replace(gpu, kv_cache=_with_states(gpu.kv_cache, ahead)) for gpu in gpus]
    host = replace(host, kv_cache=_with_states(host.kv_cache, ahead))
    of_context = KvCache(full_attention_bytes=second.kv_cache_bytes)
    if last is None:
        # All weights of the file are counted there already.
        host = replace(
            host,
            kv_cache=host.kv_cache + of_context,
            compute_bytes=host.compute_bytes + second.compute_bytes,
        )
    else:
        gpus[last] = replace(
            gpus[last],
            weights_bytes=gpus[last].weights_bytes + second.weights_bytes,
            kv_cache=gpus[last].kv_cache + of_context,
            compute_bytes=gpus[last].compute_bytes + second.compute_bytes,
        )
    by = "its draft model runs" if draft_bytes(shape) else "its layers that predict ahead run"
    note = (
        f"it predicts {ahead} tokens ahead (draft_num_predict): {by} in a second context, counted with "
        f"{second.total_bytes // MIB} MiB at the most"
    )
    return replace(
        memory,
        gpus=tuple(gpus),
        host=host,
        basis=ESTIMATE,
        note="; ".join(filter(None, (memory.note, note))),
    )


def _with_states(cache: KvCache, ahead: int) -> KvCache:
    """Recurrent states are kept for each token ahead, so that tokens that were predicted wrongly can be taken back."""
    return cache + KvCache(recurrent_bytes=ahead * cache.recurrent_bytes)


def _cache_bytes(shape: ModelShape, settings: LoadSettings, count: int, whole: KvCache) -> int:
    if shape.architecture not in OWN_CACHE or draft_bytes(shape):
        return whole.total_bytes - whole.recurrent_bytes
    widest = max(
        ((one.key_width, one.value_width) for one in shape.layers if one.cache_layer is not None),
        default=(0, 0),
    )
    kind = settings.kv_cache_type.upper()
    each = sum(cuda_tensor_bytes(kind, (width, count)) for width in widest)
    return shape.number("nextn_predict_layers") * each
