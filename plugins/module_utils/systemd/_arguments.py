# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments by which modules name a service (documented in the fragment `_service`), and give an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_option

SERVICE_ARGUMENTS: Mapping[str, Any] = {
    "unit": {"type": "str", "default": "ollama.service"},
    "scope": {"type": "str", "choices": ["system", "user"], "default": "system"},
}

# Not to be logged, see `take_environment`.
ENVIRONMENT_ARGUMENT: Mapping[str, Any] = {"environment": {"type": "dict", "default": {}, "no_log": True}}


class Module(Protocol):
    """What is used of an AnsibleModule."""

    params: dict[str, Any]
    no_log_values: set[str]


def take_environment(module: Module) -> dict[Any, Any]:
    """The option `environment` with secrets masked, for modules that have no use for them, and for what they return.

    `no_log` keeps the option out of the journal ("Invoked with"). It would also hide every one of its values wherever
    that stands in the result, a 4 in each number with a 4; the masked values need no such thing.
    """
    module.params["environment"] = masked_option(module.params["environment"])
    module.no_log_values.clear()
    environment: dict[Any, Any] = module.params["environment"]
    return environment
