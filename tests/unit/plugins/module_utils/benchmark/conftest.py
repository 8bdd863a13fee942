# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in server, started as its own tests start it."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.tests.unit.standin_ollama.conftest import (  # noqa: F401
    executable,
    start,
    store,
)
