# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses a commit message whose subject is longer than 72 characters, or is not set apart from its body.

python tests/gates/subject.py FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

MOST_CHARACTERS = 72


def complaint(message: str) -> str:
    """What is wrong with a message; empty where nothing is."""
    lines = [line for line in message.splitlines() if not line.startswith("#")]
    subject = lines[0] if lines else ""
    if not subject.strip():
        return "the subject is empty: say the effect of the change"
    if len(subject) > MOST_CHARACTERS:
        return f"the subject has {len(subject)} characters, at most {MOST_CHARACTERS}: the why belongs to the body"
    if len(lines) > 1 and lines[1].strip():
        return "the second line is to be empty: it sets the subject apart from the body"
    return ""


if __name__ == "__main__":
    sys.exit(complaint(Path(sys.argv[1]).read_text(encoding="utf-8")))
