# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as Ollama's own converters wrote them must be seen as llama.cpp sees them after their translation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._estimate import LoadSettings, estimate
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._compat import (
    is_projector_tensor,
    translated,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import header

TOWER = [["v.blk.0.attn_q.weight", "F16", [1152, 1152]], ["mm.input_projection.weight", "F16", [1152, 2560]]]
TOWER_BYTES = 2 * 1152 * (1152 + 2560)


def shape(plain: dict[str, Any]) -> ModelShape:
    return shape_from_header(plain, name="a model")


def with_keys(plain: dict[str, Any], old: str, new: str, **changes: Any) -> dict[str, Any]:
    """The header under another architecture, with some keys changed; None takes a key away."""
    metadata = {
        (f"{new}.{key[len(old) + 1 :]}" if key.startswith(f"{old}.") else key): value
        for key, value in plain["metadata"].items()
    }
    metadata["general.architecture"] = new
    for key, value in changes.items():
        metadata[f"{new}.{key.replace('__', '.')}"] = value
    return {**plain, "metadata": {key: value for key, value in metadata.items() if value is not None}}


def with_names(plain: dict[str, Any], *renames: tuple[str, str]) -> dict[str, Any]:
    tensors = []
    for name, type_name, lengths in plain["tensors"]:
        for part, other in renames:
            name = name.replace(part, other)
        tensors.append([name, type_name, lengths])
    return {**plain, "tensors": tensors}


def same(found: ModelShape, wanted: ModelShape) -> bool:
    """Whether all that memory depends on is equal."""
    numbers = {key: value for key, value in wanted.numbers.items() if key in found.numbers}
    return replace(found, numbers=numbers, capabilities=()) == replace(
        wanted, numbers=numbers, capabilities=()
    )


def test_gpt_oss() -> None:
    plain = header("gpt-oss_20b")
    own = with_keys(plain, "gpt-oss", "gptoss", expert_feed_forward_length=None)
    own = with_names(
        own,
        (".attn_output.", ".attn_out."),
        (".attn_sinks.weight", ".attn_sinks"),
        (".post_attention_norm.", ".ffn_norm."),
    )
    assert own["tensors"] != plain["tensors"]
    found = shape(own)
    assert found.architecture == "gpt-oss"
    assert found.number("expert_feed_forward_length") == 2880
    assert same(found, replace(shape(plain), family="gpt-oss"))


@pytest.mark.parametrize("stem", ["gemma3_4b", "gemma4_12b", "qwen3.5_9b"])
def test_a_tower_in_the_same_file_is_a_projector(stem: str) -> None:
    plain = header(stem)
    own = {**plain, "tensors": plain["tensors"] + TOWER}
    found, wanted = shape(own), shape(plain)
    assert found.inline_projector_bytes == TOWER_BYTES
    assert "vision" in found.capabilities
    assert found.tensor_count == wanted.tensor_count
    settings = LoadSettings(4096, 1)
    assert estimate(found, settings).gpus[0].projector_bytes == TOWER_BYTES
    assert estimate(found, settings).gpus[0].buffers_bytes == estimate(wanted, settings).gpus[0].buffers_bytes


def test_latent_attention_by_the_length_of_its_heads() -> None:
    plain = header("deepseek-v2_16b-mla")
    numbers = shape(plain).numbers
    own = with_keys(
        plain,
        "deepseek2",
        "glm4moelite",
        attention__head_count_kv=numbers["attention.head_count"],
        attention__key_length=numbers["attention.key_length_mla"],
        attention__value_length=numbers["attention.key_length_mla"],
        attention__key_length_mla=numbers["attention.key_length"],
        attention__value_length_mla=numbers["attention.value_length"],
    )
    found, wanted = shape(own), shape(plain)
    assert found.architecture == "deepseek2"
    assert found.is_latent_attention
    assert found.layers == wanted.layers
    settings = LoadSettings(8192, 2)
    assert estimate(found, settings).gpus[0].kv_cache == estimate(wanted, settings).gpus[0].kv_cache
    assert estimate(found, settings).gpus[0].compute_bytes == estimate(wanted, settings).gpus[0].compute_bytes


def test_kv_heads_for_each_layer_of_a_delta_net_are_one_number() -> None:
    plain = header("qwen3.5_9b")
    layers = shape(plain).layers
    counts = [0 if layer.is_recurrent else layer.head_count_kv for layer in layers]
    assert 0 in counts
    own = with_keys(plain, "qwen35", "qwen35", attention__head_count_kv=counts)
    own = with_names(own, (".ssm_dt.bias", ".ssm_dt"))
    assert own["tensors"] != plain["tensors"]
    assert same(shape(own), shape(plain))


def test_layers_that_predict_ahead_are_numbered_after_the_others() -> None:
    plain = header("qwen3.5_9b")
    ahead = [
        ["mtp.layers.1.self_attn.q_proj.weight", "F16", [4096, 8192]],
        ["mtp.fc.weight", "F16", [8192, 4096]],
    ]
    found, wanted = shape({**plain, "tensors": plain["tensors"] + ahead}), shape(plain)
    assert found.number("nextn_predict_layers") == 2
    assert found.block_count == wanted.block_count + 2
    settings = LoadSettings(4096, 1)
    assert estimate(found, settings).gpus[0].buffers_bytes == estimate(wanted, settings).gpus[0].buffers_bytes
    named = {**plain, "tensors": plain["tensors"] + ahead[1:]}
    assert shape(named).number("nextn_predict_layers") == 1
    for number, counted in ((62, 63), (63, 64), (64, 64), (999, 64)):
        far = [[f"mtp.layers.{number}.self_attn.q_proj.weight", "F16", [4096, 8192]]]
        assert shape({**plain, "tensors": plain["tensors"] + far}).number("nextn_predict_layers") == counted


@pytest.mark.parametrize("old", ["olmo3"])
def test_names_of_architectures(old: str) -> None:
    plain = header("olmo2_7b")
    assert same(shape(with_keys(plain, "olmo2", old)), replace(shape(plain), family="olmo2"))


def test_the_omni_model_is_its_text_model() -> None:
    plain = header("nemotron-3-nano_30b")
    own = with_keys(plain, "nemotron_h_moe", "nemotron_h_omni")
    assert same(shape(own), replace(shape(plain), family="nemotron_h_moe"))
    dense, _tensors = translated({"general.architecture": "nemotron_h_omni"}, [])
    assert dense == {"general.architecture": "nemotron_h"}


def test_embeddings_end_where_those_of_the_layers_end() -> None:
    plain = header("gemma3n_e2b")
    own = {**plain, "tensors": [list(one) for one in plain["tensors"]]}
    for tensor in own["tensors"]:
        if tensor[0] == "token_embd.weight":
            tensor[2] = [tensor[2][0], tensor[2][1] + 256]
    assert own["tensors"] != plain["tensors"]
    assert same(shape(own), shape(plain))


class TestTensors:
    """What becomes of names and shapes."""

    def translate(self, architecture: str, *names: str, **values: Any) -> tuple[dict[str, Any], list[Any]]:
        keys = {f"{architecture}.{key.replace('__', '.')}": value for key, value in values.items()}
        keys["general.architecture"] = architecture
        return translated(keys, [(name, "F16", (64, 32)) for name in names])

    def test_experts_are_fused(self) -> None:
        names = (
            "v.a.weight",
            "blk.0.ffn_gate_exps.weight",
            "blk.0.ffn_up_exps.weight",
            "blk.0.ffn_gate_inp.weight",
        )
        _values, tensors = self.translate("gemma4", *names)
        assert tensors == [
            ("v.a.weight", "F16", (64, 32)),
            ("blk.0.ffn_gate_up_exps.weight", "F16", (64, 64)),
            ("blk.0.ffn_gate_inp.weight", "F16", (64, 32)),
        ]

    def test_experts_of_other_converters_stay_apart(self) -> None:
        names = ("blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight")
        assert [name for name, *_rest in self.translate("gemma4", *names)[1]] == list(names)
        scaled = ("v.a.weight", *names, "blk.0.ffn_up_exps.scale")
        assert [name for name, *_rest in self.translate("gemma4", *scaled)[1]] == list(scaled)

    def test_halves_of_different_kinds_stay_apart(self) -> None:
        tensors = [("v.a", "F16", (8,)), ("blk.0.ffn_gate_exps.weight", "F16", (64, 32))]
        tensors.append(("blk.0.ffn_up_exps.weight", "Q8_0", (64, 32)))
        assert translated({"general.architecture": "gemma4"}, tensors)[1] == tensors

    def test_glm_ocr(self) -> None:
        names = (
            "blk.0.attn_out.weight",
            "blk.0.post_ffn_norm.weight",
            "blk.0.ffn_gate.weight",
            "blk.0.ffn_up.weight",
        )
        values, tensors = self.translate(
            "glmocr", *names, attention__key_length=128, rope__mrope_section=[16, 24, 24]
        )
        assert values["general.architecture"] == "glm4"
        assert values["glm4.rope.dimension_sections"] == [16, 24, 24, 0]
        assert values["glm4.rope.dimension_count"] == 128
        assert tensors == [
            ("blk.0.attn_output.weight", "F16", (64, 32)),
            ("blk.0.post_ffw_norm.weight", "F16", (64, 32)),
            ("blk.0.ffn_up.weight", "F16", (64, 64)),
        ]

    def test_qwen25vl(self) -> None:
        values, _tensors = self.translate("qwen25vl", rope__mrope_section=[16, 24, 24], block_count=3)
        assert values["general.architecture"] == "qwen2vl"
        assert values["qwen2vl.block_count"] == 3
        assert values["qwen2vl.rope.dimension_sections"] == [16, 24, 24, 0]

    @pytest.mark.parametrize(
        ("indices", "depth"), [([8, 16, 24], 3), ({"array_length": 3}, 3), (None, 0), ("three", 0)]
    )
    def test_qwen3vl(self, indices: Any, depth: int) -> None:
        values, _tensors = self.translate("qwen3vl", vision__deepstack_visual_indexes=indices)
        assert values["qwen3vl.n_deepstack_layers"] == depth
        assert values["qwen3vl.rope.dimension_sections"] == [24, 20, 20, 0]

    def test_qwen3vl_as_llama_cpp_writes_it(self) -> None:
        values, _tensors = self.translate("qwen3vl", rope__dimension_sections=[1, 2, 3, 0])
        assert "qwen3vl.n_deepstack_layers" not in values

    def test_embeddinggemma(self) -> None:
        values, tensors = self.translate(
            "gemma3",
            "dense.0.weight",
            "dense.1.weight",
            "norm.weight",
            attention__sliding_window_pattern=[True],
        )
        assert values == {"general.architecture": "gemma-embedding"}
        assert [name for name, *_rest in tensors] == [
            "dense_2.weight",
            "dense_3.weight",
            "output_norm.weight",
        ]

    def test_lfm2(self) -> None:
        assert self.translate("lfm2", "output_norm.weight")[1][0][0] == "token_embd_norm.weight"
        both = ["output_norm.weight", "token_embd_norm.weight"]
        assert [name for name, *_rest in self.translate("lfm2", *both)[1]] == both

    @pytest.mark.parametrize(
        ("architecture", "name", "wanted"),
        [
            ("laguna", "blk.0.attn_g.weight", "blk.0.attn_gate.weight"),
            ("laguna", "blk.0.attn_gate.weight", "blk.0.attn_gate.weight"),
            ("nemotron_h_moe", "blk.1.ffn_latent_in.weight", "blk.1.ffn_latent_down.weight"),
            ("qwen3next", "blk.1.ssm_dt", "blk.1.ssm_dt.bias"),
            ("deepseekocr", "s.blk.0.norm1.weight", "v.s.blk.0.norm1.weight"),
            ("llama", "blk.0.attn_out.weight", "blk.0.attn_out.weight"),
        ],
    )
    def test_names(self, architecture: str, name: str, wanted: str) -> None:
        assert [one[0] for one in self.translate(architecture, name)[1]] == [wanted]

    def test_a_header_without_an_architecture_is_left_alone(self) -> None:
        assert translated({"a": 1}, []) == ({"a": 1}, [])


@pytest.mark.parametrize(
    ("name", "is_tower"),
    [("v.blk.0.ln1.weight", True), ("mm.0.weight", True), ("a.conv.weight", True), ("blk.0.v.weight", False)],
)
def test_tensors_of_a_tower(name: str, is_tower: bool) -> None:
    assert is_projector_tensor(name) is is_tower
