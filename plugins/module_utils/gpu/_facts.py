# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of a host's GPUs as the Ollama of a unit sees them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import bounded
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._gather import Request, gather
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._owner import Owner
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._vendors import SOURCES
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._visibility_environment import (
    combined,
    service_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    USER,
    Run,
    SystemdError,
    memory_limit_bytes,
    unit_properties,
)

DEADLINE_SECONDS = 30.0


def gpu_facts(
    run: Run,
    scope: str,
    unit: str,
    environment: Mapping[str, str | None],
    deadline_seconds: float = DEADLINE_SECONDS,
    sources: Sequence[str] = SOURCES,
) -> dict[str, Any]:
    """What `gpufleet_gpu` holds. environment: what is to change in the service's own, null for removed."""
    running, note = service_environment(run, scope, unit)
    found = gather(
        Request(
            owner=Owner(unit, os.geteuid() if scope == USER else None),
            environment=combined(running, environment),
            deadline_seconds=deadline_seconds,
            sources=sources,
            notes=(note,) if note else (),
            memory_limit_bytes=_memory_limit_bytes(run, scope, unit),
        )
    )
    return bounded(found).to_dict()


def _memory_limit_bytes(run: Run, scope: str, unit: str) -> int | None:
    try:
        return memory_limit_bytes(unit_properties(run, scope, unit))
    except (SystemdError, OSError):
        return None
