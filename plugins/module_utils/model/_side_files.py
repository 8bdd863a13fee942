# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are loaded beside a model and whose headers are not read: adapters and a draft model."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import whole_mib
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape


def with_side_files(shape: ModelShape) -> ModelShape:
    """The model with the files that are loaded beside it, counted by their size on disk.

    They count on every GPU that holds a part of the model: an adapter lies beside the layers that it changes, a draft
    model where the engine finds room.
    """
    extra_bytes = shape.adapter_bytes + draft_bytes(shape)
    if not extra_bytes:
        return shape
    return replace(
        shape,
        per_device_bytes=shape.per_device_bytes + extra_bytes,
        text_bytes=shape.text_bytes + extra_bytes,
    )


def draft_bytes(shape: ModelShape) -> int:
    """Size of the model's draft model in bytes, 0 where it has none."""
    size = shape.parameters.get("draft_bytes")
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else 0


def side_files_note(shape: ModelShape) -> str:
    """What makes the memory of a model with such files an estimate; empty where it has none."""
    notes = []
    if shape.adapter_bytes:
        notes.append(
            f"its adapters are counted by their size on disk, {whole_mib(shape.adapter_bytes)} on every GPU"
        )
    if draft_bytes(shape):
        notes.append(
            f"its draft model is counted by its size on disk, {whole_mib(draft_bytes(shape))} on every GPU"
        )
    return "; ".join(notes)
