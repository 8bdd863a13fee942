# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin of pytest that empties the collection's caches before each test, so that each runs all lines it needs."""

from __future__ import annotations

import functools
import sys

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Empty what `lru_cache` and `cache` of the collection's functions keep."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ansible_collections."):
            for value in vars(module).values():
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()
