# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import time
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import (
    LoadSettings,
    estimate,
    host_estimate,
    split,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import STEMS
from ansible_collections.gpufleet.ollama.tests.unit.data import header as published_header
from hypothesis import given, settings
from hypothesis import strategies as st

GIB = 1 << 30


def header(stem: str = "llama3.2_1b") -> dict[str, Any]:
    return published_header(stem)


def shape(stem: str) -> ModelShape:
    return shape_from_header(header(stem), name=stem)


def changed(stem: str = "llama3.2_1b", **values: Any) -> dict[str, Any]:
    """A header with other metadata; None takes a key away."""
    plain = header(stem)
    architecture = plain["metadata"]["general.architecture"]
    for key, value in values.items():
        name = f"{architecture}.{key.replace('__', '.')}"
        if value is None:
            plain["metadata"].pop(name, None)
        else:
            plain["metadata"][name] = value
    return plain


HALF_ROWS = [
    ([], 0),
    ([["blk.0.ffn_up.weight", "F16", [64, 256]]], 64 + 256),
    ([["blk.0.ffn_up.weight", "BF16", [64, 256]], ["blk.1.ffn_up.weight", "F16", [64, 128]]], 64 + 256),
    ([["altup_proj.weight", "F16", [64, 64, 3]]], 3 * (64 + 64)),
    # Each of the chosen experts has its operand, and its result twice over; and what one of them makes is copied again.
    ([["blk.0.ffn_up_exps.weight", "F16", [64, 32, 8]]], 2 * (64 + 2 * 32) + 32),
    # What is not copied: single precision, vectors, and what is looked up or makes the last token only.
    ([["blk.0.ffn_gate_inp.weight", "F32", [64, 256]], ["blk.0.attn_norm.weight", "F16", [64]]], 0),
    ([["v.blk.0.ffn_up.weight", "F16", [64, 256]]], 0),
    ([["token_embd.weight", "F16", [64, 512]], ["output.weight", "BF16", [64, 512]]], 0),
]


@pytest.mark.parametrize(("tensors", "elements"), HALF_ROWS)
def test_what_a_product_of_half_precision_copies_is_counted_per_token(tensors: list[Any], elements: int) -> None:
    plain = changed("qwen3.5_9b", expert_used_count=2)
    quantised = [[name, "Q4_K" if kind in ("F16", "BF16") else kind, shape] for name, kind, shape in plain["tensors"]]
    assert shape_from_header({**plain, "tensors": quantised + tensors}, name="m").half_row_elements == elements


def test_a_shape_gathered_before_it_was_counted_has_none() -> None:
    plain = shape("gemma3n_e2b").to_dict()
    assert plain.pop("half_row_elements") == 3 * (2048 + 2048)
    # A layer's ffn_down in Q6_K.
    assert plain.pop("largest_tensor_bytes") == 2048 * 8192 * 210 // 256
    found = ModelShape.from_dict(plain)
    assert (found.half_row_elements, found.largest_tensor_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("architecture", "loops", "layers"),
    [("nanbeige", None, 16), ("nanbeige", 1, 16), ("nanbeige", 3, 48), ("llama", 3, 16)],
)
def test_layers_that_run_again_have_a_cache_of_their_own_and_no_weights(
    architecture: str, loops: int | None, layers: int
) -> None:
    plain = changed()
    plain["metadata"] = {
        key.replace("llama.", f"{architecture}."): value for key, value in plain["metadata"].items()
    } | {"general.architecture": architecture}
    if loops is not None:
        plain["metadata"][f"{architecture}.num_loops"] = loops
    found = shape_from_header(plain, name="m")
    assert found.block_count == len(found.layers) == layers
    assert [layer.cache_layer for layer in found.layers] == list(range(layers))
    assert all(layer.weights_bytes for layer in found.layers[:16])
    assert not any(layer.weights_bytes for layer in found.layers[16:])


@pytest.mark.parametrize("loops", [0, 10**6])
def test_a_number_of_runs_that_cannot_be_is_refused(loops: int) -> None:
    plain = changed()
    plain["metadata"] = {
        **{key.replace("llama.", "nanbeige."): value for key, value in plain["metadata"].items()},
        "general.architecture": "nanbeige",
        "nanbeige.num_loops": loops,
    }
    with pytest.raises(ValueError, match=f"nanbeige.num_loops is {loops}"):
        shape_from_header(plain, name="m")


class TestWhatTheHeaderSays:
    def test_numbers(self) -> None:
        found = shape_from_header(
            header("gemma3_4b"),
            name="gemma3:4b",
            digest="sha256-12",
            adapter_bytes=5,
            num_ctx=8192,
            parameters={"num_batch": 256},
        )
        assert (found.name, found.digest, found.family) == ("gemma3:4b", "sha256-12", "gemma3")
        assert (found.architecture, found.quantization) == ("gemma3", "Q4_K_M")
        assert (found.block_count, found.embedding_length, found.vocabulary_size) == (34, 2560, 262144)
        assert (found.sliding_window, found.context_length_trained) == (1024, 131072)
        assert (found.adapter_bytes, found.num_ctx, found.parameters) == (5, 8192, {"num_batch": 256})
        assert not found.is_embedding
        assert found.capabilities == ()

    def test_layers(self) -> None:
        layers = shape("gemma3_4b").layers
        assert [layer.attention for layer in layers[:7]] == ["sliding"] * 5 + ["full", "sliding"]
        assert {(layer.key_width, layer.value_width, layer.head_count) for layer in layers} == {
            (1024, 1024, 8)
        }
        assert [layer.cache_layer for layer in layers] == list(range(34))

    def test_weights_are_each_somewhere(self) -> None:
        found = shape("llama3.1_8b")
        on_gpu = (
            sum(layer.weights_bytes for layer in found.layers) + found.output_bytes + found.per_device_bytes
        )
        assert on_gpu + found.input_host_bytes == pytest.approx(found.text_bytes, rel=0.001)
        assert found.file_bytes == pytest.approx(found.text_bytes, rel=0.01)

    def test_what_is_known_from_elsewhere(self) -> None:
        found = shape_from_header(
            header(), name="m", family="llama", projector_bytes=9, capabilities=("tools",)
        )
        assert found.capabilities == ("tools", "vision")
        assert found.projector_bytes == 9

    def test_an_encoder(self) -> None:
        found = shape("nomic-embed-text")
        assert found.is_embedding
        assert found.is_encoder
        assert not shape("llama3.2_1b").is_encoder
        assert not shape("granite4_micro-h").is_encoder

    def test_layers_that_only_predict_ahead_are_not_loaded(self) -> None:
        plain = changed(block_count=17, nextn_predict_layers=1)
        plain["tensors"] += [["blk.16.attn_norm.weight", "F32", [2048]]]
        found = shape_from_header(plain, name="m")
        assert found.layers[16].weights_bytes == 0
        assert found.layers[16].attention == "none"


class TestABadHeader:
    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"block_count": None}, "llama.block_count is missing"),
            ({"block_count": 0}, "llama.block_count is 0, expected 1 to 512"),
            ({"block_count": 10**9}, "llama.block_count is 1000000000, expected 1 to 512"),
            ({"block_count": "16"}, "llama.block_count is '16', expected a whole number"),
            ({"block_count": 3}, r"tensor blk.3.attn_norm.weight is of block 3, but block_count is 3"),
            ({"embedding_length": -1}, "llama.embedding_length is -1, expected 1 to"),
            ({"attention__head_count": [32, 32]}, "llama.attention.head_count has 2 values for 16 layers"),
            (
                {"attention__head_count_kv": 2**40},
                "llama.attention.head_count_kv is 1099511627776, expected 0 to",
            ),
            ({"attention__key_length": True}, "llama.attention.key_length is True, expected a whole number"),
            ({"nextn_predict_layers": 16}, "llama.nextn_predict_layers is 16 of 16 layers"),
        ],
    )
    def test_of_metadata(self, values: dict[str, Any], sentence: str) -> None:
        with pytest.raises(ValueError, match=sentence):
            shape_from_header(changed(**values), name="m")

    @pytest.mark.parametrize(
        ("tensors", "sentence"),
        [
            (None, "tensors are missing: the header ends before its tensor list"),
            ([], "tensors are missing"),
            ([["a", "F32"]], "is not a name, a type and a shape"),
            (["token_embd.weight"], "is not a name, a type and a shape"),
            ([["a", 3, [1]]], "tensor a is not a name, a type and a shape"),
            (
                [["a", "F32", [1, 2, 3, 4, 5]]],
                r"tensor a has the shape \[1, 2, 3, 4, 5\], expected up to four lengths",
            ),
            ([["a", "F32", [0]]], "tensor a has the shape"),
            ([["a", "F32", [2**50]]], "tensor a has the shape"),
            ([["a", "F32", [True]]], "tensor a has the shape"),
            ([["a", "Q9", [32]]], "tensor type 'Q9' is unknown"),
            ([["a", "F32", [1]]] * 70000, "tensors are 70000, expected at most 65536"),
        ],
    )
    def test_of_tensors(self, tensors: Any, sentence: str) -> None:
        with pytest.raises(ValueError, match=sentence):
            shape_from_header({**header(), "tensors": tensors}, name="m")

    @pytest.mark.parametrize("plain", [None, [], {}, {"metadata": None}, {"metadata": []}])
    def test_of_no_kind(self, plain: Any) -> None:
        with pytest.raises(
            ValueError, match=r"metadata of model m is missing: this is not the header of a GGUF file"
        ):
            shape_from_header(plain, name="m")

    @pytest.mark.parametrize("size", [None, -1, 2**60, 1.5, True, "5"])
    def test_of_sizes(self, size: Any) -> None:
        with pytest.raises(ValueError, match=r"file_bytes is .*, expected 0 to \d+ bytes"):
            shape_from_header({**header(), "file_bytes": size}, name="m")
        with pytest.raises(ValueError, match=r"projector_bytes is .*, expected 0 to \d+ bytes"):
            shape_from_header(header(), name="m", projector_bytes=size)


