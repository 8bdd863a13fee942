# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The element types of ggml tensors: their numbers in a GGUF file, their names and their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Sequence


@dataclass(frozen=True)
class TensorType:
    """One element type: a block of `block_elements` elements takes `block_bytes` bytes."""

    number: int
    name: str
    block_elements: int
    block_bytes: int

    def size_bytes(self, shape: Sequence[int]) -> int:
        """Bytes of a tensor whose widths are `shape`, the first one contiguous in memory."""
        elements = 1
        for width in shape:
            elements *= width
        return elements // self.block_elements * self.block_bytes


# Source: llama.cpp b10488, ggml/include/ggml.h (numbers) and ggml/src/ggml-common.h (blocks).
_TENSOR_TYPES = (
    TensorType(0, "F32", 1, 4),
    TensorType(1, "F16", 1, 2),
    TensorType(2, "Q4_0", 32, 18),
    TensorType(3, "Q4_1", 32, 20),
    TensorType(6, "Q5_0", 32, 22),
    TensorType(7, "Q5_1", 32, 24),
    TensorType(8, "Q8_0", 32, 34),
    TensorType(9, "Q8_1", 32, 36),
    TensorType(10, "Q2_K", 256, 84),
    TensorType(11, "Q3_K", 256, 110),
    TensorType(12, "Q4_K", 256, 144),
    TensorType(13, "Q5_K", 256, 176),
    TensorType(14, "Q6_K", 256, 210),
    TensorType(15, "Q8_K", 256, 292),
    TensorType(16, "IQ2_XXS", 256, 66),
    TensorType(17, "IQ2_XS", 256, 74),
    TensorType(18, "IQ3_XXS", 256, 98),
    TensorType(19, "IQ1_S", 256, 50),
    TensorType(20, "IQ4_NL", 32, 18),
    TensorType(21, "IQ3_S", 256, 110),
    TensorType(22, "IQ2_S", 256, 82),
    TensorType(23, "IQ4_XS", 256, 136),
    TensorType(24, "I8", 1, 1),
    TensorType(25, "I16", 1, 2),
    TensorType(26, "I32", 1, 4),
    TensorType(27, "I64", 1, 8),
    TensorType(28, "F64", 1, 8),
    TensorType(29, "IQ1_M", 256, 56),
    TensorType(30, "BF16", 1, 2),
    TensorType(34, "TQ1_0", 256, 54),
    TensorType(35, "TQ2_0", 256, 66),
    TensorType(39, "MXFP4", 32, 17),
    TensorType(40, "NVFP4", 64, 36),
    TensorType(41, "Q1_0", 128, 18),
)

# Ollama's first MXFP4 files (gpt-oss, 2025) use a number that ggml had retired.
# Source: ollama v0.33.0-rc2, fs/ggml/type.go.
_OLLAMA_MXFP4_NUMBER = 4

TENSOR_TYPES_BY_NAME: Dict[str, TensorType] = {tensor_type.name: tensor_type for tensor_type in _TENSOR_TYPES}
TENSOR_TYPES_BY_NUMBER: Dict[int, TensorType] = {
    tensor_type.number: tensor_type for tensor_type in _TENSOR_TYPES
}
TENSOR_TYPES_BY_NUMBER[_OLLAMA_MXFP4_NUMBER] = TENSOR_TYPES_BY_NAME["MXFP4"]
