# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the header of a GGUF file: its metadata and tensor list, never the weights or the tokens.

Source: llama.cpp b10488, ggml/docs/gguf.md and ggml/src/gguf.cpp.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._files import open_regular
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tensor_types import (
    TENSOR_TYPES,
    tensor_bytes,
)

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT_BYTES = 32

# What one read fetches from the file: small enough to stay in the processor's cache.
BLOCK_BYTES = 256 * 1024

# No published model comes near these; a file beyond them is damaged or hostile.
MAX_KEYS = 8192
MAX_KEY_BYTES = 1024
MAX_TENSORS = 16384
MAX_TENSOR_NAME_BYTES = 256
MAX_STRINGS = 4 * 1024 * 1024
MAX_HEADER_BYTES = 256 * 1024 * 1024
MAX_SPLITS = 1024
# Source: llama.cpp b10488, ggml/include/ggml.h, GGML_MAX_DIMS.
MAX_DIMENSIONS = 4

# Longer values say nothing about memory (chat templates, tokens) and are given by their length.
MAX_KEPT_STRING_BYTES = 1024
MAX_KEPT_STRINGS = 16
MAX_KEPT_NUMBERS = 1024
MAX_KEPT_NUMBERS_IN_ALL = 64 * 1024

_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_UINT32 = struct.Struct("<I")
_UINT64 = struct.Struct("<Q")

_TENSOR_TYPE_NAMES = {tensor_type.number: name for name, tensor_type in TENSOR_TYPES.items()}
# Ollama's first MXFP4 files (gpt-oss, 2025) use a number that ggml had retired.
# Source: ollama v0.33.0-rc2, fs/ggml/type.go, TensorType.String.
_TENSOR_TYPE_NAMES[4] = "MXFP4"

# Names of general.file_type. Source: llama.cpp b10488, include/llama.h, enum llama_ftype; 4 is Ollama's own
# (v0.33.0-rc2, fs/ggml/type.go).
_FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    4: "MXFP4",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    39: "NVFP4",
    40: "Q1_0",
}

