# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version that a service's program names, for when its API is silent.

Who may change that program decides what it does, so that root never runs it where that may be somebody else.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import select
import signal
import subprocess
import time

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._programs import changeable_part

DEADLINE_SECONDS = 10.0
MAXIMUM_BYTES = 64 << 10
_VERSION = re.compile(r"version is (\d[\w.+-]{0,63})")


class ProgramError(Exception):
    """The program names no version; the sentence says why and what to do."""


def program_version(executable: str, user: str, deadline_seconds: float = DEADLINE_SECONDS) -> str:
    """The version that `executable --version` names.

    It is run by the unit's user where we are root and it has one, else by us, if nobody else can change it.

    Raises: ProgramError when it may not be run, fails, or names no version.
    """
    runner = _other_user(user)
    try:
        if runner is None:
            _refuse_if_changeable(executable)
        output = _output(executable, runner, deadline_seconds)
    except OSError as error:
        raise _error(executable, f"cannot be run ({error.strerror})") from error
    versions: list[str] = _VERSION.findall(output)
    if not versions:
        raise _error(executable, "names no version")
    # Without a server to ask, it warns and names its own version as the client's.
    return versions[-1]


def _other_user(name: str) -> pwd.struct_passwd | None:
    """The unit's user, where we are root and it is another; None also where it is made only when the unit starts."""
    if os.geteuid() != 0 or not name:
        return None
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(int(name)) if name.isdecimal() and name.isascii() else pwd.getpwnam(name)
        return user if user.pw_uid else None
    return None


def _refuse_if_changeable(executable: str) -> None:
    part = changeable_part(executable)
    if part is not None:
        raise _error(executable, f"is not run, because others than {_self()} can change {part}")


def _self() -> str:
    return "root" if os.geteuid() == 0 else f"root and user {os.geteuid()}"


def _error(executable: str, why: str) -> ProgramError:
    return ProgramError(
        f"the version of Ollama is not known, its API is silent and {executable} {why}: "
        "start the service, or set ollama_plan_version"
    )


def _output(executable: str, user: pwd.struct_passwd | None, deadline_seconds: float) -> str:
    """What it writes, at most `MAXIMUM_BYTES` of it and within the deadline, in a session and with an environment of its own.

    Raises: OSError when it cannot be started; ProgramError when it is late.
    """
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": user.pw_dir if user else "/"}
    command = [executable, "--version"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=environment,
        start_new_session=True,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=os.getgrouplist(user.pw_name, user.pw_gid) if user else None,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(_end, process)
        if process.stdout is None:
            return ""
        stack.callback(process.stdout.close)
        end = time.monotonic() + deadline_seconds
        output = bytearray()
        while len(output) < MAXIMUM_BYTES:
            ready = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]
            if not ready:
                raise _error(executable, f"gives no answer within {deadline_seconds:g} s")
            chunk = os.read(process.stdout.fileno(), MAXIMUM_BYTES - len(output))
            if not chunk:
                break
            output += chunk
        return output.decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
