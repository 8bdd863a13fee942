# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installed model condensed to what planning needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    InstalledModel,
    ModelError,
)
from store import load_header

MODEL = InstalledModel(
    name="llama3.2:1b",
    digest="sha256-" + "0" * 64,
    family="llama",
    quantization="Q8_0",
    header=load_header("llama3.2:1b"),
    projector_bytes=0,
    adapter_bytes=0,
    draft_bytes=0,
    parameters={},
)


def test_a_shape_carries_name_digest_family_and_files():
    shape = replace(MODEL, family="llama-like", projector_bytes=7, adapter_bytes=8).shape()
    assert (shape.name, shape.digest, shape.family) == (MODEL.name, MODEL.digest, "llama-like")
    assert (shape.projector_bytes, shape.adapter_bytes) == (7, 8)


def test_the_manifest_names_the_quantization_where_the_header_does_not():
    header = dict(MODEL.header, quantization="")
    assert replace(MODEL, header=header, quantization="Q8_0").shape().quantization == "Q8_0"
    assert (
        replace(MODEL, header=dict(header, quantization="F16"), quantization="").shape().quantization == "F16"
    )


def test_only_parameters_that_change_memory_or_placement_are_kept():
    parameters = {
        "num_ctx": 8192,
        "num_batch": 256,
        "num_gpu": 10,
        "main_gpu": 1,
        "temperature": 0.1,
        "stop": "x",
    }
    shape = replace(MODEL, parameters=parameters).shape()
    assert shape.num_ctx == 8192
    assert shape.parameters == {"num_batch": 256, "num_gpu": 10, "main_gpu": 1}


@pytest.mark.parametrize(("value", "kept"), [(512.0, {"num_batch": 512}), (-1, {"num_batch": -1}), (None, {})])
def test_a_parameter_is_a_whole_number_or_ollamas_own_choice(value, kept):
    assert replace(MODEL, parameters={"num_batch": value}).shape().parameters == kept


@pytest.mark.parametrize("key", ["num_batch", "num_gpu", "main_gpu"])
@pytest.mark.parametrize("value", ["x", [[1]], 10**400, float("inf"), float("nan"), 0.5, -2, True])
def test_a_parameter_that_is_none_costs_this_model_alone(key, value):
    with pytest.raises(ModelError, match=rf"model llama3.2:1b: its parameter {key} is .*, expected a whole number"):
        replace(MODEL, parameters={key: value}).shape()


def test_a_draft_model_is_mentioned():
    assert replace(MODEL, draft_bytes=5).shape().parameters == {"draft_bytes": 5}


@pytest.mark.parametrize(
    ("value", "num_ctx"),
    [
        (8192, 8192),
        (8192.0, 8192),
        (0, None),
        (-1, None),
        (True, None),
        ("8192", None),
        (0.5, None),
        (None, None),
    ],
)
def test_num_ctx_is_a_whole_number_above_zero(value, num_ctx):
    assert replace(MODEL, parameters={"num_ctx": value}).shape().num_ctx == num_ctx


def test_a_header_that_is_no_model_is_named():
    with pytest.raises(ModelError, match=r"model llama3.2:1b: .*general.architecture is missing"):
        replace(MODEL, header=dict(MODEL.header, metadata={})).shape()
