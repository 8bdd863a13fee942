# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing this makes the collection importable by its full name from this checkout, wherever it lies."""

from __future__ import annotations

import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"


def _make_importable() -> None:
    name, paths = "", [[], [], [str(ROOT)]]
    for part, path in zip(("ansible_collections", "gpufleet", "ollama"), paths):
        name = f"{name}.{part}".lstrip(".")
        package = types.ModuleType(name)
        package.__path__ = path
        sys.modules[name] = package


_make_importable()
