# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a unit's running server has said in the journal since its start, as `ollama_host_info` returns it."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    LOADED_LINES,
    STARTING,
    read_server_log,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._journal_parts import (
    parts_of_invocation,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    Run,
    journal_is_closed,
    unit_state,
)


def server_said(run: Run, scope: str, unit: str) -> dict[str, Any]:
    """What the server said since its start; `problem` says why it is not known, `at_least` that lines are missing.

    Raises: SystemdError when systemctl failed.
    """
    state = unit_state(run, scope, unit)
    if not state.main_pid:
        return _unknown(f"{unit} does not run, so that Ollama has said nothing of its GPUs and models")
    said = parts_of_invocation(state.invocation_id, LOADED_LINES, STARTING)
    if said.is_empty:
        if journal_is_closed(scope):
            return _unknown(f"what {unit} has logged may not be read: run as root (become)")
        return _unknown(
            f"the journal holds nothing that {unit} has logged since its start: it is not kept that long (journald.conf, "
            "Storage= and SystemMaxUse=), or the service logs elsewhere; what Ollama said of its GPUs and models is not known"
        )
    log = read_server_log(*said.parts)
    problem = ""
    if log.devices is None:
        problem = (
            f"what the journal holds of {unit} does not tell which GPUs Ollama has found: it no longer reaches back to the "
            "start, or OLLAMA_DEBUG is below 0"
        )
    return {
        "problem": problem,
        "at_least": not said.is_whole,
        "started_at": state.started_at,
        **log.to_dict(),
    }


def _unknown(problem: str) -> dict[str, Any]:
    return {"problem": problem, "at_least": False, "started_at": None, **read_server_log().to_dict()}
