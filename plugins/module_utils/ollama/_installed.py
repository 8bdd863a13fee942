# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installed model as the store on disk and the API both tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._fields import is_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import (
    ModelShape,
    shape_from_header,
)

# Modelfile parameters that change memory or placement. Source: ollama v0.33.0-rc2, api/types.go, Runner.
MEMORY_PARAMETERS = ("num_batch", "num_gpu", "main_gpu", "draft_num_predict")

# Tags of one file that differ in these do not share a runner. Source: ollama v0.33.0-rc2, server/sched.go (needsReload).
SIDE_FILES = ("adapter", "projector")


class ModelError(ValueError):
    """An installed model cannot be read; the message names the file or reply and what is wrong with it."""


class UnplannableError(ValueError):
    """An installed model is of a kind whose memory is not predicted; the message says which."""


# Why a model of Ollama's other engine is not planned, and what to do.
SAFETENSORS = (
    "it is a safetensors model, which runs on MLX; its memory is not predicted, and where it is asked for no plan counts it: "
    "remove it with 'ollama rm', or use a GGUF model in its place"
)


@dataclass(frozen=True)
class InstalledModel:
    """One installed model.

    header: as `_gguf.read_header` returns it. projector_metadata: of a separate projector's file. projector_bytes,
    adapter_bytes, draft_bytes: sizes of separate files, 0 when there is none. parameters: all of the Modelfile's. note: what
    is inexact, if anything. side_files: digests of the projectors and adapters, in their order.
    """

    name: str
    digest: str
    family: str
    quantization: str
    header: Mapping[str, Any]
    projector_bytes: int
    adapter_bytes: int
    draft_bytes: int
    parameters: Mapping[str, Any]
    note: str = ""
    projector_metadata: Mapping[str, Any] = field(default_factory=dict)
    side_files: tuple[str, ...] = ()

    def shape(self) -> ModelShape:
        """The model condensed to what planning needs.

        Raises: ModelError.
        """
        parameters: dict[str, Any] = {
            key: self._whole(key) for key in MEMORY_PARAMETERS if self.parameters.get(key) is not None
        }
        if self.draft_bytes:
            parameters["draft_bytes"] = self.draft_bytes
        if self.side_files:
            parameters["side_files"] = list(self.side_files)
        header = dict(self.header, quantization=self.quantization or self.header.get("quantization", ""))
        try:
            return shape_from_header(
                header,
                name=self.name,
                digest=self.digest,
                family=self.family,
                projector_bytes=self.projector_bytes,
                projector_metadata=self.projector_metadata,
                adapter_bytes=self.adapter_bytes,
                num_ctx=_context_length(self.parameters.get("num_ctx")),
                parameters=parameters,
            )
        except ValueError as error:
            raise ModelError(f"model {self.name}: {error}") from error

    def _whole(self, key: str) -> int:
        """A parameter that is a number of things, -1 for Ollama's own choice; JSON may have written it as 512.0."""
        value = self.parameters[key]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not is_number(value) and value != -1:
            raise ModelError(
                f"model {self.name}: its parameter {key} is {value!r:.40}, expected a whole number; "
                "correct it in the Modelfile and create the model again"
            )
        return int(value)


def _context_length(value: Any) -> int | None:
    """A context length that Ollama takes: a whole number above 0, which JSON may have written as 8192.0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        return None
    return int(value) if value > 0 else None