_SPLIT_NAME = re.compile(r"^(?P<prefix>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.DOTALL)


class GgufError(ValueError):
    """A file is not a GGUF file that can be read; the message names file, offset and what is wrong."""


class Readable(Protocol):
    """What is used of a file: it is read forwards."""

    def seek(self, offset: int, /) -> Any: ...

    def read(self, size: int, /) -> bytes: ...


def read_header(path: str) -> dict[str, Any]:
    """Header of the GGUF file at `path`, of all its parts when the model is split over several files.

    Returns `file_bytes` (of all parts), `quantization` (name of general.file_type, empty when absent),
    `metadata` (flat keys; arrays of tokens and other long values as {"array_length": n}) and `tensors`
    ([name, type name, widths], the first width contiguous).
    Raises: GgufError.
    """
    header = _read_file(path)
    count = _split_count(header)
    if count == 1:
        return header
    rest = [_read_file(part_path) for part_path in _split_paths(path, count)[1:]]
    return _joined(path, [header, *rest])


def read_parts(paths: Sequence[str]) -> dict[str, Any]:
    """Header of the model whose parts are the files at `paths`, in any order; as `read_header` returns it.

    Raises: GgufError.
    """
    if len(paths) > MAX_SPLITS:
        raise GgufError(f"{paths[0]} is one of {len(paths)} parts; at most {MAX_SPLITS} are read")
    return _joined(paths[0], [_read_file(path) for path in paths])


def read_header_from(file: Readable, name: str, file_bytes: int) -> dict[str, Any]:
    """Header of one GGUF file that is open, wherever it lies; as `read_header` returns it.

    name: what messages call it.
    Raises: GgufError; OSError of the file.
    """
    return _HeaderReader(file, name, file_bytes).read()


def joined(name: str, headers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The header of a model whose parts have these, in any order.

    Raises: GgufError.
    """
    return headers[0] if len(headers) == 1 else _joined(name, headers)


def _read_file(path: str) -> dict[str, Any]:
    try:
        with open_regular(path, follow_link=True) as file:
            return _HeaderReader(file, path, os.fstat(file.fileno()).st_size).read()
    except OSError as error:
        raise GgufError(f"{path} cannot be read: {error.strerror or error}") from error


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _split_count(header: Mapping[str, Any]) -> int:
    count = header["metadata"].get("split.count", 1)
    return count if _is_integer(count) and count > 1 else 1


def _split_paths(path: str, count: int) -> list[str]:
    """Paths of all parts; `path` is the first.

    Source: llama.cpp b10488, src/llama.cpp, llama_split_path and llama_split_prefix.
    """
    if count > MAX_SPLITS:
        raise GgufError(f"{path} is a part of {count}; at most {MAX_SPLITS} parts are read")
    name = _SPLIT_NAME.match(path)
    if name is None or int(name["number"]) != 1 or int(name["count"]) != count:
        raise GgufError(f"{path} is a part of {count}: name the part that ends in -00001-of-{count:05d}.gguf")
    return [f"{name['prefix']}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]


def _joined(path: str, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    numbers = [part["metadata"].get("split.no") for part in parts]
    if not all(map(_is_integer, numbers)) or sorted(numbers) != list(range(_split_count(parts[0]))):
        raise GgufError(
            f"{path}: its parts say split.no={str(numbers)[:200]}, expected 0 to {_split_count(parts[0]) - 1}"
        )
    ordered = sorted(parts, key=lambda part: int(part["metadata"]["split.no"]))
    tensors = [tensor for part in ordered for tensor in part["tensors"]]
    expected = ordered[0]["metadata"].get("split.tensors.count", len(tensors))
    if expected != len(tensors):
        raise GgufError(f"{path}: its {len(parts)} parts hold {len(tensors)} tensors, expected {expected}")
    return dict(ordered[0], file_bytes=sum(part["file_bytes"] for part in parts), tensors=tensors)


class _HeaderReader:
    """Walks through one file, a block at a time."""

    def __init__(self, file: Readable, path: str, file_bytes: int) -> None:
        self._file = file
        self._path = path
        self._file_bytes = file_bytes
        self._block = b""
        self._block_start = 0
        self._position = 0
        self._strings_left = MAX_STRINGS
        self._numbers_left = MAX_KEPT_NUMBERS_IN_ALL

    def read(self) -> dict[str, Any]:
        tensor_count, key_count = self._read_preamble()
        metadata: dict[str, Any] = {}
        for _index in range(key_count):
            key = self._read_name(MAX_KEY_BYTES, "a metadata key")
            if key in metadata:
                raise self._error(f"metadata key {key!r} stands there twice")
            metadata[key] = self._read_value(self._read_uint32(), key)
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT_BYTES)
        if not _is_integer(alignment) or alignment <= 0 or alignment & (alignment - 1):
            raise self._error(f"general.alignment is {alignment!r}, expected a power of two")
        tensors = []
        data_end = 0
        for _index in range(tensor_count):
            name, type_name, shape, offset = self._read_tensor()
            tensors.append([name, type_name, shape])
            data_end = max(data_end, offset + tensor_bytes(type_name, shape))
        data_start = -(-self._offset // alignment) * alignment
        if tensors and data_start + data_end > self._file_bytes:
            raise self._error(
                f"the tensors end at byte {data_start + data_end}, the file at {self._file_bytes}: "
                "it is truncated; pull or copy the model again"
            )
        file_type = metadata.get("general.file_type")
        return {
            "file_bytes": self._file_bytes,
            "quantization": _FILE_TYPES.get(file_type, "") if isinstance(file_type, int) else "",
            "metadata": metadata,
            "tensors": tensors,
        }

    def _read_preamble(self) -> tuple[int, int]:
        if self._file_bytes < 24:
            raise self._error(f"the file has {self._file_bytes} bytes, a GGUF file at least 24")
        magic = self._take(4)
        if magic != MAGIC:
            raise self._error(f"it does not begin with {MAGIC!r}: this is no GGUF file")
        version = self._read_uint32()
        if version not in VERSIONS:
            if version and version & 0xFFFF == 0:
                raise self._error("it is big-endian; only little-endian files are read")
            raise self._error(f"GGUF version {version} is not known, only 2 and 3 are")
        tensor_count, key_count = self._read_uint64(), self._read_uint64()
        if tensor_count > MAX_TENSORS:
            raise self._error(f"it claims {tensor_count} tensors; at most {MAX_TENSORS} are read")
        if key_count > MAX_KEYS:
            raise self._error(f"it claims {key_count} metadata keys; at most {MAX_KEYS} are read")
        return tensor_count, key_count

    def _read_tensor(self) -> tuple[str, str, list[int], int]:
        name = self._read_name(MAX_TENSOR_NAME_BYTES, "a tensor's name")
        dimensions = self._read_uint32()
        if dimensions > MAX_DIMENSIONS:
            raise self._error(f"tensor {name!r} has {dimensions} dimensions, at most {MAX_DIMENSIONS} exist")
        shape = [self._read_uint64() for _index in range(dimensions)]
        number = self._read_uint32()
        offset = self._read_uint64()
        type_name = _TENSOR_TYPE_NAMES.get(number)
        if type_name is None:
            raise self._error(f"tensor {name!r} is of type {number}, which is not known")
        return name, type_name, shape, offset

    def _read_value(self, value_type: int, key: str) -> Any:
        scalar = _SCALARS.get(value_type)
        if scalar is not None:
            return scalar.unpack(self._take(scalar.size))[0]
        if value_type == _STRING:
            return self._read_text()
        if value_type == _ARRAY:
            return self._read_array(key)
        raise self._error(f"metadata key {key!r} is of type {value_type}, which is not known")

    def _read_array(self, key: str) -> Any:
        element_type = self._read_uint32()
        count = self._read_uint64()
        scalar = _SCALARS.get(element_type)
        if scalar is not None:
            return self._read_numbers(scalar, count)
        if element_type == _STRING:
            return self._read_strings(key, count)
        if element_type == _ARRAY:
            raise self._error(f"metadata key {key!r} is an array of arrays, which no engine reads")
        raise self._error(f"metadata key {key!r} is an array of type {element_type}, which is not known")

    def _read_numbers(self, scalar: struct.Struct, count: int) -> Any:
        size = count * scalar.size
        if count > min(MAX_KEPT_NUMBERS, self._numbers_left):
            self._skip(size)
            return {"array_length": count}
        self._numbers_left -= count
        return list(struct.unpack(f"<{count}{scalar.format[-1:]}", self._take(size)))

    def _read_strings(self, key: str, count: int) -> Any:
        if count > self._strings_left:
            raise self._error(
                f"metadata key {key!r} claims {count} strings; at most {MAX_STRINGS} are read in all"
            )
        self._strings_left -= count
        if count > MAX_KEPT_STRINGS:
            self._skip_strings(count)
            return {"array_length": count}
        return [self._read_text() for _index in range(count)]

    def _skip_strings(self, count: int) -> None:
        """Step over strings, the one place where time is spent: a vocabulary has hundreds of thousands."""
        unpack_from = _UINT64.unpack_from
        while count:
            self._fill(8)
            block, position, last = self._block, self._position, len(self._block) - 8
            for left in range(count, 0, -1):
                if position > last:
                    count = left
                    break
                position += unpack_from(block, position)[0] + 8
            else:
                count = 0
            self._move_to(self._block_start + position)

    def _read_text(self) -> Any:
        length = self._read_uint64()
        if length > MAX_KEPT_STRING_BYTES:
            self._skip(length)
            return {"string_length": length}
        return self._take(length).decode("utf-8", "replace")

    def _read_name(self, limit: int, what: str) -> str:
        length = self._read_uint64()
        if length > limit:
            raise self._error(f"{what} of {length} bytes; at most {limit} are read")
        return self._take(length).decode("utf-8", "replace")

    def _read_uint32(self) -> int:
        value: int = _UINT32.unpack(self._take(4))[0]
        return value

    def _read_uint64(self) -> int:
        value: int = _UINT64.unpack(self._take(8))[0]
        return value

    def _take(self, size: int) -> bytes:
        self._fill(size)
        data = self._block[self._position : self._position + size]
        self._position += size
        return data

    def _skip(self, size: int) -> None:
        self._move_to(self._offset + size)

    @property
    def _offset(self) -> int:
        return self._block_start + self._position

    def _move_to(self, offset: int) -> None:
        if offset > min(self._file_bytes, MAX_HEADER_BYTES):
            raise self._beyond(offset)
        self._position = offset - self._block_start

    def _fill(self, size: int) -> None:
        """Have at least `size` bytes at hand from the current position on."""
        if self._position + size <= len(self._block):
            return
        offset = self._offset
        if offset + size > min(self._file_bytes, MAX_HEADER_BYTES):
            raise self._beyond(offset + size)
        self._file.seek(offset)
        self._block = self._file.read(max(size, BLOCK_BYTES))
        self._block_start, self._position = offset, 0
        if len(self._block) < size:
            raise self._beyond(offset + size)

    def _beyond(self, offset: int) -> GgufError:
        if offset > self._file_bytes:
            return self._error(f"the header goes on to byte {offset}, the file ends at {self._file_bytes}")
        return self._error(f"the header is longer than {MAX_HEADER_BYTES} bytes, which no model needs")

    def _error(self, what: str) -> GgufError:
        return GgufError(f"{self._path}, byte {self._offset}: {what}")
