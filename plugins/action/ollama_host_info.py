# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes the module `ollama_host_info` on the host and takes of its answer what it and its parts document."""

from __future__ import annotations

from collections.abc import Collection

from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import Returns, documented
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._host_module import HostModule


def documented_with_parts() -> Returns:
    """The RETURN section with those of the modules that it reads in one execution."""
    returns, service = documented("ollama_host_info"), documented("systemd_environment_info")
    # What is returned without details, and with what was compared.
    compared = {name: told for name, told in service.items() if told["returned"] == "always" or name == "wanted"}
    return {
        **returns,
        "ansible_facts": {**returns["ansible_facts"], "contains": documented("gpu_facts")["ansible_facts"]["contains"]},
        "models": {**returns["models"], "contains": documented("ollama_model_info")},
        "service": {**returns["service"], "contains": service},
        "compared": {**returns["compared"], "contains": compared},
    }


def with_all(returns: Returns, gathered: Collection[str]) -> Returns:
    """The section where these parts were asked for, without which an answer is none."""
    asked = {f"when O(gather) has V({part})" for part in gathered}
    return {
        name: {**described, "returned": "always"} if described["returned"] in asked else described
        for name, described in returns.items()
    }


class ActionModule(HostModule):
    """The way of the module `ollama_host_info`."""

    returns = documented_with_parts()
