# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The environment that decides which GPUs Ollama's service sees."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import server_environment
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    Run,
    SystemdError,
    unit_state,
)


def service_environment(run: Run, scope: str, unit: str) -> tuple[dict[str, str], str | None]:
    """The environment of the unit's main process, else that of the unit; a note where neither is known."""
    try:
        state = unit_state(run, scope, unit)
    except (SystemdError, OSError) as error:
        return {}, f"the environment of {unit} is not known: {error}"
    if not state.exists:
        return {}, f"{unit} is not installed: no variable restricts which GPUs it will see"
    shown = {assignment.name: assignment.value for assignment in state.environment}
    if not state.main_pid:
        return shown, None
    try:
        return server_environment(state.main_pid), None
    except OSError:
        return shown, f"the environment of {unit}'s main process may not be read: that of the unit is taken"


def combined(running: Mapping[str, str], wanted: Mapping[str, str | None]) -> dict[str, str]:
    """A service's environment after variables were set, or removed where the value is null."""
    merged = {**running, **wanted}
    return {name: value for name, value in merged.items() if value is not None}
