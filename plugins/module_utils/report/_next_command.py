# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By what run a report was made, and the command with which somebody goes on from a host's state."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._states import (
    DRIFTED,
    FAILED,
    IN_SYNC,
    PLANNED,
    UNKNOWN,
    UNREACHABLE,
    UNSAFE,
)

# A name that is no pattern, nor an option of a command.
_PLAIN = re.compile(r"\w[\w.-]*", re.ASCII)
# The pattern of the playbooks where none is given.
DEFAULT_PATTERN = "ollama"


@dataclass(frozen=True)
class MadeBy:
    """A run of Ansible. `inventory`: its sources as one would name them; `limit`: --limit; `pattern`: gpufleet_hosts.

    What is not known is empty. It holds what the control node says of itself, nothing from a host.
    """

    version: str = ""
    inventory: tuple[str, ...] = ()
    user: str = ""
    limit: str = ""
    pattern: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "inventory": list(self.inventory)}


@dataclass(frozen=True)
class NextCommand:
    """What somebody may run now. `purpose` in a few words; `command` for a shell on the control node."""

    purpose: str
    command: str

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def next_command(host: Mapping[str, Any], made: MadeBy) -> NextCommand:
    """The command for a host of the report, by its state; names and paths are quoted for the shell."""
    state, sources = host["state"], [word for source in made.inventory for word in ("-i", source)]
    if state == UNREACHABLE:
        words = ["ansible", *sources, pattern_of(host["name"]), "-m", "ansible.builtin.ping"]
        return NextCommand("see whether it answers", shlex.join(words))
    purpose, playbook, more = _PLAYBOOKS[state]
    if state == DRIFTED and not host["mended_by_site"]:
        purpose = "apply the plan, when what is said here is repaired"
    elsewhere = made.pattern not in ("", DEFAULT_PATTERN)
    words = ["ansible-playbook", *sources, f"gpufleet.ollama.{playbook}", "--limit", pattern_of(host["name"]), *more]
    words += ["-e", json.dumps({"gpufleet_hosts": made.pattern})] if elsewhere else []
    return NextCommand(purpose, shlex.join(words))


def pattern_of(name: str) -> str:
    """What Ansible takes for this host alone: `*`, `a,b` or `@file` mean others, and an inventory may have them as names.

    Source: ansible-core 2.18, inventory/manager.py (split_host_pattern, _match_list).
    """
    if _PLAIN.fullmatch(name):
        return name
    # As numbers, because commas, colons, spaces and brackets part patterns.
    numbered = (one if _PLAIN.fullmatch(one) else rf"\U{ord(one):08x}" for one in name)
    return rf"~^{''.join(numbered)}\Z"


_PLAYBOOKS = {
    FAILED: ("see what is said of it now", "plan", ()),
    # Of most of what could not be looked at the reason is that the user was not root.
    UNKNOWN: ("look again as root", "drift", ("--become",)),
    DRIFTED: ("apply the plan", "site", ()),
    UNSAFE: ("see why", "plan", ()),
    IN_SYNC: ("compare it again", "drift", ()),
    PLANNED: ("apply the plan", "site", ()),
}
