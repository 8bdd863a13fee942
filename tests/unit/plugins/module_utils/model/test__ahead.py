# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that predict tokens ahead by layers of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._ahead import (
    can_predict_ahead,
    tokens_ahead,
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
