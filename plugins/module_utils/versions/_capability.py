# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CUDA's compute capability, the version of a GPU's instructions."""

from __future__ import annotations

import re
from typing import Tuple

Capability = Tuple[int, int]


def capability_of(text: str | None) -> Capability | None:
    """That of a GPU, such as 8.6; None where it is not told, or the text is none."""
    match = re.fullmatch(r"([0-9]{1,3})\.([0-9]{1,3})", text or "")
    return (int(match[1]), int(match[2])) if match else None
