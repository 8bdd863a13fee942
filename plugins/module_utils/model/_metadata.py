# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata of a GGUF header, read key by key: every value is checked, every complaint names its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.model._fields import shown

# Source: llama.cpp src/llama-hparams.h, LLAMA_MAX_LAYERS (b10488)
MAX_LAYERS = 512
# GGUF stores these numbers as uint32; llama.cpp reads them so.
MAX_INTEGER = 2**32 - 1
# More keys than any architecture has.
MAX_NUMBERS = 256


class Metadata:
    """Flat GGUF metadata of one model; keys are given without the architecture's prefix."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Raises: ValueError when `general.architecture` is missing."""
        architecture = values.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise ValueError("general.architecture is missing: this is not the header of a model")
        self.architecture = architecture
        self._values = values

    def get(self, key: str) -> Any:
        """Value of a key, None where the header has none."""
        return self._values.get(f"{self.architecture}.{key}")

    def has(self, key: str) -> bool:
        """Whether the header has the key."""
        return self.get(key) is not None

    def _checked(self, key: str, value: Any, minimum: int = 0, maximum: int = MAX_INTEGER) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{self.architecture}.{key} is {shown(value)}, expected a whole number")
        if not minimum <= value <= maximum:
            raise ValueError(f"{self.architecture}.{key} is {value}, expected {minimum} to {maximum}")
        return value

    def integer(
        self, key: str, *, default: int | None = None, minimum: int = 0, maximum: int = MAX_INTEGER
    ) -> int:
        """A number; of a number per layer the largest.

        Raises: ValueError when it is missing without a default, no whole number, or out of bounds.
        """
        value = self.get(key)
        if isinstance(value, list) and value:
            return max(self._checked(key, one, minimum, maximum) for one in self._bounded(key, value))
        if value is None or isinstance(value, (list, dict)):
            if default is None:
                raise ValueError(f"{self.architecture}.{key} is missing")
            return default
        return self._checked(key, value, minimum, maximum)

    def per_layer(self, key: str, layer_count: int, *, default: int | None = None) -> list[int]:
        """A number for each layer, whether the header gives one for all or a list.

        Raises: ValueError when it is missing without a default, too short, no whole numbers, or out of
        bounds.
        """
        value = self.get(key)
        if isinstance(value, list):
            if len(value) < layer_count:
                raise ValueError(
                    f"{self.architecture}.{key} has {len(value)} values for {layer_count} layers"
                )
            return [self._checked(key, one) for one in self._bounded(key, value)[:layer_count]]
        return [self.integer(key, default=default)] * layer_count

    def flags(self, key: str, layer_count: int) -> list[bool] | None:
        """A yes or no for each layer, None where the header has no list.

        Raises: ValueError when the list is too short.
        """
        value = self.get(key)
        if not isinstance(value, list):
            return None
        if len(value) < layer_count:
            raise ValueError(f"{self.architecture}.{key} has {len(value)} values for {layer_count} layers")
        return [bool(one) for one in value[:layer_count]]

    def numbers(self) -> dict[str, int]:
        """The whole numbers of the architecture, by their keys without its prefix; the largest of a short list."""
        prefix = f"{self.architecture}."
        found: dict[str, int] = {}
        for key, value in self._values.items():
            if not isinstance(key, str) or not key.startswith(prefix) or len(found) >= MAX_NUMBERS:
                continue
            if (
                isinstance(value, list)
                and 0 < len(value) <= MAX_LAYERS
                and all(_is_whole(one) for one in value)
            ):
                value = max(value)
            if _is_whole(value) or isinstance(value, bool):
                found[key[len(prefix) :]] = int(value)
        return found

    def _bounded(self, key: str, value: list[Any]) -> list[Any]:
        if len(value) > MAX_LAYERS:
            raise ValueError(
                f"{self.architecture}.{key} has {len(value)} values, expected at most {MAX_LAYERS}"
            )
        return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER
