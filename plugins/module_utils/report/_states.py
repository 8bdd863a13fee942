# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a host drifted, unknown or in sync: the states of the report, the worst first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.report._drift_causes import Drift
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import HostData

UNREACHABLE = "unreachable"
FAILED = "failed"
UNKNOWN = "unknown"
DRIFTED = "drifted"
UNSAFE = "unsafe"
IN_SYNC = "in sync"
PLANNED = "planned"
# The worst first.
STATES = (UNREACHABLE, FAILED, UNKNOWN, DRIFTED, UNSAFE, IN_SYNC, PLANNED)
# Of these nobody has seen whether they are as planned, or even made a plan.
NOT_SEEN = (UNREACHABLE, FAILED, UNKNOWN)


def state_of(host: HostData, drifts: tuple[Drift, ...]) -> str:
    """The state of a host: the worst that is true of it."""
    if host.unreachable:
        return UNREACHABLE
    if host.failure:
        return FAILED
    if host.unseen:
        return UNKNOWN
    if drifts:
        return DRIFTED
    if host.plan is not None and not host.plan["safe"]:
        return UNSAFE
    return IN_SYNC if host.verified is not None else PLANNED


def badness(host: Mapping[str, Any]) -> tuple[Any, ...]:
    """By what the hosts of a report are sorted, the worst first."""
    missing = sum(gpu["short_bytes"] for gpu in host["gpus"])
    return STATES.index(host["state"]), -len(host["drift"]), -missing, host["name"]
