# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a model: what planning needs of its GGUF header, and no more."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields, replace
from typing import Any, Tuple

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.model import _compat
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._architectures import traits
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._fields import (
    MAX_NUMBER,
    check_all,
    check_fields,
    is_number,
    shown,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._layers import (
    ATTENTIONS,
    convolution_state_size,
    layer_memories,
    recurrent_state_size,
    sliding_window,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._metadata import (
    MAX_INTEGER,
    MAX_LAYERS,
    Metadata,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tensor_types import (
    cuda_tensor_bytes,
    is_repacked,
    tensor_bytes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tower import Tower, tower_of

# Bounds of what a header may claim; published models stay far below them.
MAX_TENSORS = 65536
MAX_DIMENSIONS = 4
MAX_DIMENSION = 2**40

# Tensors that llama.cpp keeps on the host: they are looked up, not multiplied.
# Source: llama.cpp src/llama-arch.cpp, LLM_TENSOR_LAYER_INPUT (b10488)
INPUT_TENSORS = frozenset(
    (
        "token_embd.weight",
        "position_embd.weight",
        "token_types.weight",
        "per_layer_token_embd.weight",
    )
)
# Tensors without a block number that stand beside the first block, not beside the output.
# Source: llama.cpp src/llama-arch.cpp, LLM_TENSOR_LAYER_REPEATING (b10488)
FIRST_BLOCK_PREFIXES = ("token_embd_norm.", "per_layer_model_proj.", "per_layer_proj_norm.")
# One copy on every device that has a layer: each layer refers to it.
PER_DEVICE_PREFIXES = ("rope_freqs.", "rope_factors_long.", "rope_factors_short.")
OUTPUT_TENSOR = "output.weight"
EXPERTS = "_exps."
LOOPS = "num_loops"
HALF_TYPES = ("F16", "BF16")
EMBEDDING_TENSOR = "token_embd.weight"
BLOCK_NAME = re.compile(r"^blk\.(\d{1,9})\.(.+)$")
# Tensor names with their shapes, sorted by name.
Form = Tuple[Tuple[str, Tuple[int, ...]], ...]


@dataclass(frozen=True)
class LayerShape:
    """One repeating layer.

    weights_bytes: in a CUDA buffer. form: index into `ModelShape.forms`. attention: 'full', 'sliding' or
    'none'.
    cache_layer: the layer whose KV cache it reads, None when it keeps none. Lengths count elements of one
    head.
    """

    weights_bytes: int
    form: int
    attention: str
    cache_layer: int | None
    is_recurrent: bool
    head_count: int
    head_count_kv: int
    key_length: int
    value_length: int
    feed_forward_length: int

    @property
    def key_width(self) -> int:
        """Elements of one token's key, all KV heads together."""
        return self.key_length * self.head_count_kv

    @property
    def value_width(self) -> int:
        """Elements of one token's value, all KV heads together."""
        return self.value_length * self.head_count_kv


@dataclass(frozen=True)
class ModelShape:
    """What planning needs of one model; sizes in bytes, lengths in elements or tokens.

    family: the manifest's model family, else the architecture. file_bytes: the model blob on disk, inline projector
    included. input_host_bytes: embeddings that stay on the host. first_layer_bytes, output_bytes: weights on the
    GPU beside the first layer and beside the output; per_device_bytes: on every GPU. text_bytes: all weights but
    the projector's, once each; repacked_bytes: those of them that a CPU keeps in another layout. forms: the
    distinct sets of (tensor name, shape) that layers have; model_form: the same for the tensors outside of layers.
    tower: of the projector, None where it has none or nothing is known of it.
    ahead_bytes: weights of layers that only predict further tokens, which are not loaded without need.
    half_row_elements: elements per token of operands and result that the widest product with weights of half precision
    copies, which have the multiplying library make them. largest_tensor_bytes: of layers, in a CUDA buffer.
    numbers: the whole numbers of the architecture's metadata, without its prefix. parameters: of the Modelfile,
    where they change memory or placement.
    """

    name: str
    digest: str
    family: str
    architecture: str
    quantization: str
    file_bytes: int
    projector_bytes: int
    inline_projector_bytes: int
    adapter_bytes: int
    capabilities: tuple[str, ...]
    context_length_trained: int
    num_ctx: int | None
    block_count: int
    embedding_length: int
    vocabulary_size: int
    sliding_window: int
    convolution_state_size: int
    recurrent_state_size: int
    is_latent_attention: bool
    input_host_bytes: int
    first_layer_bytes: int
    output_bytes: int
    per_device_bytes: int
    text_bytes: int
    repacked_bytes: int
    tensor_count: int
    layers: tuple[LayerShape, ...]
    forms: tuple[Form, ...]
    model_form: Form
    tower: Tower | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ahead_bytes: int = 0
    half_row_elements: int = 0
    largest_tensor_bytes: int = 0

    def __post_init__(self) -> None:
        """Raises: ValueError when a field is of another kind, out of bounds, or contradicts another one."""
        if not isinstance(self.name, str):
            raise ValueError(f"the name of a model is {shown(self.name)}, expected a text")
        of = f"model {self.name}"
        check_fields(self, of)
        if self.tower is not None:
            check_fields(self.tower, f"the tower of {of}")
        if not 1 <= self.block_count <= MAX_LAYERS or len(self.layers) != self.block_count:
            raise ValueError(f"the shape of {of} does not have {self.block_count} whole layers")
        check_all(self.layers, lambda number: f"layer {number} of {of}")
        for number, layer in enumerate(self.layers):
            if layer.attention not in ATTENTIONS:
                raise ValueError(
                    f"attention of layer {number} of {of} is {shown(layer.attention)}, expected"
                    f" {', '.join(ATTENTIONS)}"
                )
            if layer.form >= len(self.forms) or (layer.cache_layer or 0) >= self.block_count:
                raise ValueError(f"the shape of {of} does not have {self.block_count} whole layers")

    def __hash__(self) -> int:
        return hash(
            (self.name, self.digest, self.architecture, self.file_bytes, self.text_bytes, self.block_count)
        )

    @property
    def is_embedding(self) -> bool:
        """Whether it makes embeddings instead of text."""
        return "embedding" in self.capabilities

    @property
    def is_encoder(self) -> bool:
        """Whether its tokens see those after them, and nothing is kept between requests."""
        first = self.layers[0]
        return first.attention != "none" and first.cache_layer is None

    @property
    def runs(self) -> int:
        """How often its layers run for one token."""
        return max(1, self.number(LOOPS, 1)) if traits(self.architecture).repeats_layers else 1

    def number(self, key: str, default: int = 0) -> int:
        """A number of the architecture's metadata, by its key without prefix."""
        return self.numbers.get(key, default)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; layers by column."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        plain["capabilities"] = list(self.capabilities)
        plain["layers"] = {
            one.name: [getattr(layer, one.name) for layer in self.layers] for one in fields(LayerShape)
        }
        plain["forms"] = [{name: list(shape) for name, shape in form} for form in self.forms]
        plain["model_form"] = {name: list(shape) for name, shape in self.model_form}
        plain["tower"] = None if self.tower is None else asdict(self.tower)
        plain["numbers"] = dict(self.numbers)
        plain["parameters"] = dict(self.parameters)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ModelShape:
        """The shape that `to_dict` made the data of.

        Raises: ValueError when a field is missing, unknown or of another kind.
        """
        if not isinstance(plain, Mapping):
            raise ValueError(f"a model's shape is {type(plain).__name__}, expected a mapping")
        values = {"tower": None, "ahead_bytes": 0, "half_row_elements": 0, "largest_tensor_bytes": 0, **plain}
        missing = [one.name for one in fields(cls) if one.name not in values]
        unknown = sorted(set(values) - {one.name for one in fields(cls)})
        if missing or unknown:
            wrong = f"lacks {', '.join(missing)}" if missing else f"has the unknown field {shown(unknown[0])}"
            raise ValueError(f"the shape of model {values.get('name', '?')} {wrong}: gather the models again")
        try:
            values["forms"] = tuple(_form_from(form) for form in values["forms"])
            values["model_form"] = _form_from(values["model_form"])
            values["capabilities"] = tuple(str(one) for one in values["capabilities"])
            columns = [values["layers"][one.name] for one in fields(LayerShape)]
            lengths = {len(column) for column in columns}
            values["tower"] = None if values["tower"] is None else Tower(**values["tower"])
            values["layers"] = tuple(LayerShape(*row) for row in zip(*columns))
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"the shape of model {values['name']} is damaged: {error}") from error
        if len(lengths) > 1:
            raise ValueError(f"the shape of model {values['name']} has layers of which it does not tell all")
        return cls(**values)


def _form_from(plain: Mapping[str, Sequence[int]]) -> Form:
    if len(plain) > MAX_TENSORS:
        raise ValueError(f"tensors are {len(plain)}, expected at most {MAX_TENSORS}")
    return tuple((str(name), _checked_lengths(str(name), shape)) for name, shape in plain.items())


def _checked_lengths(name: str, shape: Any) -> tuple[int, ...]:
    """The lengths of a tensor, the row first."""
    if (
        not isinstance(shape, (list, tuple))
        or len(shape) > MAX_DIMENSIONS
        or not all(
            isinstance(length, int) and not isinstance(length, bool) and 0 < length <= MAX_DIMENSION
            for length in shape
        )
    ):
        raise ValueError(f"tensor {name[:60]} has the shape {shown(shape)}, expected up to four lengths")
    return tuple(shape)


def _checked_tensors(tensors: Any) -> list[tuple[str, str, tuple[int, ...]]]:
    if not isinstance(tensors, (list, tuple)) or not tensors:
        raise ValueError("tensors are missing: the header ends before its tensor list")
    if len(tensors) > MAX_TENSORS:
        raise ValueError(f"tensors are {len(tensors)}, expected at most {MAX_TENSORS}")
    checked = []
    for entry in tensors:
        if not isinstance(entry, (list, tuple)) or len(entry) != 3:
            raise ValueError(f"tensor {str(entry)[:60]} is not a name, a type and a shape")
        name, type_name, shape = entry
        if (
            not isinstance(name, str)
            or not isinstance(type_name, str)
            or not isinstance(shape, (list, tuple))
        ):
            raise ValueError(f"tensor {str(name)[:60]} is not a name, a type and a shape")
        checked.append((name, type_name, _checked_lengths(name, shape)))
    return checked


def _bounded_bytes(key: str, value: Any) -> int:
    if not is_number(value):
        raise ValueError(f"{key} is {shown(value)}, expected 0 to {MAX_NUMBER} bytes")
    return int(value)


@dataclass
class _Weights:
    """Where the tensors of a header go."""

    layer_bytes: list[int]
    layer_tensors: list[dict[str, tuple[int, ...]]]
    model_tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    input_host_bytes: int = 0
    first_layer_bytes: int = 0
    output_bytes: int = 0
    per_device_bytes: int = 0
    projector_bytes: int = 0
    text_bytes: int = 0
    ahead_bytes: int = 0
    repacked_bytes: int = 0
    tensor_count: int = 0
    largest_bytes: int = 0


def _placed_weights(
    metadata: Metadata, tensors: list[tuple[str, str, tuple[int, ...]]], block_count: int, used_layers: int
) -> _Weights:
    weights = _Weights([0] * block_count, [{} for _unused in range(block_count)])
    tied_bytes = tied_data_bytes = tied_repacked_bytes = 0
    for name, type_name, shape in tensors:
        data_bytes = tensor_bytes(type_name, shape)
        if _compat.is_projector_tensor(name):
            weights.projector_bytes += data_bytes
            continue
        size_bytes = cuda_tensor_bytes(type_name, shape)
        weights.tensor_count += 1
        weights.text_bytes += data_bytes
        repacked_bytes = data_bytes if is_repacked(type_name, shape) else 0
        if name not in INPUT_TENSORS:
            weights.repacked_bytes += repacked_bytes
        block = BLOCK_NAME.match(name)
        if block:
            layer = int(block.group(1))
            if layer >= block_count:
                raise ValueError(f"tensor {name[:60]} is of block {layer}, but block_count is {block_count}")
            weights.layer_tensors[layer][block.group(2)] = shape
            # Layers that only predict further tokens ahead are not loaded.
            if layer < used_layers:
                weights.layer_bytes[layer] += size_bytes
                weights.largest_bytes = max(weights.largest_bytes, size_bytes)
            else:
                weights.ahead_bytes += size_bytes
            continue
        weights.model_tensors[name] = shape
        if name in INPUT_TENSORS:
            weights.input_host_bytes += data_bytes
            if name == EMBEDDING_TENSOR:
                tied_bytes, tied_data_bytes = size_bytes, data_bytes
                tied_repacked_bytes = repacked_bytes
        elif name.startswith(FIRST_BLOCK_PREFIXES):
            weights.first_layer_bytes += size_bytes
        elif name.startswith(PER_DEVICE_PREFIXES):
            weights.per_device_bytes += size_bytes
        else:
            weights.output_bytes += size_bytes
    own = traits(metadata.architecture)
    if OUTPUT_TENSOR not in weights.model_tensors and not own.is_headless and not own.reads_embeddings_in_place:
        weights.output_bytes += tied_bytes
        # The copy as output is repacked, the one that is looked up is not: then both exist, on a CPU too.
        weights.repacked_bytes += tied_repacked_bytes
        if tied_repacked_bytes or traits(metadata.architecture).is_tied_twice:
            weights.text_bytes += tied_data_bytes
    return weights


def _half_row_elements(tensors: Sequence[tuple[str, str, tuple[int, ...]]], experts_used: int) -> int:
    """Elements per token, of two bytes, of the copies that a product with half-precision weights takes at the most.

    Operand and result of a plain one; of chosen experts both for each of them, the results in single precision, and once
    more what one expert makes. Embeddings are looked up, and the output makes the last token of each slot only.
    Source: llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu, ggml_cuda_mul_mat_cublas_impl and ggml_cuda_mul_mat_id (b11218)
    """
    most = 0
    for name, type_name, shape in tensors:
        if type_name not in HALF_TYPES or len(shape) < 2 or name in INPUT_TENSORS or name == OUTPUT_TENSOR:
            continue
        if _compat.is_projector_tensor(name):
            continue
        if len(shape) > 2 and EXPERTS in name:
            most = max(most, experts_used * (shape[0] + 2 * shape[1]) + shape[1])
        else:
            most = max(most, (shape[0] + shape[1]) * math.prod(shape[2:]))
    return min(most, MAX_NUMBER)


def _layer_shapes(
    metadata: Metadata, weights: _Weights, used_layers: int
) -> tuple[tuple[LayerShape, ...], tuple[Form, ...]]:
    block_count = len(weights.layer_bytes)
    heads = metadata.per_layer("attention.head_count", block_count, default=0)
    heads_kv = heads
    if metadata.has("attention.head_count_kv"):
        heads_kv = metadata.per_layer("attention.head_count_kv", block_count)
    feed_forward = metadata.per_layer("feed_forward_length", block_count, default=0)
    head_length = metadata.integer("embedding_length") // heads[0] if heads[0] else 0
    lengths = {}
    for key in ("key_length", "value_length"):
        full = metadata.integer(f"attention.{key}", default=head_length)
        lengths["full", key] = full
        lengths["sliding", key] = metadata.integer(f"attention.{key}_swa", default=full)
    forms: dict[Form, int] = {}
    layers = []
    memories = layer_memories(metadata, used_layers)
    for layer in range(block_count):
        form = tuple(sorted(weights.layer_tensors[layer].items()))
        memory = memories[layer] if layer < used_layers else None
        attention = memory.attention if memory else "none"
        kind = "sliding" if attention == "sliding" else "full"
        layers.append(
            LayerShape(
                weights_bytes=weights.layer_bytes[layer],
                form=forms.setdefault(form, len(forms)),
                attention=attention,
                cache_layer=memory.cache_layer if memory else None,
                is_recurrent=memory.is_recurrent if memory else False,
                head_count=heads[layer],
                head_count_kv=heads_kv[layer],
                key_length=lengths[kind, "key_length"],
                value_length=lengths[kind, "value_length"],
                feed_forward_length=feed_forward[layer],
            )
        )
    return tuple(layers), tuple(forms)


def _repeated(layers: tuple[LayerShape, ...], metadata: Metadata) -> tuple[LayerShape, ...]:
    """The layers as they run: where a model runs them again, each run has a cache of its own and weights of the first.

    Source: llama.cpp src/models/nanbeige.cpp, load_arch_hparams and load_arch_tensors (b11218)
    """
    if not traits(metadata.architecture).repeats_layers:
        return layers
    most = MAX_LAYERS // len(layers)
    count = len(layers)
    return layers + tuple(
        replace(layer, weights_bytes=0, cache_layer=None if layer.cache_layer is None else run * count + layer.cache_layer)
        for run in range(1, metadata.integer(LOOPS, default=1, minimum=1, maximum=most))
        for layer in layers
    )


def _capabilities(metadata: Metadata, has_projector: bool, given: Sequence[str]) -> tuple[str, ...]:
    """Source: Ollama server/images.go, Capabilities (v0.33.0)."""
    found = set(given)
    if metadata.has("pooling_type"):
        found.add("embedding")
    if has_projector or metadata.has("vision.block_count"):
        found.add("vision")
    return tuple(sorted(found))


def shape_from_header(
    header: Mapping[str, Any],
    *,
    name: str,
    digest: str = "",
    family: str = "",
    projector_bytes: int = 0,
    projector_metadata: Mapping[str, Any] | None = None,
    adapter_bytes: int = 0,
    capabilities: Sequence[str] = (),
    num_ctx: int | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> ModelShape:
    """Shape of the model that a GGUF header describes.

    header: {'file_bytes', 'quantization', 'metadata': flat GGUF keys (long arrays as {'array_length': n}),
    'tensors': [[name, type name, shape], ...]}. projector_metadata: of the projector's own file, if it has one.
    Raises: ValueError naming the key that is missing, of the wrong kind or out of bounds.
    """
    if not isinstance(header, Mapping) or not isinstance(header.get("metadata"), Mapping):
        raise ValueError(f"metadata of model {name} is missing: this is not the header of a GGUF file")
    values, tensors = _compat.translated(header["metadata"], _checked_tensors(header.get("tensors")))
    metadata = Metadata(values)
    block_count = metadata.integer("block_count", minimum=1, maximum=MAX_LAYERS)
    embedding_length = metadata.integer("embedding_length", minimum=1)
    ahead = metadata.integer("nextn_predict_layers", default=0)
    if ahead >= block_count:
        raise ValueError(f"{metadata.architecture}.nextn_predict_layers is {ahead} of {block_count} layers")
    used_layers = block_count - ahead
    weights = _placed_weights(metadata, tensors, block_count, used_layers)
    layers, forms = _layer_shapes(metadata, weights, used_layers)
    layers = _repeated(layers, metadata)
    heads = max(layer.head_count for layer in layers)
    is_latent = bool(
        metadata.integer("attention.key_length_mla", default=0)
        and metadata.integer("attention.value_length_mla", default=0)
    )
    vocabulary = (
        weights.model_tensors.get(OUTPUT_TENSOR) or weights.model_tensors.get(EMBEDDING_TENSOR) or (0, 0)
    )
    projector_bytes = _bounded_bytes("projector_bytes", projector_bytes)
    tower = None
    if projector_bytes or weights.projector_bytes:
        separate = projector_metadata if projector_bytes else None
        if separate is not None and not isinstance(separate, Mapping):
            raise ValueError(f"projector_metadata is {shown(separate)}, expected a mapping")
        if separate or not projector_bytes:
            tower = tower_of(metadata.architecture, values, tensors, separate or {})
    return ModelShape(
        name=name,
        digest=digest,
        family=family or metadata.architecture,
        architecture=metadata.architecture,
        quantization=str(header.get("quantization") or "unknown")[:40],
        file_bytes=_bounded_bytes("file_bytes", header.get("file_bytes")),
        projector_bytes=projector_bytes,
        inline_projector_bytes=weights.projector_bytes,
        adapter_bytes=_bounded_bytes("adapter_bytes", adapter_bytes),
        capabilities=_capabilities(metadata, bool(projector_bytes or weights.projector_bytes), capabilities),
        context_length_trained=metadata.integer("context_length", default=0),
        num_ctx=num_ctx,
        block_count=len(layers),
        embedding_length=embedding_length,
        vocabulary_size=min(vocabulary[-1], MAX_INTEGER),
        sliding_window=sliding_window(metadata),
        convolution_state_size=convolution_state_size(metadata, heads),
        recurrent_state_size=recurrent_state_size(metadata, heads),
        is_latent_attention=is_latent,
        input_host_bytes=weights.input_host_bytes,
        first_layer_bytes=weights.first_layer_bytes,
        output_bytes=weights.output_bytes,
        per_device_bytes=weights.per_device_bytes,
        text_bytes=weights.text_bytes,
        repacked_bytes=weights.repacked_bytes,
        tensor_count=weights.tensor_count,
        layers=layers,
        forms=forms,
        model_form=tuple(sorted(weights.model_tensors.items())),
        tower=tower,
        numbers=metadata.numbers(),
        parameters=dict(parameters or {}),
        ahead_bytes=weights.ahead_bytes,
        half_row_elements=_half_row_elements(tensors, metadata.integer("expert_used_count", default=1)),
        largest_tensor_bytes=weights.largest_bytes,
    )
