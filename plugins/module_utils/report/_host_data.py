# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run knows of a host, before anything is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

# When a host was compared, where the run has changed it or has begun to.
BEFORE_CHANGE = "before its change"
AFTER_CHANGE = "after its change"


@dataclass(frozen=True)
class HostData:
    """What a run knows of one host; what it does not know is None, or an empty reason.

    `plan`: the fact ollama_plan; `verified`: the fact ollama_verify_result; `gpu`: the fact gpufleet_gpu.
    `unseen`: what could not be looked at; `gpus_gone`: the GPUs that the plan was applied for and that are gone;
    `changes`: what else is not as it was then, one sentence each;
    `change`: what the run has changed of it, as `change_of` tells;
    `compared`: BEFORE_CHANGE or AFTER_CHANGE where the run has changed the host.
    """

    name: str
    plan: Mapping[str, Any] | None = None
    verified: Mapping[str, Any] | None = None
    gpu: Mapping[str, Any] | None = None
    failure: str = ""
    unreachable: str = ""
    unseen: tuple[str, ...] = ()
    gpus_gone: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    compared: str = ""
    change: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = field(default=())
