# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._tower import tower_of

SIGLIP = {
    "image_size": 896,
    "patch_size": 14,
    "embedding_length": 1152,
    "feed_forward_length": 4304,
    "attention.head_count": 16,
}
TEXT = {
    "file_bytes": 4096,
    "metadata": {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 1,
    },
    "tensors": [["token_embd.weight", "F16", [64, 32]], ["blk.0.attn_q.weight", "F16", [64, 64]]],
}


def separate(kind: str, **changes: Any) -> dict[str, Any]:
    values = {f"clip.vision.{key}": value for key, value in {**SIGLIP, **changes}.items()}
    return {"clip.projector_type": kind, **values}


def inline(architecture: str, **changes: Any) -> dict[str, Any]:
    return {f"{architecture}.vision.{key}": value for key, value in {**SIGLIP, **changes}.items()}


@pytest.mark.parametrize(
    ("kind", "changes", "reserved", "most"),
    [
        ("gemma3", {}, 64 * 64, 64 * 64),
        ("mlp", {"image_size": 336}, 24 * 24, 24 * 24),
        ("qwen3vl_merger", {"spatial_merge_size": 2}, 4 * 46 * 46, 4 * 4096),
        ("qwen2.5vl_merger", {}, 4 * 46 * 46, 4 * 4096),
        ("pixtral", {"spatial_merge_size": 1}, 256, 1024),
        ("gemma4v", {"projector.scale_factor": 3}, 9 * 256, 9 * 280),
    ],
)
def test_patches_of_the_image_that_is_reserved_for_and_of_the_largest(
    kind: str, changes: dict[str, Any], reserved: int, most: int
) -> None:
    tower = tower_of("llama", {}, (), separate(kind, **changes))
    assert tower is not None
    assert (tower.patches_reserved, tower.patches_most) == (reserved, most)


@pytest.mark.parametrize(
    ("architecture", "kind", "is_gated", "has_windows"),
    [
        ("gemma3", "gemma3", False, False),
        ("mistral3", "pixtral", True, False),
        ("qwen2vl", "qwen2.5vl_merger", True, True),
        ("qwen3vlmoe", "qwen3vl_merger", False, False),
    ],
)
def test_a_tower_inside_of_the_models_file_is_of_its_architectures_kind(
    architecture: str, kind: str, is_gated: bool, has_windows: bool
) -> None:
    tower = tower_of(architecture, inline(architecture), (), {})
    assert tower is not None
    assert (tower.kind, tower.is_gated, tower.has_windows) == (kind, is_gated, has_windows)


def test_the_merge_of_mistral_stands_beside_its_tower() -> None:
    values = {**inline("mistral3"), "mistral3.spatial_merge_size": 2}
    tower = tower_of("mistral3", values, (), {})
    assert tower is not None
    assert tower.patches_most == 4 * 1024


def test_a_missing_length_of_the_network_is_that_of_its_matrices() -> None:
    values = inline("qwen2vl", feed_forward_length=None)
    tensors = (("v.blk.0.ffn_gate.weight", "F16", (1152, 3420)), ("v.blk.0.attn_q.weight", "F16", (1152, 9999)))
    tower = tower_of("qwen2vl", values, tensors, {})
    assert tower is not None
    assert tower.feed_forward_length == 3420


@pytest.mark.parametrize(
    "told",
    [
        separate("of_tomorrow"),
        separate("gemma3", image_size=None),
        separate("gemma3", patch_size=0),
        separate("gemma3", patch_size="14"),
        separate("gemma3", embedding_length=2**40),
        separate("gemma3", image_size=65536, patch_size=1),
        {**separate("gemma3"), "clip.has_audio_encoder": True},
        {"clip.projector_type": 7},
        {"general.architecture": "clip"},
    ],
)
def test_what_is_not_told_or_not_known_is_none(told: dict[str, Any]) -> None:
    assert tower_of("llama", {}, (), told) is None


class TestInAShape:
    def test_of_a_projectors_own_file(self) -> None:
        shape = shape_from_header(
            TEXT, name="m", projector_bytes=9, projector_metadata=separate("mlp", image_size=336)
        )
        assert shape.tower is not None
        assert shape.tower.patches_most == 576
        assert ModelShape.from_dict(shape.to_dict()) == shape

    def test_a_text_model_has_none(self) -> None:
        assert shape_from_header(TEXT, name="m", projector_metadata=separate("mlp")).tower is None

    def test_a_projector_of_which_nothing_is_told_has_none(self) -> None:
        assert shape_from_header(TEXT, name="m", projector_bytes=9).tower is None

    @pytest.mark.parametrize("damage", ["odd", [], {"kind": "mlp"}])
    def test_damaged(self, damage: Any) -> None:
        plain = {**shape_from_header(TEXT, name="m").to_dict(), "tower": damage}
        with pytest.raises(ValueError, match="the shape of model m is damaged"):
            ModelShape.from_dict(plain)

    def test_of_another_kind(self) -> None:
        shape = shape_from_header(TEXT, name="m", projector_bytes=9, projector_metadata=separate("mlp"))
        plain = shape.to_dict()
        plain["tower"]["head_count"] = "many"
        with pytest.raises(ValueError, match="head_count of the tower of model m is 'many'"):
            ModelShape.from_dict(plain)

    def test_metadata_of_another_kind(self) -> None:
        with pytest.raises(ValueError, match="projector_metadata is 5, expected a mapping"):
            shape_from_header(TEXT, name="m", projector_bytes=9, projector_metadata=5)  # type: ignore[arg-type]
