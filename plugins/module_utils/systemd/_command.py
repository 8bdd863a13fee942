# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module runs commands, systemd's and others."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import has_reader
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._programs import program
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    Completed,
    Run,
    UnitNameError,
    check_unit,
)

NOT_FOUND = 127  # as a shell says it
_POLL_S = 0.5


class Abandoned(Exception):
    """Nobody waits for the module's answer any more: the run was interrupted, or the connection was cut."""


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
    environment = _environment()

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


def finished_within(command: Sequence[str], seconds: float) -> Completed | None:
    """What a command answers that may take long; None where it was ended because it had not after so many seconds.

    Raises: Abandoned when nobody waits for the module's answer any more; the command was ended.
    """
    deadline_s = time.monotonic() + seconds
    try:
        process = subprocess.Popen(
            _with_paths(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_environment()},
        )
    except OSError as error:
        return Completed(NOT_FOUND, "", error.strerror or str(error))
    with process:
        try:
            while True:
                left_s = deadline_s - time.monotonic()
                try:
                    stdout, stderr = process.communicate(timeout=max(0.0, min(_POLL_S, left_s)))
                    break
                except subprocess.TimeoutExpired:
                    if left_s <= 0:
                        return None
                    stop_if_abandoned()
        finally:
            process.kill()  # nothing where it has ended
    return Completed(process.returncode, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"))


def stop_if_abandoned() -> None:
    """Ends what a module does for nobody.

    Raises: Abandoned when nobody waits for the module's answer any more.
    """
    if not has_reader():
        raise Abandoned("the run that asked for this is gone")


def _environment() -> dict[str, str]:
    environment = {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    # Where Ansible became another user, these may still be those of the user it logged in as.
    runtime_directory = f"/run/user/{os.geteuid()}"
    if os.path.isdir(runtime_directory):
        environment["XDG_RUNTIME_DIR"] = runtime_directory
        environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={runtime_directory}/bus"
    return environment
