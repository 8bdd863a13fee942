# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the other folders of tests importable for the programs of this one: import this first."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
DATA = TESTS / "data"

for _folder in (TESTS / "model_store", TESTS / "bench"):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))
