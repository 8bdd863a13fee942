# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes the module `ollama_load` on the host, takes of its answer what the module documents, and says what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import documented
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._waiting import LongModule


class ActionModule(LongModule):
    """The way of the module `ollama_load`."""

    returns = documented("ollama_load")

    def waits_for(self, options: Mapping[str, Any]) -> str:
        return f"loading {', '.join(names_in(options)) or 'models'}"


def names_in(options: Mapping[str, Any]) -> list[str]:
    """The models that are to be loaded; what is no list is none."""
    models, also = (options.get(name) for name in ("models", "also"))
    planned = [one.get("name") for one in models if isinstance(one, Mapping)] if isinstance(models, list) else []
    return list(dict.fromkeys(str(name) for name in [*planned, *(also if isinstance(also, list) else [])]))
