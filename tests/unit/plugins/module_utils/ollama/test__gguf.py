# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader gives a file's header exactly, and a damaged or hostile file costs one clear sentence."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import shape_from_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _gguf
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import (
    GgufError,
    joined,
    read_header,
    read_header_from,
    read_parts,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import HEADERS
from ansible_collections.gpufleet.ollama.tests.unit.data import header as published_header
from gguf_writer import ARRAY, INT32, STRING, UINT32, header_bytes, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from published import published

# Each example is a file: the disk, not the reader, decides how long one takes.
ON_DISK = settings(deadline=None)

PATHS = sorted(HEADERS.glob("*.json"))

SMALL = {
    "metadata": {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.attention.head_count_kv": [0, 8],
        "llama.attention.sliding_window_pattern": [True, False],
        "llama.rope.freq_base": 500000.0,
        "general.name": "a name with ümlaut",
        "general.tags": ["one", "two"],
        "tokenizer.ggml.tokens": {"array_length": 40},
        "tokenizer.ggml.scores": {"array_length": 2000},
        "tokenizer.ggml.token_type": {"array_length": 2000},
    },
    "tensors": [["token_embd.weight", "Q4_K", [256, 4]], ["output_norm.weight", "F32", [256]]],
}


def load(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture
def written(tmp_path):
    """Writes a header and returns the path of its file."""

    def write(header, **options):
        path = tmp_path / "model.gguf"
        write_gguf(path, header, **options)
        return str(path)

    return write


class TestReading:
    @pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
    def test_gives_back_the_header_of_every_known_model(self, path, written):
        header = load(path)
        found = read_header(written(header))
        assert found["file_bytes"] == header["file_bytes"]
        assert found["metadata"] == header["metadata"]
        assert found["tensors"] == header["tensors"]

    @pytest.mark.parametrize("version", [2, 3])
    def test_reads_both_versions(self, version, written):
        assert read_header(written(SMALL, version=version))["metadata"] == SMALL["metadata"]

    @pytest.mark.parametrize(
        ("number", "name"), [(15, "Q4_K_M"), (7, "Q8_0"), (4, "MXFP4"), (38, "MXFP4"), (4711, ""), ("x", "")]
    )
    def test_names_the_quantization(self, number, name, written):
        header = dict(SMALL, metadata=dict(SMALL["metadata"], **{"general.file_type": number}))
        assert read_header(written(header))["quantization"] == name

    def test_a_file_without_a_file_type_has_no_quantization(self, written):
        assert read_header(written(SMALL))["quantization"] == ""

    def test_long_values_are_given_by_their_length(self, written):
        metadata = {
            "general.architecture": "llama",
            "tokenizer.chat_template": "x" * 5000,
            "general.languages": ["en"] * 17,
            "llama.numbers": list(range(1025)),
        }
        assert read_header(written({"metadata": metadata, "tensors": []}))["metadata"] == {
            "general.architecture": "llama",
            "tokenizer.chat_template": {"string_length": 5000},
            "general.languages": {"array_length": 17},
            "llama.numbers": {"array_length": 1025},
        }

    def test_tokens_longer_than_a_block_are_stepped_over(self, written, monkeypatch):
        monkeypatch.setattr(_gguf, "BLOCK_BYTES", 64)
        path = written(SMALL, token=lambda index: "t" * (index * 7))
        assert read_header(path)["metadata"] == SMALL["metadata"]
        assert read_header(path)["tensors"] == SMALL["tensors"]

    @pytest.mark.parametrize("name", ["gemma3_4b", "gemma3_27b"])
    def test_the_vision_tower_in_a_published_gemma3_is_no_text_weight(self, name, written):
        own = published_header(name)
        ours = shape_from_header(own, name=name)
        theirs = shape_from_header(read_header(written(published(own))), name=name)
        assert theirs.inline_projector_bytes > 800_000_000
        assert theirs.file_bytes > ours.file_bytes + theirs.inline_projector_bytes
        assert "vision" in theirs.capabilities
        assert theirs.layers == ours.layers
        assert (theirs.input_host_bytes, theirs.output_bytes) == (ours.input_host_bytes, ours.output_bytes)

    def test_a_published_gpt_oss_is_the_same_model(self, written):
        own = published_header("gpt-oss:20b")
        ours = shape_from_header(own, name="gpt-oss")
        found = read_header(written(published(own)))
        assert found["metadata"]["general.architecture"] == "gptoss"
        assert {type_name for _name, type_name, _shape in found["tensors"]} >= {"MXFP4"}
        theirs = shape_from_header(found, name="gpt-oss")
        assert theirs.architecture == "gpt-oss"
        assert theirs.layers == ours.layers
        assert theirs.numbers == ours.numbers


class TestGgufPackage:
    """The `gguf` package of llama.cpp's own authors writes and reads the same format."""

    def test_reads_what_the_package_writes(self, tmp_path):
        path = tmp_path / "package.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        values = {
            "uint8": 200, "int8": -100, "uint16": 60000, "int16": -30000, "uint32": 4000000000,
            "int32": -2000000000, "uint64": 2**63, "int64": -(2**62), "float32": 0.5, "float64": 1e300,
            "bool": True, "string": "text",
        }  # fmt: skip
        for kind, value in values.items():
            getattr(writer, f"add_{kind}")(f"llama.{kind}", value)
        writer.add_array("llama.list", [1, 2, 3])
        writer.add_token_list([f"token {index}" for index in range(100)])
        writer.add_tensor_info("token_embd.weight", (4, 256), np.float16, 2048)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        with path.open("ab") as file:
            file.write(bytes(4096))
        found = read_header(str(path))
        assert {key: found["metadata"][f"llama.{key}"] for key in values} == values
        assert found["metadata"]["llama.list"] == [1, 2, 3]
        assert found["metadata"]["tokenizer.ggml.tokens"] == {"array_length": 100}
        assert found["tensors"] == [["token_embd.weight", "F16", [256, 4]]]

    def test_the_package_reads_what_the_test_writer_writes(self, written):
        reader = gguf.GGUFReader(written(SMALL))
        assert [tensor.name for tensor in reader.tensors] == ["token_embd.weight", "output_norm.weight"]
        assert reader.fields["llama.rope.freq_base"].contents() == 500000.0
        assert reader.fields["tokenizer.ggml.tokens"].contents()[:2] == ["t0", "t1"]

    def test_knows_the_names_of_all_its_tensor_types(self):
        ours = {name: number for number, name in _gguf._TENSOR_TYPE_NAMES.items() if number != 4}
        assert {kind.name: kind.value for kind in gguf.GGMLQuantizationType}.items() <= ours.items()


class TestSplitFiles:
    @pytest.fixture
    def parts(self, tmp_path):
        """Three parts of a model, as llama.cpp's gguf-split makes them."""
        paths = []
        for number in range(3):
            header = {
                "metadata": {"split.no": number, "split.count": 3, "split.tensors.count": 3},
                "tensors": [[f"blk.{number}.weight", "F32", [8]]],
            }
            if number == 0:
                header["metadata"] = {"general.architecture": "llama", **header["metadata"]}
            paths.append(tmp_path / f"model-{number + 1:05d}-of-00003.gguf")
            write_gguf(paths[-1], header)
        return paths

    def test_are_read_as_one_model(self, parts):
        found = read_header(str(parts[0]))
        assert [name for name, _type, _shape in found["tensors"]] == [
            f"blk.{number}.weight" for number in range(3)
        ]
        assert found["metadata"]["general.architecture"] == "llama"
        assert found["file_bytes"] == sum(path.stat().st_size for path in parts)

    def test_are_read_by_their_paths_in_any_order(self, parts):
        assert read_parts([str(path) for path in reversed(parts)]) == read_header(str(parts[0]))

    def test_a_missing_part_is_named(self, parts):
        parts[1].unlink()
        with pytest.raises(GgufError, match=r"model-00002-of-00003\.gguf cannot be read: No such file"):
            read_header(str(parts[0]))

    def test_the_first_part_must_be_named(self, parts):
        with pytest.raises(GgufError, match=r"name the part that ends in -00001-of-00003\.gguf"):
            read_header(str(parts[1]))

    def test_a_part_without_a_part_name_is_refused(self, parts, tmp_path):
        parts[0].rename(tmp_path / "model.gguf")
        with pytest.raises(GgufError, match="is a part of 3: name the part"):
            read_header(str(tmp_path / "model.gguf"))

    def test_a_part_that_stands_there_twice_is_refused(self, parts):
        with pytest.raises(GgufError, match=r"its parts say split\.no=\[0, 1, 1\], expected 0 to 2"):
            read_parts([str(parts[0]), str(parts[1]), str(parts[1])])

    def test_tensors_that_are_missing_are_noticed(self, parts):
        write_gguf(parts[2], {"metadata": {"split.no": 2, "split.count": 3}, "tensors": []})
        with pytest.raises(GgufError, match="its 3 parts hold 2 tensors, expected 3"):
            read_header(str(parts[0]))

    def test_an_absurd_number_of_parts_is_refused(self, written):
        header = {"metadata": {"split.no": 0, "split.count": 50000}, "tensors": []}
        with pytest.raises(GgufError, match="is a part of 50000; at most 1024 parts are read"):
            read_header(written(header))


def preamble(tensors=0, keys=0, version=3, magic=b"GGUF"):
    return magic + struct.pack("<IQQ", version, tensors, keys)


def key(name, value_type):
    data = name.encode()
    return struct.pack("<Q", len(data)) + data + struct.pack("<I", value_type)


def tensor(name="t", dimensions=1, shape=(8,), number=0, offset=0):
    data = name.encode()
    return (
        struct.pack("<Q", len(data))
        + data
        + struct.pack(f"<I{len(shape)}QIQ", dimensions, *shape, number, offset)
    )


HUGE = 2**64 - 1
BAD_FILES = {
    "an empty file": (b"", "byte 0: the file has 0 bytes, a GGUF file at least 24"),
    "another format": (b"PK\x03\x04" + bytes(40), "it does not begin with b'GGUF'"),
    "version 1": (preamble(version=1), "GGUF version 1 is not known, only 2 and 3 are"),
    "a future version": (preamble(version=4), "GGUF version 4 is not known"),
    "a big-endian file": (preamble(version=3 << 24), "it is big-endian; only little-endian files are read"),
    "too many keys": (preamble(keys=HUGE), "claims 18446744073709551615 metadata keys; at most 8192"),
    "too many tensors": (preamble(tensors=HUGE), "claims 18446744073709551615 tensors; at most 16384"),
    "keys that are not there": (preamble(keys=1), "the header goes on to byte 32, the file ends at 24"),
    "a huge key": (
        preamble(keys=1) + struct.pack("<Q", HUGE),
        "a metadata key of 18446744073709551615 bytes",
    ),
    "an unknown type": (
        preamble(keys=1) + key("k", 13),
        "metadata key 'k' is of type 13, which is not known",
    ),
    "a huge string": (
        preamble(keys=1) + key("k", STRING) + struct.pack("<Q", HUGE),
        "the header goes on to byte 1844674407370955",
    ),
    "an array of arrays": (
        preamble(keys=1) + key("k", ARRAY) + struct.pack("<IQ", ARRAY, 1),
        "metadata key 'k' is an array of arrays, which no engine reads",
    ),
    "an array of an unknown type": (
        preamble(keys=1) + key("k", ARRAY) + struct.pack("<IQ", 99, 1),
        "metadata key 'k' is an array of type 99",
    ),
    "a huge array of numbers": (
        preamble(keys=1) + key("k", ARRAY) + struct.pack("<IQ", INT32, HUGE),
        "the header goes on to byte",
    ),
    "a huge array of strings": (
        preamble(keys=1) + key("k", ARRAY) + struct.pack("<IQ", STRING, HUGE),
        "metadata key 'k' claims 18446744073709551615 strings; at most 4194304 are read in all",
    ),
    "strings that are not there": (
        preamble(keys=1) + key("k", ARRAY) + struct.pack("<IQ", STRING, 1000),
        "the header goes on to byte",
    ),
    "a token of absurd length": (
        preamble(keys=1) + key("k", ARRAY) + struct.pack("<IQQ", STRING, 1000, HUGE),
        "the header goes on to byte",
    ),
    "a key twice": (
        preamble(keys=2) + 2 * (key("k", UINT32) + bytes(4)),
        "metadata key 'k' stands there twice",
    ),
    "an odd alignment": (
        preamble(keys=1) + key("general.alignment", UINT32) + struct.pack("<I", 3),
        "general.alignment is 3, expected a power of two",
    ),
    "an alignment of zero": (
        preamble(keys=1) + key("general.alignment", UINT32) + bytes(4),
        "general.alignment is 0, expected a power of two",
    ),
    "an alignment that is no number": (
        preamble(keys=1) + key("general.alignment", STRING) + struct.pack("<Q", 1) + b"x",
        "general.alignment is 'x', expected a power of two",
    ),
    "too many dimensions": (
        preamble(tensors=1) + tensor(dimensions=5),
        "tensor 't' has 5 dimensions, at most 4 exist",
    ),
    "an unknown tensor type": (
        preamble(tensors=1) + tensor(number=77),
        "tensor 't' is of type 77, which is not known",
    ),
    "a huge tensor name": (
        preamble(tensors=1) + tensor(name="t" * 300),
        "a tensor's name of 300 bytes; at most 256 are read",
    ),
    "weights that are not there": (
        preamble(tensors=1) + tensor(shape=(1000,)),
        "the tensors end at byte 4064, the file at 57: it is truncated; pull or copy the model again",
    ),
    "a tensor of absurd size": (
        preamble(tensors=1) + tensor(dimensions=4, shape=(HUGE,) * 4),
        "it is truncated",
    ),
}


class TestDamagedFiles:
    @pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
    def test_are_refused_with_one_sentence(self, content, message, tmp_path):
        path = tmp_path / "bad.gguf"
        path.write_bytes(content)
        with pytest.raises(GgufError, match=message) as raised:
            read_header(str(path))
        assert str(raised.value).startswith(f"{path}, byte ")

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(GgufError, match=r"absent\.gguf cannot be read: No such file or directory"):
            read_header(str(tmp_path / "absent.gguf"))

    def test_a_folder_is_no_model(self, tmp_path):
        with pytest.raises(GgufError, match="cannot be read: not a regular file"):
            read_header(str(tmp_path))

    def test_a_device_is_no_model(self):
        with pytest.raises(GgufError, match="/dev/zero cannot be read: not a regular file"):
            read_header("/dev/zero")

    def test_a_header_that_never_ends_is_given_up(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_gguf, "MAX_HEADER_BYTES", 1000)
        path = tmp_path / "long.gguf"
        path.write_bytes(preamble(keys=1) + key("k", STRING) + struct.pack("<Q", 5000) + bytes(6000))
        with pytest.raises(GgufError, match="the header is longer than 1000 bytes, which no model needs"):
            read_header(str(path))

    def test_a_file_that_shrinks_while_it_is_read_is_noticed(self, written):
        path = written(SMALL)
        size = Path(path).stat().st_size
        with open(path, "rb") as file:
            reader = _gguf._HeaderReader(file, path, size)
            Path(path).write_bytes(Path(path).read_bytes()[:100])
            with pytest.raises(GgufError):
                reader.read()

    @ON_DISK
    @given(st.integers(min_value=0))
    def test_a_truncated_file_is_never_taken_for_a_whole_one(self, tmp_path_factory, cut):
        content = SMALL_FILE[: cut % len(SMALL_FILE)]
        path = tmp_path_factory.getbasetemp() / "truncated.gguf"
        path.write_bytes(content)
        with pytest.raises(GgufError):
            read_header(str(path))

    @ON_DISK
    @given(st.data())
    def test_a_changed_file_is_read_or_refused_quickly_and_in_little_memory(self, tmp_path_factory, data):
        content = bytearray(SMALL_HEAD)
        for _change in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(content) - 1))
            replacement = data.draw(st.binary(min_size=1, max_size=8))
            content[at : at + len(replacement)] = replacement
        path = tmp_path_factory.getbasetemp() / "changed.gguf"
        path.write_bytes(bytes(content) + bytes(4096))
        assert_bounded(str(path))

    @ON_DISK
    @given(st.binary(max_size=400))
    def test_arbitrary_bytes_behind_the_magic_are_refused(self, tmp_path_factory, noise):
        path = tmp_path_factory.getbasetemp() / "noise.gguf"
        path.write_bytes(preamble(tensors=3, keys=3) + noise)
        assert_bounded(str(path))

    def test_millions_of_empty_strings_in_a_hole_take_seconds_at_most(self, tmp_path):
        path = tmp_path / "hole.gguf"
        with path.open("wb") as file:
            file.write(preamble(keys=1))
            file.write(key("k", ARRAY) + struct.pack("<IQ", STRING, _gguf.MAX_STRINGS))
            file.truncate(64 * 2**30)
        started = time.process_time()
        assert read_header(str(path))["metadata"] == {"k": {"array_length": _gguf.MAX_STRINGS}}
        assert time.process_time() - started < 20

    def test_many_small_arrays_are_not_kept_without_end(self, tmp_path):
        array = struct.pack("<IQ", INT32, 1024) + bytes(4096)
        path = tmp_path / "arrays.gguf"
        path.write_bytes(preamble(keys=500) + b"".join(key(f"k{n}", ARRAY) + array for n in range(500)))
        metadata = read_header(str(path))["metadata"]
        kept = [value for value in metadata.values() if isinstance(value, list)]
        assert len(kept) == _gguf.MAX_KEPT_NUMBERS_IN_ALL // 1024
        assert metadata["k499"] == {"array_length": 1024}


