# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._metadata import Metadata


def metadata(**values: Any) -> Metadata:
    return Metadata(
        {"general.architecture": "llama", **{f"llama.{key}": value for key, value in values.items()}}
    )


def test_a_number_may_be_given_once_or_for_each_layer() -> None:
    assert metadata(heads=8).integer("heads") == 8
    assert metadata(heads=[0, 8, 4]).integer("heads") == 8
    assert metadata(heads=8).per_layer("heads", 3) == [8, 8, 8]
    assert metadata(heads=[0, 8, 4]).per_layer("heads", 2) == [0, 8]


def test_a_missing_number_has_its_default() -> None:
    assert metadata().integer("heads", default=3) == 3
    assert metadata(heads={"array_length": 9}).integer("heads", default=3) == 3
    assert metadata().per_layer("heads", 2, default=0) == [0, 0]
    assert metadata().flags("sliding", 2) is None


def test_flags_are_those_of_the_layers() -> None:
    assert metadata(sliding=[True, False, True]).flags("sliding", 2) == [True, False]


def test_numbers_are_the_architectures_own() -> None:
    plain = Metadata(
        {
            "general.architecture": "llama",
            "llama.a": 1,
            "llama.b": [1, 7],
            "llama.c": True,
            "llama.d": 0.5,
            "llama.e": [],
            "llama.f": "text",
            "other.g": 1,
        }
    )
    assert plain.numbers() == {"a": 1, "b": 7, "c": 1}


def test_numbers_are_bounded() -> None:
    assert len(metadata(**{f"key{number}": number for number in range(5000)}).numbers()) == 256
    lists = {"most": [2**32 - 1] * 512, "more": [1] * 513, "large": 2**32, "largest": 2**32 - 1}
    assert metadata(**lists).numbers() == {"most": 2**32 - 1, "largest": 2**32 - 1}
    assert metadata(heads=[8] * 512).integer("heads") == 8


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "llama.heads is missing"),
        (True, "llama.heads is True, expected a whole number"),
        ("8" * 90, r"llama.heads is '8{39}\.\.\., expected a whole number"),
        (8.0, "llama.heads is 8.0, expected a whole number"),
        (-1, "llama.heads is -1, expected 0 to 4294967295"),
        (2**32, "llama.heads is 4294967296, expected 0 to"),
        ([8, "x"], "llama.heads is 'x', expected a whole number"),
        ([1] * 513, "llama.heads has 513 values, expected at most 512"),
    ],
)
def test_what_is_no_number_is_named(value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        metadata(heads=value).integer("heads")


def test_too_few_values_are_named() -> None:
    with pytest.raises(ValueError, match=r"llama.heads has 2 values for 3 layers"):
        metadata(heads=[1, 2]).per_layer("heads", 3)
    with pytest.raises(ValueError, match=r"llama.sliding has 1 values for 3 layers"):
        metadata(sliding=[True]).flags("sliding", 3)


@pytest.mark.parametrize("architecture", [None, "", 3, ["llama"]])
def test_no_architecture_no_model(architecture: Any) -> None:
    with pytest.raises(
        ValueError, match=r"general.architecture is missing: this is not the header of a model"
    ):
        Metadata({"general.architecture": architecture})
