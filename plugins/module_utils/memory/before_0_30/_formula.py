# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that Ollama 0.10.0 to 0.11.10 computes for a model by formula, before it loads it.

Newer versions up to 0.24 use it for the models that do not run in their own engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import LoadSettings
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import KvCache
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory.before_0_30._believed_memory import (
    BelievedMemory,
    uses_flash_attention,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import Version

# Bytes per element of a cache, as the formula takes them. Source: ollama fs/ggml/ggml.go (0.11.8).
BYTES_PER_ELEMENT = {"f16": 2.0, "q8_0": 1.0, "q4_0": 0.5}
RECURRENT_BYTES_PER_ELEMENT = 4
# Every sixth layer of gemma3 is a global one; gpt-oss keeps so many tokens per slot in its sliding layers.
GEMMA3_GLOBAL_LAYER = 6
GPT_OSS_WINDOW = 4096
# Until then the graph of gpt-oss was taken for twice as large.
GPT_OSS_GRAPH_HALVED = (0, 11, 5)


@dataclass(frozen=True)
class VisionTower:
    """A vision tower: sides of image and patch in pixels, attention heads, width of its embedding."""

    image: int
    patch: int
    heads: int
    channels: int
    embedding: int


# For files that carry the tower elsewhere: gemma3 has the same one in all sizes.
KNOWN_TOWERS = {"gemma3": VisionTower(image=896, patch=14, heads=16, channels=3, embedding=1152)}


@dataclass(frozen=True)
class _Numbers:
    """The formula's variables; `context` of all slots together."""

    context: int
    batch: int
    embedding: int
    heads: int
    heads_kv: int
    head_length: int
    key_length: int
    vocabulary: int

    @property
    def output(self) -> int:
        """Bytes of the output's results."""
        return 4 * self.batch * (self.embedding + self.vocabulary)

    @property
    def output_moved(self) -> int:
        """Bytes of the output's weights, where it is copied to a GPU to be computed."""
        return self.embedding * self.vocabulary * 105 // 128

    @property
    def scores(self) -> int:
        """Elements of the scores of one token."""
        return self.context * (1 + self.heads)


def formula_memory(shape: ModelShape, settings: LoadSettings, version: Version) -> BelievedMemory:
    """What the formula gives for a model.

    Source: ollama fs/ggml/ggml.go, GraphSize() and VisionGraphSize(); llm/memory.go, estimateGPULayers()
    (0.11.8).
    """
    flash = uses_flash_attention(shape, settings.flash_attention, version)
    element_bytes = BYTES_PER_ELEMENT[settings.kv_cache_type] if flash else 2.0
    parallel = settings.parallel
    batch = min(settings.batch, settings.context_length)
    numbers = _numbers(shape, settings.context_length * parallel, batch)
    plain = _plain_caches(shape, numbers.context, element_bytes)
    caches = _caches(shape, plain, numbers, parallel, element_bytes)
    partial, full = _graphs(shape, numbers)
    if shape.architecture == "gpt-oss":
        factor = 2 if version.release >= GPT_OSS_GRAPH_HALVED else 4
        partial = factor * (numbers.heads // max(numbers.heads_kv, 1)) * _total(plain) // 6
        if flash:
            partial = (4 * parallel + (numbers.context >> 10) + 110) * MIB
    if not partial:
        fewest_kv_heads = min(layer.head_count_kv for layer in shape.layers) or 1
        partial = numbers.heads // fewest_kv_heads * _total(caches) // 6
    separate = shape.projector_bytes
    inline = 0 if separate else shape.inline_projector_bytes
    layer_weights = tuple(layer.weights_bytes for layer in shape.layers)
    return BelievedMemory(
        layer_weights_bytes=layer_weights,
        caches=caches,
        output_bytes=shape.output_bytes,
        beside_output_bytes=inline + vision_graph_bytes(shape) if inline else 0,
        first_gpu_bytes=separate,
        graph_bytes=full or partial,
        partial_graph_bytes=partial,
        buffer_bytes=layer_weights[0] + caches[0].total_bytes,
        host_bytes=shape.input_host_bytes,
        note="Ollama's own formula of before 0.30, which decides what it loads; the engine may take less",
    )


def vision_graph_bytes(shape: ModelShape) -> int:
    """What the formula takes for the graph of a vision tower inside the model's file.

    Source: ollama fs/ggml/ggml.go, VisionGraphSize() (0.11.8).
    """
    tower = tower_of(shape)
    if tower is None or shape.architecture not in ("gemma3", "mistral3", "qwen25vl"):
        return 0
    if shape.architecture == "qwen25vl":
        pixels = shape.number("vision.max_pixels", 28 * 28 * 1280)
        patches = pixels // tower.patch**2
        of_patches = patches * (tower.channels * tower.patch**2 + patches * tower.heads + tower.embedding)
        return 4 * (2 * pixels * tower.channels + of_patches)
    patches = (tower.image // tower.patch) ** 2
    return 4 * (tower.image**2 * tower.channels + tower.embedding * tower.patch + patches**2 * tower.heads)


def tower_of(shape: ModelShape) -> VisionTower | None:
    """The vision tower of a model; None where its file tells of none and it is no known one."""
    patch = shape.number("vision.patch_size")
    if not patch:
        return KNOWN_TOWERS.get(shape.architecture)
    return VisionTower(
        image=shape.number("vision.image_size"),
        patch=patch,
        heads=shape.number("vision.attention.head_count"),
        channels=shape.number("vision.num_channels", 3),
        embedding=shape.number("vision.embedding_length"),
    )


def _numbers(shape: ModelShape, context: int, batch: int) -> _Numbers:
    heads = [layer.head_count for layer in shape.layers if layer.head_count]
    head_length = shape.embedding_length // min(heads) if heads else 0
    return _Numbers(
        context=context,
        batch=batch,
        embedding=shape.embedding_length,
        heads=max(heads, default=1),
        heads_kv=max(layer.head_count_kv for layer in shape.layers),
        head_length=head_length,
        key_length=shape.number("attention.key_length", head_length),
        vocabulary=shape.vocabulary_size,
    )


def _plain_caches(shape: ModelShape, context: int, element_bytes: float) -> tuple[KvCache, ...]:
    """Caches as if every layer with KV heads kept the whole context; a layer without any is recurrent."""
    state = shape.number("ssm.state_size") * shape.number("ssm.inner_size")
    kernel = shape.number("ssm.conv_kernel")
    if kernel:
        width = shape.number("ssm.inner_size") + 2 * shape.number("ssm.group_count") * shape.number(
            "ssm.state_size"
        )
        state += (kernel - 1) * width
    caches = []
    for layer in shape.layers:
        if layer.head_count and layer.head_count_kv:
            width = (layer.key_length + layer.value_length) * layer.head_count_kv
            caches.append(KvCache(full_attention_bytes=int(context * width * element_bytes)))
        else:
            caches.append(KvCache(recurrent_bytes=state * RECURRENT_BYTES_PER_ELEMENT))
    return tuple(caches)


def _caches(
    shape: ModelShape, plain: tuple[KvCache, ...], numbers: _Numbers, parallel: int, element_bytes: float
) -> tuple[KvCache, ...]:
    """The caches with the sliding windows that the formula knows."""
    if shape.architecture == "gemma3":
        cells = parallel * shape.sliding_window + numbers.batch
        return _with_windows(shape, plain, cells, element_bytes, lambda i: (i + 1) % GEMMA3_GLOBAL_LAYER != 0)
    if shape.architecture == "gpt-oss":
        cells = parallel * GPT_OSS_WINDOW + numbers.batch
        return _with_windows(shape, plain, cells, element_bytes, lambda i: i % 2 == 0)
    return plain


def _with_windows(
    shape: ModelShape,
    plain: tuple[KvCache, ...],
    cells: int,
    element_bytes: float,
    slides: Callable[[int], bool],
) -> tuple[KvCache, ...]:
    caches = []
    for index, (layer, cache) in enumerate(zip(shape.layers, plain)):
        if slides(index):
            width = (layer.key_length + layer.value_length) * layer.head_count_kv
            cache = KvCache(sliding_window_bytes=int(cells * width * element_bytes))
        caches.append(cache)
    return tuple(caches)


def _total(caches: tuple[KvCache, ...]) -> int:
    return sum(cache.total_bytes for cache in caches)


def _graphs(shape: ModelShape, n: _Numbers) -> tuple[int, int]:
    """Graph on each GPU of a partial offload, and on one GPU with all layers; 0 where the formula has none.

    Source: ollama fs/ggml/ggml.go, GraphSize() (0.11.8).
    """
    graphs = GRAPHS.get(shape.architecture)
    return graphs(shape, n) if graphs else (0, 0)


def _llama_graphs(shape: ModelShape, n: _Numbers) -> tuple[int, int]:
    full = max(4 * n.batch * (1 + 4 * n.embedding + n.scores), n.output)
    partial = 4 * n.batch * n.embedding + max(
        4 * n.batch * (1 + n.embedding + max(n.context, n.embedding))
        + n.embedding**2 * 9 // 16
        + 4 * n.context * (n.batch * n.heads + n.head_length * n.heads_kv),
        n.output + n.output_moved,
    )
    if shape.number("expert_count"):
        kv_width = n.head_length * n.heads_kv
        partial = max(
            3 * _expert_gate_bytes(shape)
            + 4
            * n.batch
            * (2 * shape.number("feed_forward_length") + n.heads_kv + n.embedding + n.context + kv_width),
            4 * (n.context * n.batch * n.heads + n.context * kv_width + n.batch * 1024 + kv_width * n.batch),
        )
    return partial, full


def _gemma_graphs(_shape: ModelShape, n: _Numbers) -> tuple[int, int]:
    queries = n.key_length * n.heads
    full = max(n.output, 4 * n.batch * (2 + n.scores + 2 * n.embedding + 2 * queries))
    partial = max(
        n.output + n.output_moved,
        4 * n.batch * (2 * n.embedding + 1 + 2 * queries + n.scores)
        + 4 * n.key_length * n.context * 8
        + n.embedding * queries * 9 // 16,
    )
    return partial, full


def _gemma3n_graphs(shape: ModelShape, n: _Numbers) -> tuple[int, int]:
    partial, full = _gemma_graphs(shape, n)
    return 4 * partial, 4 * full


def _command_r_graphs(_shape: ModelShape, n: _Numbers) -> tuple[int, int]:
    full = max(n.output, 4 * n.batch * (2 + 4 * n.embedding + n.scores))
    partial = max(
        n.output + n.output_moved,
        4 * n.batch * (1 + 2 * n.embedding + n.scores)
        + 4 * n.embedding * n.context
        + n.embedding**2 * 9 // 16,
    )
    return partial, full


def _qwen2_graphs(_shape: ModelShape, n: _Numbers) -> tuple[int, int]:
    full = max(n.output, 4 * n.batch * (1 + 2 * n.embedding + n.scores))
    partial = max(
        n.output + n.output_moved,
        4 * (n.batch * (1 + 2 * n.embedding + n.scores) + n.embedding * (1 + n.context)),
    )
    return partial, full


def _phi2_graphs(_shape: ModelShape, n: _Numbers) -> tuple[int, int]:
    full = max(n.output, 4 * n.batch * (1 + 4 * n.embedding + n.scores))
    partial = max(
        4 * n.batch * (2 * n.embedding + n.vocabulary) + n.output_moved,
        4 * n.batch * (2 + 3 * n.embedding + n.scores),
    )
    return partial, full


def _stablelm_graphs(_shape: ModelShape, n: _Numbers) -> tuple[int, int]:
    full = 4 * n.batch * (n.scores + 3 * n.embedding + 2)
    return max(4 * n.batch * (n.vocabulary + 2 * n.embedding), full), full


def _deepseek2_graphs(_shape: ModelShape, n: _Numbers) -> tuple[int, int]:
    keys = n.key_length * n.heads_kv
    scores = n.context * (1 + n.heads_kv)
    full = max(
        4 * n.batch * (3 * n.embedding + n.vocabulary),
        4 * n.batch * (3 * n.embedding + 2 + scores + 2 * keys),
    )
    partial = max(
        4 * n.batch * (3 * n.embedding + n.vocabulary) + n.output_moved,
        4 * n.batch * (2 * n.embedding + 1 + 2 * keys + scores)
        + 4 * keys * n.context
        + n.embedding * keys * 9 // 16,
    )
    return partial, full


def _chatglm_graphs(_shape: ModelShape, n: _Numbers) -> tuple[int, int]:
    return n.output + n.output_moved, n.output


GRAPHS: Mapping[str, Callable[[ModelShape, _Numbers], tuple[int, int]]] = {
    "chatglm": _chatglm_graphs,
    "command-r": _command_r_graphs,
    "deepseek2": _deepseek2_graphs,
    "gemma": _gemma_graphs,
    "gemma2": _gemma_graphs,
    "gemma3": _gemma_graphs,
    "gemma3n": _gemma3n_graphs,
    "llama": _llama_graphs,
    "llama4": _llama_graphs,
    "phi2": _phi2_graphs,
    "qwen2": _qwen2_graphs,
    "stablelm": _stablelm_graphs,
}


def _expert_gate_bytes(shape: ModelShape) -> int:
    """Bytes of the first layer's expert gates, by their share of the layer's elements."""
    elements = {}
    for name, lengths in shape.forms[shape.layers[0].form]:
        elements[name] = 1
        for length in lengths:
            elements[name] *= length
    gates = elements.get("ffn_gate_exps.weight", 0)
    return shape.layers[0].weights_bytes * gates // max(sum(elements.values()), 1)