SMALL_HEAD = header_bytes(SMALL)
SMALL_FILE = SMALL_HEAD + bytes(4 * 144 + 4 * 256)


def assert_bounded(path):
    """Reads a file that may be damaged: an answer or a GgufError, nothing else."""
    tracemalloc.start()
    started = time.process_time()
    try:
        read_header(path)
    except GgufError:
        pass
    finally:
        elapsed = time.process_time() - started
        _now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert elapsed < 2
    assert peak < 8 * 2**20


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=32, allow_nan=False),
    st.text(max_size=50),
    st.lists(st.booleans(), min_size=1, max_size=20),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20),
    st.lists(st.text(max_size=10), max_size=16),
    st.builds(lambda length: {"array_length": length}, st.integers(17, 300)),
)
TENSORS = st.lists(
    st.tuples(
        NAMES, st.sampled_from(["F32", "Q4_K", "MXFP4"]), st.lists(st.integers(1, 9), min_size=1, max_size=4)
    ).map(lambda parts: [parts[0], parts[1], [parts[2][0] * 256, *parts[2][1:]]]),
    max_size=8,
)


@ON_DISK
@given(metadata=st.dictionaries(NAMES.map(lambda name: f"x.{name}"), VALUES, max_size=12), tensors=TENSORS)
def test_whatever_is_written_is_read(tmp_path_factory, metadata, tensors):
    path = tmp_path_factory.getbasetemp() / "written.gguf"
    write_gguf(path, {"metadata": metadata, "tensors": tensors})
    found = read_header(str(path))
    assert found["metadata"] == metadata
    assert found["tensors"] == tensors
    assert found["file_bytes"] == path.stat().st_size


def test_a_vocabulary_of_262144_tokens_takes_less_than_5_mib(written):
    header = published_header("gemma3:4b")
    header["metadata"]["tokenizer.ggml.scores"] = {"array_length": 262144}
    path = written(header)
    read_header(path)
    tracemalloc.start()
    read_header(path)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 2**20


def test_a_file_that_lies_elsewhere_is_read_as_one_on_the_disk(tmp_path):
    write_gguf(tmp_path / "model.gguf", SMALL)
    header = read_header(str(tmp_path / "model.gguf"))
    with open(tmp_path / "model.gguf", "rb") as file:
        assert read_header_from(file, "m", header["file_bytes"]) == header
        with pytest.raises(GgufError, match=r"m, byte .*: the tensors end at byte"):
            read_header_from(file, "m", header["file_bytes"] - 1)
    assert joined("m", [header]) == header
    with pytest.raises(GgufError, match=r"m: its parts say split.no"):
        joined("m", [header, header])
