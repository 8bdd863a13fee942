# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes ansible_collections.gpufleet.ollama importable from a checkout anywhere: import this first."""

from __future__ import annotations

import sys
import types
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY / "tests" / "data"


def _expose(repository: Path) -> None:
    """Register the checkout as the collection, whatever its folder is called."""
    for name, paths in (
        ("ansible_collections", []),
        ("ansible_collections.gpufleet", []),
        ("ansible_collections.gpufleet.ollama", [str(repository)]),
    ):
        package = types.ModuleType(name)
        package.__path__ = paths
        sys.modules[name] = package


# Tests that import a benchmark have the collection already, and must not get it twice.
if "ansible_collections.gpufleet.ollama" not in sys.modules:
    _expose(REPOSITORY)
