# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers as Ollama publishes them, brought into the form that llama.cpp loads."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

# Tensors of a vision or audio tower that lie in the same file as the text model.
# Source: Ollama llama/compat/llama-ollama-compat.cpp (v0.33.0)
PROJECTOR_PREFIXES = ("v.", "mm.", "a.")

RENAMED_ARCHITECTURES = {"gptoss": "gpt-oss"}


def is_projector_tensor(name: str) -> bool:
    """Whether a tensor belongs to an inline projector, not to the text model."""
    return name.startswith(PROJECTOR_PREFIXES)


def normalised(metadata: Mapping[str, Any], tensors: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Metadata under llama.cpp's architecture name, with the keys that Ollama's own files lack.

    Source: Ollama llama/compat/llama-ollama-compat.cpp (v0.33.0).
    """
    architecture = metadata.get("general.architecture")
    renamed = RENAMED_ARCHITECTURES.get(architecture) if isinstance(architecture, str) else None
    if renamed is None:
        return dict(metadata)
    prefix = f"{architecture}."
    values = {
        (f"{renamed}.{key[len(prefix) :]}" if key.startswith(prefix) else key): value
        for key, value in metadata.items()
    }
    values["general.architecture"] = renamed
    if renamed == "gpt-oss" and f"{renamed}.expert_feed_forward_length" not in values:
        for name, _type_name, shape in tensors:
            if name.endswith("ffn_gate_exps.weight") and len(shape) > 1:
                values[f"{renamed}.expert_feed_forward_length"] = shape[1]
                break
    return values
