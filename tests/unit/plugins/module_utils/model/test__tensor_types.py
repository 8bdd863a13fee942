# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tensor_types import (
    TENSOR_TYPES,
    cuda_tensor_bytes,
    is_repacked,
    row_bytes,
    tensor_bytes,
)


@pytest.mark.parametrize(
    ("type_name", "shape", "size"),
    [
        ("F32", (2560,), 10240),
        ("F16", (64, 3), 384),
        ("BF16", (64, 3, 2), 768),
        ("Q8_0", (1152, 262144), 1152 // 32 * 34 * 262144),
        ("Q4_0", (32,), 18),
        ("Q4_K", (2560, 10240), 2560 // 256 * 144 * 10240),
        ("Q6_K", (512, 1), 420),
        ("MXFP4", (2880, 2880, 32), 2880 // 32 * 17 * 2880 * 32),
        ("F32", (), 4),
    ],
)
def test_bytes_of_a_tensor(type_name: str, shape: tuple[int, ...], size: int) -> None:
    assert tensor_bytes(type_name, shape) == size


def test_a_row_is_whole_blocks() -> None:
    assert row_bytes("Q4_0", 33) == 2 * 18


def test_on_a_gpu_quantised_rows_are_padded_to_512_elements() -> None:
    # The padding is once per tensor, and the sum is aligned to 128 bytes.
    assert cuda_tensor_bytes("Q4_0", (1152, 10)) == 6784
    assert tensor_bytes("Q4_0", (1152, 10)) + row_bytes("Q4_0", 384) == 6696
    assert cuda_tensor_bytes("Q4_0", (512, 4)) == 1152
    assert cuda_tensor_bytes("F32", (1152,)) == 4608


def test_a_type_nobody_knows_is_named() -> None:
    with pytest.raises(ValueError, match="tensor type 'Q9_9' is unknown; known are BF16, F16"):
        tensor_bytes("Q9_9", (32,))


@pytest.mark.parametrize(
    ("type_name", "shape", "repacked"),
    [("Q4_K", (256, 8), True), ("Q4_K", (256, 7), False), ("Q6_K", (256, 8), False), ("Q4_0", (256,), False)],
)
def test_what_a_cpu_keeps_in_another_layout(type_name: str, shape: tuple[int, ...], repacked: bool) -> None:
    assert is_repacked(type_name, shape) is repacked


def test_every_number_is_one_types() -> None:
    numbers = [one.number for one in TENSOR_TYPES.values()]
    assert len(numbers) == len(set(numbers))
