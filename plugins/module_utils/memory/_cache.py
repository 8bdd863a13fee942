# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cache takes: of full attention, of sliding windows and of recurrent states."""

from __future__ import annotations

from dataclasses import dataclass


def padded(count: int, multiple: int) -> int:
    """The count rounded up to a multiple."""
    return -(-count // multiple) * multiple


@dataclass(frozen=True)
class KvCache:
    """KV cache of one loaded model, all slots together. Sizes in bytes."""

    full_attention_bytes: int = 0
    sliding_window_bytes: int = 0
    recurrent_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.full_attention_bytes + self.sliding_window_bytes + self.recurrent_bytes

    def __sub__(self, other: KvCache) -> KvCache:
        return KvCache(
            self.full_attention_bytes - other.full_attention_bytes,
            self.sliding_window_bytes - other.sliding_window_bytes,
            self.recurrent_bytes - other.recurrent_bytes,
        )

    def without(self, excess_bytes: int) -> KvCache:
        """So much less, of full attention first; nothing is left where it is no larger."""
        sizes = []
        for size in (self.full_attention_bytes, self.sliding_window_bytes, self.recurrent_bytes):
            left = max(size - excess_bytes, 0)
            excess_bytes -= size - left
            sizes.append(left)
        return KvCache(*sizes)

    def __add__(self, other: KvCache) -> KvCache:
        return KvCache(
            self.full_attention_bytes + other.full_attention_bytes,
            self.sliding_window_bytes + other.sliding_window_bytes,
            self.recurrent_bytes + other.recurrent_bytes,
        )
