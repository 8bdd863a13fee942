# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The header that a model would have, made of its published architecture numbers, before its file is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.gpufleet.ollama.plugins.module_utils.model._architectures import Recurrence, traits
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._metadata import MAX_LAYERS
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tensor_types import tensor_bytes

MOST = 1 << 24


class Quantization(NamedTuple):
    """Element types of a quantization: of most weights, of the sensitive ones, of the output."""

    base: str
    sensitive: str
    output: str


# Source: llama.cpp src/llama-quant.cpp, llama_tensor_get_type_impl (b10488)
QUANTIZATIONS: Mapping[str, Quantization] = {
    "F16": Quantization("F16", "F16", "F16"),
    "BF16": Quantization("BF16", "BF16", "BF16"),
    "Q8_0": Quantization("Q8_0", "Q8_0", "Q8_0"),
    "Q6_K": Quantization("Q6_K", "Q6_K", "Q6_K"),
    "Q5_K_M": Quantization("Q5_K", "Q6_K", "Q6_K"),
    "Q4_K_M": Quantization("Q4_K", "Q6_K", "Q6_K"),
    "Q4_0": Quantization("Q4_0", "Q4_0", "Q6_K"),
}
DEFAULT_QUANTIZATION = "Q4_K_M"

REQUIRED = (
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "head_count",
    "context_length",
    "vocabulary_size",
)
# Numbers that go into the metadata under the architecture's prefix, by their name here.
METADATA_KEYS: Mapping[str, str] = {
    "block_count": "block_count",
    "embedding_length": "embedding_length",
    "feed_forward_length": "feed_forward_length",
    "context_length": "context_length",
    "vocabulary_size": "vocab_size",
    "head_count": "attention.head_count",
    "head_count_kv": "attention.head_count_kv",
    "key_length": "attention.key_length",
    "value_length": "attention.value_length",
    "sliding_window": "attention.sliding_window",
    "expert_count": "expert_count",
    "expert_used_count": "expert_used_count",
    "expert_feed_forward_length": "expert_feed_forward_length",
}


def header_from_numbers(numbers: Any) -> dict[str, Any]:
    """The header of a model of these numbers, for `shape_from_header`.

    `architecture` is llama.cpp's name. Required are the numbers of REQUIRED; others are those of METADATA_KEYS,
    `quantization` (default Q4_K_M), `tied_output` (no output matrix of its own, default false) and `file_bytes`
    (default: the sum of the weights). Weights are those of a plain transformer with a gated feed-forward network,
    so they are near the truth and not exact.

    Raises: ValueError that names the number and what is wrong with it.
    """
    if not isinstance(numbers, Mapping):
        raise ValueError(f"numbers must be a mapping of architecture numbers, found {numbers!r:.80}")
    architecture = numbers.get("architecture")
    if not isinstance(architecture, str) or not architecture:
        raise ValueError(
            f"architecture must be llama.cpp's name of it, such as llama, found {architecture!r:.80}"
        )
    if traits(architecture).recurrence is not Recurrence.NONE:
        raise ValueError(
            f"{architecture} has recurrent layers, which numbers do not describe: give its header"
        )
    others = ("architecture", "quantization", "tied_output", "file_bytes")
    unknown = sorted(set(numbers) - set(METADATA_KEYS) - set(others))
    if unknown:
        raise ValueError(
            f"{unknown[0]} is no architecture number; known are {', '.join(sorted(METADATA_KEYS))}"
        )
    checked = {key: _checked(numbers, key) for key in METADATA_KEYS if key in numbers or key in REQUIRED}
    quantization = _quantization(numbers.get("quantization", DEFAULT_QUANTIZATION))
    tensors = _tensors(checked, quantization, tied_output=bool(numbers.get("tied_output", False)))
    file_bytes = numbers.get(
        "file_bytes", sum(tensor_bytes(type_name, shape) for _name, type_name, shape in tensors)
    )
    return {
        "file_bytes": file_bytes,
        "quantization": numbers.get("quantization", DEFAULT_QUANTIZATION),
        "metadata": {
            "general.architecture": architecture,
            **{f"{architecture}.{METADATA_KEYS[key]}": value for key, value in checked.items()},
        },
        "tensors": tensors,
    }


def _checked(numbers: Mapping[str, Any], key: str) -> int:
    value = numbers.get(key)
    most = MAX_LAYERS if key == "block_count" else MOST
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"{key} must be a whole number from 1 to {most}, found {value!r:.80}")
    return value


def _quantization(name: Any) -> Quantization:
    if name not in QUANTIZATIONS:
        raise ValueError(f"quantization must be one of {', '.join(QUANTIZATIONS)}, found {name!r:.80}")
    return QUANTIZATIONS[name]


def _tensors(
    numbers: Mapping[str, int], quantization: Quantization, *, tied_output: bool
) -> list[tuple[str, str, list[int]]]:
    """The weights of a plain transformer: name, element type and shape of each."""
    embedding, vocabulary = numbers["embedding_length"], numbers["vocabulary_size"]
    base, sensitive, output = quantization
    tensors = [("token_embd.weight", output if tied_output else base, [embedding, vocabulary])]
    for block in range(numbers["block_count"]):
        better = sensitive if _uses_more_bits(block, numbers["block_count"]) else base
        for name, type_name, shape in _block(numbers, base, better):
            tensors.append((f"blk.{block}.{name}.weight", type_name, shape))
    tensors.append(("output_norm.weight", "F32", [embedding]))
    if not tied_output:
        tensors.append(("output.weight", output, [embedding, vocabulary]))
    return tensors


def _block(numbers: Mapping[str, int], base: str, better: str) -> list[tuple[str, str, list[int]]]:
    embedding, heads = numbers["embedding_length"], numbers["head_count"]
    heads_kv = numbers.get("head_count_kv", heads)
    key = numbers.get("key_length", embedding // heads)
    value = numbers.get("value_length", key)
    attention = [
        ("attn_norm", "F32", [embedding]),
        ("attn_q", base, [embedding, heads * key]),
        ("attn_k", base, [embedding, heads_kv * key]),
        ("attn_v", better, [embedding, heads_kv * value]),
        ("attn_output", base, [heads * value, embedding]),
        ("ffn_norm", "F32", [embedding]),
    ]
    experts = numbers.get("expert_count", 0)
    width = numbers["feed_forward_length"]
    if not experts:
        return [
            *attention,
            ("ffn_gate", base, [embedding, width]),
            ("ffn_up", base, [embedding, width]),
            ("ffn_down", better, [width, embedding]),
        ]
    width = numbers.get("expert_feed_forward_length", width)
    return [
        *attention,
        ("ffn_gate_inp", "F32", [embedding, experts]),
        ("ffn_gate_exps", base, [embedding, width, experts]),
        ("ffn_up_exps", base, [embedding, width, experts]),
        ("ffn_down_exps", better, [width, embedding, experts]),
    ]


def _uses_more_bits(block: int, block_count: int) -> bool:
    """Source: llama.cpp src/llama-quant.cpp, use_more_bits (b10488)."""
    eighth = block_count // 8
    return block < eighth or block >= 7 * block_count // 8 or (block - eighth) % 3 == 2
