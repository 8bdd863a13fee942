# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes the module `systemd_restart` on the host, takes of its answer what the module documents, and says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import documented
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._waiting import LongModule


class ActionModule(LongModule):
    """The way of the module `systemd_restart`."""

    returns = documented("systemd_restart")

    def waits_for(self, options: Mapping[str, Any]) -> str:
        return f"restarting {options.get('unit', 'ollama.service')}"
