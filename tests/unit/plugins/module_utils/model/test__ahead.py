# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that predict tokens ahead by layers of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._ahead import (
    can_predict_ahead,
    predicting_block,
    tokens_ahead,
    without_ahead,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA, shape

HEADER = json.loads((DATA / "ahead" / "qwen3.5_9b-mtp.json").read_text())
MIB = 1 << 20


def mtp(**parameters: Any) -> ModelShape:
    return shape_from_header(HEADER, name="qwen3.5:9b-mtp", parameters=parameters)


@pytest.mark.parametrize(
    ("parameters", "ahead"),
    [
        ({}, 0),
        ({"draft_num_predict": 1}, 1),
        ({"draft_num_predict": 4}, 4),
        ({"draft_num_predict": 0}, 0),
        ({"draft_num_predict": -1}, 0),
        ({"draft_num_predict": True}, 0),
        ({"draft_num_predict": "4"}, 0),
        # A draft model is run in place of them, and without being asked to.
        ({"draft_bytes": 1}, 4),
        ({"draft_num_predict": 2, "draft_bytes": 1}, 2),
        ({"draft_num_predict": 0, "draft_bytes": 1}, 0),
    ],
)
def test_the_modelfile_says_how_far_ahead(parameters: dict[str, Any], ahead: int) -> None:
    assert can_predict_ahead(mtp())
    assert tokens_ahead(mtp(**parameters)) == ahead


def test_a_model_without_such_layers_predicts_nothing_ahead() -> None:
    plain = shape("qwen3.5:9b")
    assert not can_predict_ahead(plain)
    assert plain.ahead_bytes == 0


def test_their_weights_are_told_apart_and_survive_the_way() -> None:
    # The engine's model buffer with them is 4972.24 MiB, of which 4812.25 are the other layers and the output.
    assert 159.9 < mtp().ahead_bytes / MIB < 160.1
    assert ModelShape.from_dict(mtp().to_dict()) == mtp()
    without = {key: value for key, value in mtp().to_dict().items() if key != "ahead_bytes"}
    assert ModelShape.from_dict(without).ahead_bytes == 0


def test_the_block_is_a_model_of_one_full_attention_layer() -> None:
    block = predicting_block(mtp(draft_num_predict=4))
    assert block is not None
    assert (block.architecture, block.block_count, block.number("nextn_predict_layers")) == ("qwen35/predicting", 1, 0)
    assert block.layers == (replace(mtp().layers[3], cache_layer=0, form=mtp().layers[-1].form),)
    assert tokens_ahead(block) == 0


@pytest.mark.parametrize(
    "other",
    [
        mtp(draft_bytes=1),
        replace(mtp(), architecture="qwen3next"),
        replace(mtp(), numbers={**mtp().numbers, "nextn_predict_layers": 2}),
        shape("llama3.1:8b"),
    ],
    ids=["a draft model", "another architecture", "two blocks", "no block"],
)
def test_of_others_the_graph_is_not_known(other: ModelShape) -> None:
    assert predicting_block(other) is None


def test_of_several_blocks_the_first_counts_with_the_window_of_layers_with_as_many_heads() -> None:
    own, windowed = shape("gemma3:4b").layers[5], shape("gemma3:4b").layers[4]
    assert (own.attention, windowed.attention) == ("full", "sliding")
    first = replace(windowed, attention="none", cache_layer=None, head_count=6)
    layers = (replace(windowed, cache_layer=0, head_count=6), replace(own, cache_layer=1), first, first)
    model = replace(
        mtp(draft_num_predict=1),
        architecture="step35",
        layers=layers,
        block_count=4,
        forms=shape("gemma3:4b").forms,
        numbers={"nextn_predict_layers": 2},
    )
    block = predicting_block(model)
    assert block is not None
    assert block.architecture == "step35/predicting"
    assert block.layers == (replace(layers[0], cache_layer=0),)
    assert predicting_block(replace(model, name="others", layers=(layers[1], layers[1], first, first))) is None


def test_a_model_may_be_run_without() -> None:
    assert tokens_ahead(without_ahead(mtp(draft_num_predict=4))) == 0
    assert without_ahead(mtp(num_gpu=3)) == mtp(num_gpu=3)
