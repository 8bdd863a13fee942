# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes GGUF files with a real header and a sparse body, from the header JSON of tests/data/headers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Value types of the GGUF format. Source: ggml/docs/gguf.md, versions 2 and 3.
UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
SCALAR_FORMAT = {
    UINT8: "<B", INT8: "<b", UINT16: "<H", INT16: "<h", UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?",
    UINT64: "<Q", INT64: "<q", FLOAT64: "<d",
}  # fmt: skip

# Tensor types: number in the file, elements in a block, bytes of a block. Source: ggml.h and ggml-common.h.
TENSOR_TYPES = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "I32": (26, 1, 4),
    "BF16": (30, 1, 2), "MXFP4": (39, 32, 17),
}  # fmt: skip

# The number that Ollama's first gpt-oss files have for MXFP4. Source: ollama v0.33.0-rc2, fs/ggml/type.go.
OLLAMA_MXFP4 = "MXFP4 as number 4"
TENSOR_TYPES[OLLAMA_MXFP4] = (4, 32, 17)

ALIGNMENT_BYTES = 32


def write_gguf(
    path: Path,
    header: dict[str, Any],
    *,
    version: int = 3,
    file_bytes: int | None = None,
    token: Callable[[int], str] = "t{}".format,
) -> None:
    """Write the header and leave the tensor data as a hole, so that the file has its size but takes no room.

    The file is `file_bytes` long (default: the header JSON's own), and never shorter than its tensors need.
    """
    head = header_bytes(header, version=version, token=token)
    size = len(head) + tensor_data_bytes(header["tensors"])
    if file_bytes is None:
        file_bytes = header.get("file_bytes")
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(max(size, file_bytes or 0))


def header_bytes(
    header: dict[str, Any], *, version: int = 3, token: Callable[[int], str] = "t{}".format
) -> bytes:
    """Everything before the tensor data, padded to the alignment."""
    metadata = header["metadata"]
    parts = [b"GGUF", struct.pack("<IQQ", version, len(header["tensors"]), len(metadata))]
    for key, value in metadata.items():
        parts.append(_string(key))
        parts.extend(_typed_value(key, value, token))
    offset = 0
    for name, type_name, shape in header["tensors"]:
        number = TENSOR_TYPES[type_name][0]
        parts.append(_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, number, offset))
        offset += _padded(tensor_bytes(type_name, shape))
    head = b"".join(parts)
    return head + bytes(_padded(len(head)) - len(head))


def tensor_data_bytes(tensors: list[Any]) -> int:
    return sum(_padded(tensor_bytes(type_name, shape)) for _name, type_name, shape in tensors)


def tensor_bytes(type_name: str, shape: list[int]) -> int:
    _number, block_elements, block_bytes = TENSOR_TYPES[type_name]
    elements = 1
    for width in shape:
        elements *= width
    return elements // block_elements * block_bytes


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _typed_value(key: str, value: Any, token: Callable[[int], str]) -> Iterator[bytes]:
    if isinstance(value, dict):
        yield from _array_of_length(key, value["array_length"], token)
    elif isinstance(value, list):
        element_type = _array_type(value)
        yield struct.pack("<IIQ", ARRAY, element_type, len(value))
        for element in value:
            yield _scalar(element_type, element)
    else:
        value_type = _scalar_type(value)
        yield struct.pack("<I", value_type) + _scalar(value_type, value)


def _array_of_length(key: str, length: int, token: Callable[[int], str]) -> Iterator[bytes]:
    """Stand in for an array that the header JSON gives by its length only."""
    if key.endswith(".token_type"):
        yield struct.pack("<IIQ", ARRAY, INT32, length) + struct.pack("<i", 1) * length
    elif key.endswith(".scores"):
        yield struct.pack("<IIQ", ARRAY, FLOAT32, length) + struct.pack("<f", -1000.0) * length
    else:
        yield struct.pack("<IIQ", ARRAY, STRING, length)
        for index in range(length):
            yield _string(token(index))


def _scalar_type(value: Any) -> int:
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, float):
        return FLOAT32
    if isinstance(value, int):
        if value < 0:
            return INT32 if value >= -(2**31) else INT64
        return UINT32 if value < 2**32 else UINT64
    return STRING


def _array_type(values: list[Any]) -> int:
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return INT32 if all(-(2**31) <= value < 2**31 for value in values) else INT64
    return _scalar_type(values[0]) if values else STRING


def _scalar(value_type: int, value: Any) -> bytes:
    if value_type == STRING:
        return _string(str(value))
    return struct.pack(SCALAR_FORMAT[value_type], value)
