# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shapes of published models against the figures of their headers, in llama.cpp's form and in Ollama's own."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tensor_types import tensor_bytes
from ansible_collections.gpufleet.ollama.tests.unit.data import STEMS, header
from published import published

HEADERS = {stem: header(stem) for stem in STEMS}


def shape_of(name, **options):
    return shape_from_header(HEADERS[name], name=name, **options)


def as_read(header):
    """The header as the reader of files gives it: old type numbers have today's names."""
    tensors = [[name, kind.split(" ")[0], shape] for name, kind, shape in header["tensors"]]
    return dict(header, tensors=tensors)


class TestPublishedModels:
    @pytest.mark.parametrize("name", sorted(HEADERS))
    def test_every_layer_has_weights_and_a_form(self, name):
        shape = shape_of(name)
        metadata = HEADERS[name]["metadata"]
        assert len(shape.layers) == metadata[f"{shape.architecture}.block_count"]
        assert all(layer.weights_bytes > 0 and shape.forms[layer.form] for layer in shape.layers)

    @pytest.mark.parametrize("name", sorted(HEADERS))
    def test_tensors_and_tokenizer_fill_the_file(self, name):
        shape = shape_of(name)
        written_bytes = shape.text_bytes + shape.inline_projector_bytes
        if shape.architecture in ("gemma3n", "gemma4"):
            # Their tied embeddings count twice, but lie in the file once.
            (embedding,) = (one for one in HEADERS[name]["tensors"] if one[0] == "token_embd.weight")
            written_bytes -= tensor_bytes(*embedding[1:])
        assert 0 < shape.file_bytes - written_bytes < 20_000_000

    @pytest.mark.parametrize(
        ("name", "key_width", "value_width"),
        [
            ("llama3.1_8b", 8 * 128, 8 * 128),
            ("mxbai-embed-large", 1024, 1024),
            ("deepseek-v2_16b", 16 * 192, 16 * 128),
            ("deepseek-v2_16b-mla", 576, 512),
            ("deepseek-v3.1_671b", 576, 512),
            ("phi4_14b", 10 * 128, 10 * 128),
        ],
    )
    def test_widths_of_keys_and_values(self, name, key_width, value_width):
        widths = {(layer.key_width, layer.value_width) for layer in shape_of(name).layers}
        assert widths == {(key_width, value_width)}

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("deepseek-v2_16b-mla", True), ("deepseek-v3.1_671b", True), ("deepseek-v2_16b", False)],
    )
    def test_latent_attention_is_told_by_the_lengths_of_its_heads(self, name, expected):
        assert shape_of(name).is_latent_attention is expected

    @pytest.mark.parametrize(
        ("name", "window", "full_layers"),
        [
            ("gemma2_9b", 4096, 21),
            ("gemma3_4b", 1024, 5),
            ("gemma3n_e2b", 512, 6),
            ("gemma4_12b", 1024, 8),
            ("gpt-oss_20b", 128, 12),
            ("olmo2_7b", 0, 32),
        ],
    )
    def test_sliding_layers(self, name, window, full_layers):
        shape = shape_of(name)
        assert shape.sliding_window == window
        assert sum(layer.attention == "full" for layer in shape.layers) == full_layers

    def test_sliding_layers_may_have_heads_of_their_own(self):
        layers = shape_of("gemma4_12b").layers
        assert (layers[4].attention, layers[4].key_width) == ("sliding", 8 * 256)
        assert (layers[5].attention, layers[5].key_width) == ("full", 1 * 512)

    @pytest.mark.parametrize(("name", "owners"), [("gemma4_e4b", 24), ("gemma3n_e2b", 20)])
    def test_shared_layers_read_caches_of_their_own_kind(self, name, owners):
        layers = shape_of(name).layers
        for number, layer in enumerate(layers):
            owner = layers[layer.cache_layer]
            assert owner.attention == layer.attention
            assert (
                layer.cache_layer == number
                if number < owners
                else layer.cache_layer in (owners - 1, owners - 2)
            )

    @pytest.mark.parametrize(
        ("name", "attention", "recurrent", "convolution_size", "state_size"),
        [
            ("granite4_micro-h", 4, 36, 3 * (4096 + 2 * 128), 128 * 4096),
            ("granite4_tiny-h", 4, 36, 3 * (3072 + 2 * 128), 128 * 3072),
            ("nemotron-3-nano_30b", 6, 23, 3 * (4096 + 2 * 8 * 128), 128 * 4096),
            ("qwen3.5_9b", 8, 24, 3 * (4096 + 2 * 16 * 128), 128 * 4096),
        ],
    )
    def test_recurrent_layers(self, name, attention, recurrent, convolution_size, state_size):
        shape = shape_of(name)
        assert sum(layer.attention == "full" for layer in shape.layers) == attention
        assert sum(layer.is_recurrent for layer in shape.layers) == recurrent
        assert (shape.convolution_state_size, shape.recurrent_state_size) == (convolution_size, state_size)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("nomic-embed-text", True), ("llama3.2_1b", False), ("granite4_micro-h", False)],
    )
    def test_encoders_keep_nothing(self, name, expected):
        shape = shape_of(name)
        assert shape.is_encoder is expected
        assert shape.is_embedding is expected


