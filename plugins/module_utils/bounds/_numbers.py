# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers as hosts and operators write them."""

from __future__ import annotations

import re

# No number that is read here needs more digits, and Python refuses to read more than 4300.
MAX_DIGITS = 19


def whole_number(text: str | None) -> int | None:
    """A number of ASCII digits alone, at most 19 of them; None for everything else.

    Not `str.isdigit`, which is true for digits that `int` refuses, such as a superscript two.
    """
    if text is None or not re.fullmatch(f"[0-9]{{1,{MAX_DIGITS}}}", text):
        return None
    return int(text)
