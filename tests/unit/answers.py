# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers of modules for tests that care for a part of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import IN_EVERY_ANSWER, Returns

NOTHING = {"list": [], "dict": {}}


def completed(answer: Mapping[str, Any], returns: Returns) -> dict[str, Any]:
    """The answer, with nothing in what it does not say and the module always does; records in it likewise."""
    whole = dict(answer)
    for name, documented_as in returns.items():
        if name not in answer and documented_as.get("returned") in IN_EVERY_ANSWER:
            whole[name] = NOTHING.get(documented_as["type"])
        value, contains = whole.get(name), documented_as.get("contains")
        if contains and isinstance(value, dict) and value:
            whole[name] = completed(value, contains)
        elif contains and isinstance(value, list):
            whole[name] = [completed(one, contains) if isinstance(one, dict) else one for one in value]
    return whole
