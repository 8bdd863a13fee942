# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model takes besides that predicts tokens ahead, by layers of its own (MTP) or a draft model: a second context.

Where a Modelfile sets draft_num_predict, or names a draft model, Ollama starts the engine with --spec-type. The second
context is made after the first one; the engine fits the first one's layers to what the second one leaves free. Its cache
is of half precision, whatever OLLAMA_KV_CACHE_TYPE says. Sampling on the GPU, with which Ollama starts it, takes no room.

Source: ollama v0.30.0 to v0.33.0-rc2 llm/llama_server.go (hasMTPDraft, appendDraftArgs), server/routes.go (modelOptions);
llama.cpp tools/server/server-context.cpp (b9780 to b11434), common/speculative.cpp (common_base_params_to_speculative) and
common/fit.cpp (common_fit_extra_model, b11218); measured with llama.cpp b10068 to v0.5.0 on models of five architectures
(tests/data/ahead; 1, 4 and 8 tokens ahead), one GPU and two.
"""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import (
    ESTIMATE,
    GpuMemory,
    HostMemory,
    KvCache,
    ModelMemory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._compute import (
    PIPELINE_COPIES,
    compute_bytes,
    cpu_compute_bytes,
    host_compute_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._flash import (
    Attention,
    resolved,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._kv_cache import (
    PREDICTING_BLOCKS,
    Cells,
    cells,
    layers_cache,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.llama_server._pool import pool_bytes
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._ahead import (
    predicting_block,
    tokens_ahead,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._side_files import draft_bytes

CACHE_TYPE = "f16"
# Where its graph is not known the second compute buffer is bounded: it was at most 1.08 times the first.
COMPUTE_PERCENT = 125
LOGIT_BYTES = 4
ROW_BYTES = 4
# Outputs of every slot's tokens ahead were at most twice their logits beside the first compute buffer.
OUTPUT_TIMES = 2


@dataclass(frozen=True)
class SecondContext:
    """What the second context takes where the model's last layers lie, and on the host where those are on a GPU, in bytes.

    is_exact: not a bound.
    """

    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    pool_bytes: int = 0
    host_bytes: int = 0
    is_exact: bool = False

    @property
    def total_bytes(self) -> int:
        """All of it that lies where the last layers do, but pools."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes


def second_context(
    shape: ModelShape, settings: LoadSettings, first: GpuMemory | HostMemory, gpu_count: int
) -> SecondContext:
    """What predicting ahead takes beside a first context that computes on a device with so much compute buffer.

    gpu_count: GPUs that hold the model, 0 where the CPU does. A build that was not measured may reserve the logits of a
    whole batch, as builds before b9780 did: 581.77 MiB in ollama issue 17482.
    """
    block, on_cpu = predicting_block(shape), not gpu_count
    if shape.architecture == "glm4moe" and not settings.engine.predicts_glm4moe:
        block = None
    layout = cells(shape, settings.context_length, settings.parallel, settings.batch)
    attention = resolved(shape, settings.flash_attention, CACHE_TYPE, on_cpu=on_cpu)
    logits = LOGIT_BYTES * shape.vocabulary_size * layout.batch if settings.engine.allows_for_change else 0
    if block is None:
        return _bound(shape, settings, first, layout, attention, logits)
    engine, whole = settings.engine, (block, layout, attention, CACHE_TYPE)
    if on_cpu:
        computed, pool = cpu_compute_bytes(*whole, engine), 0
    else:
        copies = PIPELINE_COPIES if gpu_count > 1 else 1
        computed = compute_bytes(*whole, copies=copies, engine=engine)
        pool = pool_bytes(
            block, layout, attention, range(1), backend=settings.backend, engine=engine, copies=copies
        )
    # What the first context has made takes the place of the embeddings that no graph of this one reads.
    unread = ROW_BYTES * shape.embedding_length * layout.tokens
    return SecondContext(
        weights_bytes=shape.ahead_bytes,
        kv_cache_bytes=shape.number(PREDICTING_BLOCKS) * _cache_bytes(block, layout, attention, on_cpu=on_cpu),
        compute_bytes=computed + logits,
        pool_bytes=pool,
        host_bytes=host_compute_bytes(*whole, engine) - unread,
        is_exact=not engine.allows_for_change and not on_cpu,
    )


