# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vision tower of a model's projector: what planning needs of its header.

A projector in a file of its own has keys under `clip.`, one inside of the model's file under the architecture.
Source: llama.cpp tools/mtmd/clip.cpp, load_hparams (b10488); Ollama llama/compat/llama-ollama-compat.cpp (v0.33.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Tuple

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._architectures import traits

# No published tower comes near these; a header beyond them tells nothing.
MAX_LENGTH = 65536
MAX_PATCHES = 1 << 20

# Kinds that scale every image, or every piece of it, to the same square.
FIXED_KINDS = frozenset(
    ("adapter", "gemma3", "idefics3", "internvl", "janus_pro", "ldp", "ldpv2", "llama4", "mlp", "mlp_norm")
)
# Kinds that keep the proportions of an image: tokens of the largest one, and of the one that is reserved for at the
# start.
TOKENS_MOST_AND_RESERVED: Mapping[str, tuple[int, int]] = {
    "gemma4v": (280, 256),
    "glm4v": (4096, 46 * 46),
    "kimivl": (1024, 256),
    "lfm2": (256, 256),
    "pixtral": (1024, 256),
    "qwen2.5vl_merger": (4096, 46 * 46),
    "qwen2vl_merger": (4096, 46 * 46),
    "qwen3vl_merger": (4096, 46 * 46),
}
# Patches on each side that become one token, where the header does not say.
MERGES: Mapping[str, int] = {
    "gemma4v": 3,
    "glm4v": 2,
    "lfm2": 2,
    "pixtral": 2,
    "qwen2.5vl_merger": 2,
    "qwen2vl_merger": 2,
    "qwen3vl_merger": 2,
}
MERGE_KEYS = ("spatial_merge_size", "projector.scale_factor")
GATED_KINDS = frozenset(("gemma4v", "glm4v", "pixtral", "qwen2.5vl_merger"))
# Most layers see only their window of the image, by a mask over all pairs of patches.
WINDOWED_KINDS = frozenset(("qwen2.5vl_merger",))

Tensor = Tuple[str, str, Tuple[int, ...]]


@dataclass(frozen=True)
class Tower:
    """A vision tower; lengths in elements, an image in patches of `patch_length` pixels on each side.

    kind: of projector, as llama.cpp calls it. patches_reserved: of the image that the engine makes room for at the start;
    patches_most: of the largest that it takes.
    """

    kind: str
    patch_length: int
    patches_reserved: int
    patches_most: int
    embedding_length: int
    feed_forward_length: int
    head_count: int
    is_gated: bool
    has_windows: bool


def tower_of(
    architecture: str, values: Mapping[str, Any], tensors: Sequence[Tensor], separate: Mapping[str, Any]
) -> Tower | None:
    """The tower that a header tells of; None where it does not tell enough, of a kind that is not known, or of sounds.

    values, tensors: of the model's file, in llama.cpp's form. separate: the metadata of a projector's own file, if any.
    """
    if separate:
        kind = separate.get("clip.projector_type") or separate.get("clip.vision.projector_type")
        values, prefix, tensors = separate, "clip.vision.", ()
    else:
        kind, prefix = traits(architecture).inline_projector, f"{architecture}.vision."
    hears = values.get("clip.has_audio_encoder") or f"{architecture}.audio.block_count" in values
    if not isinstance(kind, str) or hears:
        return None
    patch = _length(values, prefix + "patch_size")
    merge_keys = [prefix + key for key in MERGE_KEYS] + [f"{architecture}.spatial_merge_size"]
    merge = next(
        (found for found in (_length(values, key) for key in merge_keys) if found), MERGES.get(kind, 1)
    )
    if kind in FIXED_KINDS and patch:
        most = reserved = (_length(values, prefix + "image_size") // patch) ** 2
    elif kind in TOKENS_MOST_AND_RESERVED:
        most, reserved = (merge**2 * tokens for tokens in TOKENS_MOST_AND_RESERVED[kind])
    else:
        return None
    tower = Tower(
        kind=kind,
        patch_length=patch,
        patches_reserved=reserved,
        patches_most=most,
        embedding_length=_length(values, prefix + "embedding_length"),
        feed_forward_length=_length(values, prefix + "feed_forward_length") or _network_length(tensors),
        head_count=_length(values, prefix + "attention.head_count"),
        is_gated=kind in GATED_KINDS,
        has_windows=kind in WINDOWED_KINDS,
    )
    whole = (patch, reserved, tower.embedding_length, tower.feed_forward_length, tower.head_count)
    return tower if all(whole) and most <= MAX_PATCHES and tower.head_count <= tower.embedding_length else None


def _length(values: Mapping[str, Any], key: str) -> int:
    """A length of a header, 0 where it does not have it or cannot mean it."""
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_LENGTH:
        return 0
    return value


def _network_length(tensors: Sequence[Tensor]) -> int:
    """The length of the feed-forward network of the first layer, by its matrices."""
    lengths = [
        length
        for name, _type_name, shape in tensors
        if name.startswith("v.blk.0.") and (".ffn" in name or ".mlp" in name)
        for length in shape
    ]
    return min(max(lengths, default=0), MAX_LENGTH)
