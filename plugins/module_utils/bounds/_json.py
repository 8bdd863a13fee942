# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON from others, read and returned with bounds."""

from __future__ import annotations

import json
from typing import Any

# An item that is no number or text takes some 80 bytes of memory, for 3 bytes of JSON.
MAX_ITEMS = 200_000
# What one host may say: a control node keeps it for each host of a fleet.
MAX_FACTS_BYTES = 4 << 20
_SPECIAL = b"[{,"


class TooManyItems(ValueError):
    """A JSON text may hold more items than it is worth to read."""


def read_json(content: bytes, max_items: int = MAX_ITEMS) -> Any:
    """The value of a JSON text. Its items are counted before it is read, by what may separate or begin one.

    Raises: TooManyItems; ValueError where it is no JSON.
    """
    items = sum(content.count(byte) for byte in _SPECIAL)
    if items > max_items:
        raise TooManyItems(f"it holds up to {items} items, of which at most {max_items} are read")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def json_bytes(value: Any) -> int:
    """How many bytes a value takes as JSON, as it travels to the control node."""
    return len(json.dumps(value))