class TestPlainData:
    @pytest.mark.parametrize("stem", STEMS)
    def test_there_and_back(self, stem: str) -> None:
        found = shape(stem)
        plain = json.loads(json.dumps(found.to_dict()))
        again = ModelShape.from_dict(plain)
        assert again == found
        assert hash(again) == hash(found)
        assert again.to_dict() == found.to_dict()

    @pytest.mark.parametrize("stem", STEMS)
    def test_it_is_small(self, stem: str) -> None:
        assert len(json.dumps(shape(stem).to_dict())) < 32768

    def test_no_mapping(self) -> None:
        with pytest.raises(ValueError, match=r"a model's shape is list, expected a mapping"):
            ModelShape.from_dict([])

    def test_fields_too_few_or_too_many(self) -> None:
        plain = shape("llama3.2_1b").to_dict()
        with pytest.raises(
            ValueError, match=r"the shape of model \? lacks name, digest: gather the models again"
        ):
            ModelShape.from_dict({key: plain[key] for key in plain if key not in ("name", "digest")})
        with pytest.raises(ValueError, match=r"the shape of model llama3.2_1b has the unknown field 'colour'"):
            ModelShape.from_dict({**plain, "colour": 1})
        with pytest.raises(ValueError, match=r"has the unknown field '9{1,100}\.\.\.: gather"):
            ModelShape.from_dict({**plain, "9" * 5000: 1})

    @pytest.mark.parametrize("value", [None, "5", -1, True, 1.5])
    def test_sizes_of_another_kind(self, value: Any) -> None:
        with pytest.raises(ValueError, match=r"text_bytes of model .* expected a whole number"):
            ModelShape.from_dict({**shape("llama3.2_1b").to_dict(), "text_bytes": value})

    @pytest.mark.parametrize(
        ("key", "value"), [("layers", {}), ("forms", 3), ("forms", [{"a": "x"}]), ("layers", None)]
    )
    def test_damaged(self, key: str, value: Any) -> None:
        with pytest.raises(ValueError, match=r"the shape of model llama3.2_1b is damaged"):
            ModelShape.from_dict({**shape("llama3.2_1b").to_dict(), key: value})

    def test_layers_must_be_whole(self) -> None:
        plain = shape("llama3.2_1b").to_dict()
        short = {key: column[:3] for key, column in plain["layers"].items()}
        for layers in (short, {**plain["layers"], "form": [99] * 16}):
            with pytest.raises(
                ValueError, match=r"the shape of model llama3.2_1b does not have 16 whole layers"
            ):
                ModelShape.from_dict({**plain, "layers": layers})


hostile = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, 2, 3, 2**31, 2**32 - 1]),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(0, 2**33), max_size=40),
    st.just({"array_length": 2**40}),
)


@settings(max_examples=150, deadline=None)
@given(stem=st.sampled_from(STEMS), data=st.data())
def test_whatever_a_header_says_it_is_refused_or_sized_soon(stem: str, data: st.DataObject) -> None:
    plain = header(stem)
    keys = sorted(key for key in plain["metadata"] if not key.startswith(("tokenizer", "general")))
    for key in data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3)):
        plain["metadata"][key] = data.draw(hostile)
    if data.draw(st.booleans()):
        del plain["tensors"][data.draw(st.integers(0, len(plain["tensors"]) - 1)) :: 7]
    started = time.monotonic()
    sentence = ""
    try:
        found = shape_from_header(plain, name="m")
        for size in (estimate, host_estimate):
            sized = size(found, LoadSettings(4096, 2))
            assert sized.gpu_bytes >= 0
            assert sized.host.total_bytes >= 0
        split(found, LoadSettings(4096, 1), [GIB, GIB])
    except ValueError as error:
        sentence = str(error) or "nothing\n"
    assert "\n" not in sentence
    assert len(sentence) < 400
    assert time.monotonic() - started < 10