class TestOllamasOwnForm:
    @pytest.mark.parametrize(
        "name", [name for name in sorted(HEADERS) if published(HEADERS[name]) is not HEADERS[name]]
    )
    def test_of_a_text_model_is_the_same_to_a_planner(self, name):
        plain = shape_of(name).to_dict()
        own = shape_from_header(as_read(published(HEADERS[name])), name=name).to_dict()
        of_tower = {"file_bytes", "inline_projector_bytes", "capabilities", "numbers", "tower"}
        assert {key for key in plain if plain[key] != own[key]} <= of_tower

    def test_of_gemma3_has_its_vision_tower_inside(self):
        own = shape_from_header(published(HEADERS["gemma3_4b"]), name="gemma3")
        assert own.inline_projector_bytes == own.file_bytes - HEADERS["gemma3_4b"]["file_bytes"] > 0
        assert own.capabilities == ("vision",)
        assert own.layers == shape_of("gemma3_4b").layers

    def test_of_gpt_oss_gets_its_usual_name_and_the_length_of_its_experts(self):
        own = shape_from_header(as_read(published(HEADERS["gpt-oss_20b"])), name="gpt-oss")
        assert own == shape_from_header(HEADERS["gpt-oss_20b"], name="gpt-oss")
        assert (own.architecture, own.number("expert_feed_forward_length")) == ("gpt-oss", 2880)


class TestDamage:
    def test_an_interval_of_zero_in_a_list_is_refused(self):
        header = copy.deepcopy(HEADERS["qwen3.5_9b"])
        header["metadata"]["qwen35.full_attention_interval"] = [0]
        with pytest.raises(ValueError, match=r"qwen35\.full_attention_interval"):
            shape_from_header(header, name="qwen3.5")

    def test_a_layer_of_another_kind_is_refused(self):
        plain = shape_of("llama3.2_1b").to_dict()
        plain["layers"]["form"] = ["0"] * 16
        with pytest.raises(ValueError, match=r"model llama3\.2_1b"):
            ModelShape.from_dict(plain)

    def test_an_endless_length_is_refused(self):
        plain = shape_of("llama3.2_1b").to_dict()
        plain["model_form"] = {"a": [float("inf")]}
        with pytest.raises(ValueError, match=r"model llama3\.2_1b"):
            ModelShape.from_dict(plain)

    def test_the_longest_tensor_is_taken(self):
        plain = {**shape_of("llama3.2_1b").to_dict(), "model_form": {"a": [2**40]}}
        assert ModelShape.from_dict(plain).model_form == (("a", (2**40,)),)

    @pytest.mark.parametrize(
        ("field", "value", "sentence"),
        [
            ("name", 5, "the name of a model is 5, expected a text"),
            ("digest", None, r"digest of model llama3\.2_1b is None, expected a text"),
            ("is_latent_attention", 1, r"is_latent_attention of model llama3\.2_1b is 1, expected true or false"),
            ("num_ctx", "8k", r"num_ctx of model llama3\.2_1b is '8k', expected a whole number"),
            ("text_bytes", 2**60, r"text_bytes of model llama3\.2_1b is \d+, expected a whole number from 0 to"),
            ("numbers", {"expert_count": -1}, r"numbers of model .* expected a mapping of whole numbers"),
            ("parameters", [], r"parameters of model llama3\.2_1b is \[\], expected a mapping"),
            ("model_form", {"a": [2**40 + 1]}, r"damaged: tensor a has the shape \[1099511627777\]"),
            ("model_form", {"a": [1, 2, 3, 4, 5]}, r"damaged: tensor a has the shape \[1, 2, 3, 4, 5\]"),
        ],
    )
    def test_plain_data_of_another_kind_is_refused(self, field, value, sentence):
        plain = {**shape_of("llama3.2_1b").to_dict(), field: value}
        with pytest.raises(ValueError, match=sentence):
            ModelShape.from_dict(plain)

    @pytest.mark.parametrize(
        ("field", "value", "sentence"),
        [
            ("attention", "odd", r"attention of layer 3 of model llama3\.2_1b is 'odd', expected full, sliding"),
            ("cache_layer", 99, "does not have 16 whole layers"),
            ("head_count", -1, r"head_count of layer 3 of model llama3\.2_1b is -1, expected a whole number"),
            ("is_recurrent", None, r"is_recurrent of layer 3 of model .* is None, expected true or false"),
        ],
    )
    def test_one_layer_of_another_kind_is_refused(self, field, value, sentence):
        plain = shape_of("llama3.2_1b").to_dict()
        plain["layers"][field][3] = value
        with pytest.raises(ValueError, match=sentence):
            ModelShape.from_dict(plain)

    def test_layers_of_which_a_quantity_is_cut_short_are_refused(self):
        plain = shape_of("llama3.2_1b").to_dict()
        plain["layers"]["form"] = plain["layers"]["form"][:-1]
        with pytest.raises(ValueError, match=r"model llama3\.2_1b has layers of which it does not tell all"):
            ModelShape.from_dict(plain)

    def test_a_state_beyond_any_model_is_refused(self):
        header = copy.deepcopy(HEADERS["qwen3.5_9b"])
        header["metadata"]["qwen35.ssm.state_size"] = header["metadata"]["qwen35.ssm.inner_size"] = 2**32 - 1
        with pytest.raises(ValueError, match=r"state_size of model qwen3\.5 is \d+, expected a whole number"):
            shape_from_header(header, name="qwen3.5")
