# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments by which modules name a service; documented in the fragment C(_service)."""

from __future__ import annotations

from typing import Any, Mapping

SERVICE_ARGUMENTS: Mapping[str, Any] = {
    "unit": {"type": "str", "default": "ollama.service"},
    "scope": {"type": "str", "choices": ["system", "user"], "default": "system"},
}
