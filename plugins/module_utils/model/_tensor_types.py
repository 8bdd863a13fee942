# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage of ggml tensors: how many bytes an element type takes, on disk and in a CUDA buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# CUDA buffers align every tensor to this many bytes.
# Source: llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu, ggml_backend_cuda_buffer_type_get_alignment (b10488)
CUDA_ALIGNMENT_BYTES = 128
# A quantised tensor whose rows are no multiple of this many elements gets room for the missing ones.
# Source: llama.cpp ggml/src/ggml-cuda/common.cuh, MATRIX_ROW_PADDING (b10488)
CUDA_ROW_PADDING = 512


class TensorType(NamedTuple):
    """An element type of ggml: `block_bytes` bytes hold `block_elements` elements."""

    number: int
    block_elements: int
    block_bytes: int

    @property
    def is_quantised(self) -> bool:
        """Whether several elements share a block."""
        return self.block_elements > 1


# Source: llama.cpp ggml/include/ggml.h (enum ggml_type) and ggml/src/ggml-common.h (sizes of the blocks),
# b10488
TENSOR_TYPES: dict[str, TensorType] = {
    "F32": TensorType(0, 1, 4),
    "F16": TensorType(1, 1, 2),
    "Q4_0": TensorType(2, 32, 18),
    "Q4_1": TensorType(3, 32, 20),
    "Q5_0": TensorType(6, 32, 22),
    "Q5_1": TensorType(7, 32, 24),
    "Q8_0": TensorType(8, 32, 34),
    "Q8_1": TensorType(9, 32, 36),
    "Q2_K": TensorType(10, 256, 84),
    "Q3_K": TensorType(11, 256, 110),
    "Q4_K": TensorType(12, 256, 144),
    "Q5_K": TensorType(13, 256, 176),
    "Q6_K": TensorType(14, 256, 210),
    "Q8_K": TensorType(15, 256, 292),
    "IQ2_XXS": TensorType(16, 256, 66),
    "IQ2_XS": TensorType(17, 256, 74),
    "IQ3_XXS": TensorType(18, 256, 98),
    "IQ1_S": TensorType(19, 256, 50),
    "IQ4_NL": TensorType(20, 32, 18),
    "IQ3_S": TensorType(21, 256, 110),
    "IQ2_S": TensorType(22, 256, 82),
    "IQ4_XS": TensorType(23, 256, 136),
    "I8": TensorType(24, 1, 1),
    "I16": TensorType(25, 1, 2),
    "I32": TensorType(26, 1, 4),
    "I64": TensorType(27, 1, 8),
    "F64": TensorType(28, 1, 8),
    "IQ1_M": TensorType(29, 256, 56),
    "BF16": TensorType(30, 1, 2),
    "TQ1_0": TensorType(34, 256, 54),
    "TQ2_0": TensorType(35, 256, 66),
    "MXFP4": TensorType(39, 32, 17),
    "NVFP4": TensorType(40, 64, 36),
    "Q1_0": TensorType(41, 128, 18),
    "Q2_0": TensorType(42, 64, 18),
}


REPACKED_TYPES = frozenset(("Q4_0", "Q4_K", "IQ4_NL", "MXFP4"))
REPACKED_ROWS = 8


def row_bytes(type_name: str, elements: int) -> int:
    """Bytes of `elements` elements that lie one after the other, whole blocks only.

    Raises: ValueError when the type is unknown.
    """
    tensor_type = TENSOR_TYPES.get(type_name)
    if tensor_type is None:
        raise ValueError(f"tensor type {type_name!r} is unknown; known are {', '.join(sorted(TENSOR_TYPES))}")
    return -(-elements // tensor_type.block_elements) * tensor_type.block_bytes


def tensor_bytes(type_name: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor's data; `shape` is in ggml's order, the row first."""
    rows = 1
    for length in shape[1:]:
        rows *= length
    return row_bytes(type_name, shape[0] if shape else 1) * rows


def is_repacked(type_name: str, shape: Sequence[int]) -> bool:
    """Whether a CPU with AVX2 or NEON keeps a matrix of this type and shape in another layout.

    Source: llama.cpp ggml/src/ggml-cpu/repack.cpp, ggml_repack_get_optimal_repack_type (b10488).
    """
    return type_name in REPACKED_TYPES and len(shape) in (2, 3) and shape[1] % REPACKED_ROWS == 0


def aligned_bytes(size_bytes: int) -> int:
    """Size rounded up to the alignment of CUDA buffers."""
    return -(-size_bytes // CUDA_ALIGNMENT_BYTES) * CUDA_ALIGNMENT_BYTES


def cuda_tensor_bytes(type_name: str, shape: Sequence[int]) -> int:
    """Bytes that a tensor takes in a CUDA buffer, padding and alignment included.

    Source: llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu, ggml_backend_cuda_buffer_type_get_alloc_size (b10488).
    """
    size_bytes = tensor_bytes(type_name, shape)
    if TENSOR_TYPES[type_name].is_quantised and shape and shape[0] % CUDA_ROW_PADDING:
        size_bytes += row_bytes(type_name, CUDA_ROW_PADDING - shape[0] % CUDA_ROW_PADDING)
    return aligned_bytes(size_bytes)
