# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes the module `planned_gpus` on the host and takes of its answer what the module documents."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import documented
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._host_module import HostModule


class ActionModule(HostModule):
    """The way of the module `planned_gpus`."""

    returns = documented("planned_gpus")
