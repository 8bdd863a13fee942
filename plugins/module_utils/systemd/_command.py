# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: how a module runs commands, systemd's and others."""

from __future__ import annotations

import os
from typing import Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._programs import program
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    Completed,
    Run,
    UnitNameError,
    check_unit,
)

NOT_FOUND = 127  # as a shell says it


def runner(module: AnsibleModule) -> Run:
    """Runs commands for a module: English messages, UTF-8, and the user's own service manager found.

    Arguments are handed over as they stand. A program is looked for in PATH, and is run only where nobody else can
    change it; one that cannot be run answers 127, as in a shell.
    Ends a module that was given something else than a service's name as its unit, a path for example.
    """
    try:
        check_unit(module.params["unit"])
    except UnitNameError as error:
        module.fail_json(msg=str(error))
    environment = {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    # Where Ansible became another user, these may still be those of the user it logged in as.
    runtime_directory = f"/run/user/{os.geteuid()}"
    if os.path.isdir(runtime_directory):
        environment["XDG_RUNTIME_DIR"] = runtime_directory
        environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={runtime_directory}/bus"

    def run(command: Sequence[str]) -> Completed:
        try:
            code, stdout, stderr = module.run_command(
                _with_paths(command),
                environ_update=environment,
                expand_user_and_vars=False,
                handle_exceptions=False,
            )
        except OSError as error:
            return Completed(NOT_FOUND, "", error.strerror or str(error))
        return Completed(code, stdout, stderr)

    return run


def _with_paths(command: Sequence[str]) -> list[str]:
    """The command with the paths of its program, and of the one that env(1) runs."""
    found = list(command)
    found[0] = program(found[0])
    if command[0] == "env":
        behind = next(index for index, word in enumerate(found) if index and "=" not in word)
        found[behind] = program(found[behind])
    return found
