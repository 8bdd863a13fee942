# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transient timer by which systemd itself removes a drop-in later; commands are lists of arguments."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import Place
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import secret_file
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import USER


def timer_name(where: Place) -> str:
    """The name, without a suffix, of the timer and its service; no two drop-ins have the same."""
    dropin = posixpath.basename(where.path)[: -len(".conf")]
    return f"gpufleet-{_escaped(where.unit)}-{_escaped(dropin)}"


def _escaped(name: str) -> str:
    return re.sub("[^A-Za-z0-9-]", lambda found: f"_{ord(found[0]):x}_", name)


def timer_command(where: Place, seconds: int, remove: str, systemctl: str) -> list[str]:
    """Has systemd remove the drop-in after so many seconds, read its files and restart the service, without a shell.

    `remove`, `systemctl`: the paths of the programs rm and systemctl, since a service's commands need absolute ones.

    Source: systemd-run(1): `--property` takes what a unit file does; ExecStartPre= of systemd.service(5) are run one
    after the other before ExecStart=.
    """
    manager = ["--user"] if where.scope == USER else []
    before = [[remove, "-f", "--", where.path, secret_file(where.path)], [systemctl, *manager, "daemon-reload"]]
    return [
        "systemd-run",
        *manager,
        f"--unit={timer_name(where)}",
        f"--description=Remove {where.path} and restart {where.unit}",
        f"--on-active={seconds}",
        "--collect",
        "--quiet",
        "--property=Type=oneshot",
        *(f"--property=ExecStartPre={_command_line(command)}" for command in before),
        systemctl,
        *manager,
        "restart",
        "--no-block",
        "--",
        where.unit,
    ]


def _command_line(command: Sequence[str]) -> str:
    """A command as a unit file has it: a home may have a space or a %, and a unit's name a backslash."""
    doubled = (re.sub(r"[\\%$]", lambda found: found[0] * 2, word) for word in command)
    words = (word.replace('"', '\\"') for word in doubled)
    return " ".join(f'"{word}"' for word in words)