def _bound(
    shape: ModelShape,
    settings: LoadSettings,
    first: GpuMemory | HostMemory,
    layout: Cells,
    attention: Attention,
    logits: int,
) -> SecondContext:
    """The most that a second context takes whose graph is not known: no draft keeps more than the model that it is one of."""
    outputs = OUTPUT_TIMES * LOGIT_BYTES * shape.vocabulary_size * settings.parallel * (1 + tokens_ahead(shape))
    return SecondContext(
        # Those of a draft model are counted by its file.
        weights_bytes=0 if draft_bytes(shape) else shape.ahead_bytes,
        kv_cache_bytes=_cache_bytes(shape, layout, attention, on_cpu=isinstance(first, HostMemory)),
        compute_bytes=first.compute_bytes * COMPUTE_PERCENT // 100 + outputs + logits,
    )


def with_second_context(shape: ModelShape, settings: LoadSettings, memory: ModelMemory) -> ModelMemory:
    """The memory with what predicting ahead takes: the second context lies beside the model's last layers."""
    ahead = tokens_ahead(shape)
    if not ahead:
        return memory
    gpus, host = list(memory.gpus), memory.host
    here = [position for position, gpu in enumerate(gpus) if gpu.layers]
    last = here[-1] if here else None
    second = second_context(shape, settings, host if last is None else gpus[last], len(here))
    gpus = [replace(gpu, kv_cache=_with_states(gpu.kv_cache, ahead)) for gpu in gpus]
    # The first one's results grow by those of the tokens ahead, and by what it hands over of a whole batch.
    handed = LOGIT_BYTES * shape.vocabulary_size * settings.parallel * (1 + ahead)
    handed += ROW_BYTES * shape.embedding_length * settings.batch
    host = replace(
        host, kv_cache=_with_states(host.kv_cache, ahead), output_bytes=host.output_bytes + handed
    )
    of_context = KvCache(full_attention_bytes=second.kv_cache_bytes)
    if last is None:
        # All weights of the file are counted there already.
        host = replace(
            host,
            kv_cache=host.kv_cache + of_context,
            compute_bytes=host.compute_bytes + second.compute_bytes,
        )
    else:
        host = replace(host, compute_bytes=host.compute_bytes + second.host_bytes)
        gpus[last] = replace(
            gpus[last],
            weights_bytes=gpus[last].weights_bytes + second.weights_bytes,
            kv_cache=gpus[last].kv_cache + of_context,
            compute_bytes=gpus[last].compute_bytes + second.compute_bytes,
            pool_bytes=gpus[last].pool_bytes + second.pool_bytes,
        )
    grown = replace(memory, gpus=tuple(gpus), host=host)
    if second.is_exact:
        return grown
    by = "its draft model runs" if draft_bytes(shape) else "its layers that predict ahead run"
    note = (
        f"it predicts {ahead} tokens ahead (draft_num_predict): {by} in a second context, counted with "
        f"{second.total_bytes // MIB} MiB at the most"
    )
    return replace(grown, basis=ESTIMATE, note="; ".join(filter(None, (memory.note, note))))


def _with_states(cache: KvCache, ahead: int) -> KvCache:
    """Recurrent states are kept for each token ahead, so that tokens that were predicted wrongly can be taken back."""
    return cache + KvCache(recurrent_bytes=ahead * cache.recurrent_bytes)


def _cache_bytes(shape: ModelShape, layout: Cells, attention: Attention, *, on_cpu: bool) -> int:
    whole = layers_cache(
        shape,
        range(shape.block_count),
        layout,
        CACHE_TYPE,
        transposed_values=attention.transposes_values,
        on_cpu=on_cpu,
    )
    return whole.total_bytes - whole.recurrent_bytes
