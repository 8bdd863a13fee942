# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: what systemctl, the unit files and the journal say of a unit. Commands are lists of arguments."""

from __future__ import annotations

import datetime
import glob
import os
import pwd
import re
import subprocess
import time
from dataclasses import dataclass
from typing import Callable, Mapping, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._environment import (
    Assignment,
    parse_shown_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._unit_files import (
    DROP_IN,
    FRAGMENT,
    EnvironmentFileReference,
    UnitFile,
    dropin_directories,
    dropins_in_order,
)

SYSTEM = "system"
USER = "user"
BOOTED = "/run/systemd/system"  # sd_booted(3)
FILE_LIMIT_BYTES = 4 * 1024 * 1024  # systemd reads unit files of at most 4 MiB (READ_FULL_BYTES_MAX)
JOURNAL_LIMIT_BYTES = 1024 * 1024

_PROPERTIES = (
    "Id",
    "Names",
    "LoadState",
    "LoadError",
    "ActiveState",
    "SubState",
    "Result",
    "UnitFileState",
    "FragmentPath",
    "Environment",
    "NeedDaemonReload",
    "MainPID",
    "NRestarts",
    "ExecMainStartTimestampMonotonic",
    "InvocationID",
    "User",
    "Job",
)


@dataclass(frozen=True)
class Completed:
    """What a command answered."""

    return_code: int
    stdout: str
    stderr: str


Run = Callable[[Sequence[str]], Completed]


class SystemdError(Exception):
    """systemd is absent or does not answer; the sentence says which and what to do."""


@dataclass(frozen=True)
class Manager:
    """The service manager of a scope: version, unit path in its order, own environment."""

    scope: str
    version: int
    unit_path: tuple[str, ...]
    environment: tuple[Assignment, ...]


@dataclass(frozen=True)
class UnitState:
    """What C(systemctl show) says of a unit; C(started_at) is ISO 8601 in UTC, None while it never ran.

    C(job): the number of what systemd is doing with it or about to do, 0 for nothing.
    """

    unit: str
    aliases: tuple[str, ...]
    load_state: str
    load_error: str
    active_state: str
    sub_state: str
    result: str
    unit_file_state: str
    fragment_path: str
    environment: tuple[Assignment, ...]
    need_daemon_reload: bool
    main_pid: int
    restarts: int
    started_at: str | None
    invocation_id: str
    user: str
    job: int = 0

    @property
    def exists(self) -> bool:
        return self.load_state not in ("not-found", "")


def systemctl(scope: str) -> list[str]:
    """The start of a systemctl command for a scope."""
    return ["systemctl", "--user"] if scope == USER else ["systemctl"]


def manager(run: Run, scope: str, booted: str = BOOTED) -> Manager:
    """The service manager of a scope.

    Raises:
        SystemdError: This host was not booted with systemd, or the scope's manager does not answer.
    """
    if not os.path.isdir(booted):
        raise SystemdError(
            "this host was not booted with systemd (no /run/systemd/system): "
            "gpufleet.ollama sets Ollama's environment through systemd and cannot manage it here"
        )
    answer = run([*systemctl(scope), "show", "--property=Version,UnitPath,Environment"])
    if answer.return_code != 0:
        hint = (
            "enable lingering (loginctl enable-linger USER) and run the task as that user"
            if scope == USER
            else "check that systemd runs as PID 1"
        )
        raise SystemdError(f"the {scope} service manager does not answer ({answer.stderr.strip()}): {hint}")
    properties = parse_properties(answer.stdout)
    return Manager(
        scope,
        parse_version(properties.get("Version", "")),
        tuple(properties.get("UnitPath", "").split()),
        tuple(parse_shown_environment(properties.get("Environment", ""))),
    )


def unit_state(run: Run, scope: str, unit: str) -> UnitState:
    """What C(systemctl show) says of a unit now.

    Raises:
        SystemdError: systemctl failed.
    """
    answer = run([*systemctl(scope), "show", f"--property={','.join(_PROPERTIES)}", "--", unit])
    if answer.return_code != 0:
        raise SystemdError(f"systemctl show {unit} failed: {answer.stderr.strip()}")
    return parse_unit_state(unit, parse_properties(answer.stdout))


def parse_unit_state(unit: str, properties: Mapping[str, str]) -> UnitState:
    """A unit's state from the properties that C(systemctl show) prints."""
    monotonic_microseconds = _int(properties.get("ExecMainStartTimestampMonotonic"))
    return UnitState(
        unit=unit,
        aliases=tuple(properties.get("Names", "").split()),
        load_state=properties.get("LoadState", ""),
        load_error=properties.get("LoadError", "").strip(),
        active_state=properties.get("ActiveState", ""),
        sub_state=properties.get("SubState", ""),
        result=properties.get("Result", ""),
        unit_file_state=properties.get("UnitFileState", ""),
        fragment_path=properties.get("FragmentPath", ""),
        environment=tuple(parse_shown_environment(properties.get("Environment", ""))),
        need_daemon_reload=properties.get("NeedDaemonReload") == "yes",
        main_pid=_int(properties.get("MainPID")),
        restarts=_int(properties.get("NRestarts")),
        started_at=_wall_clock(monotonic_microseconds) if monotonic_microseconds else None,
        invocation_id=properties.get("InvocationID", ""),
        user=properties.get("User", ""),
        job=_int(properties.get("Job")),
    )


def _int(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _wall_clock(monotonic_microseconds: int) -> str:
    booted_at = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    moment = datetime.datetime.fromtimestamp(
        round(booted_at + monotonic_microseconds / 1e6), tz=datetime.timezone.utc
    )
    return moment.isoformat()


def parse_properties(text: str) -> dict[str, str]:
    """The C(Name=value) lines of C(systemctl show); of a repeated name the values joined by spaces."""
    properties: dict[str, str] = {}
    for line in text.split("\n"):  # not splitlines: values may hold U+2028 and the like
        name, separator, value = line.partition("=")
        if separator:
            properties[name] = f"{properties[name]} {value}" if name in properties else value
    return properties


def parse_version(text: str) -> int:
    """systemd's major version out of C(252.38-1~deb12u1) or C(systemd 247 (247.3-7)); 0 when there is none."""
    match = re.search(r"\d+", text)
    return int(match.group()) if match else 0


def read_text(path: str) -> str:
    """A text file's content; bytes that are not UTF-8 become surrogate escapes.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is larger than systemd reads.
    """
    with open(path, "rb") as stream:
        content = stream.read(FILE_LIMIT_BYTES + 1)
    if len(content) > FILE_LIMIT_BYTES:
        raise ValueError(f"{path} is larger than {FILE_LIMIT_BYTES} bytes, which systemd does not read")
    return content.decode("utf-8", "surrogateescape")


def unit_files(state: UnitState, unit_path: Sequence[str], own_directory: str) -> list[UnitFile]:
    """The unit's fragment and drop-ins as they lie on disk now, in systemd's order.

    C(own_directory) is searched first even where the manager does not list it yet.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is too large.
    """
    files = []
    if state.fragment_path:
        files.append(UnitFile(state.fragment_path, FRAGMENT, read_text(state.fragment_path)))
    path = list(dict.fromkeys([*unit_path, own_directory]))
    listings = []
    for directory in dropin_directories(state.unit, state.aliases, path):
        try:
            listings.append((directory, sorted(os.listdir(directory))))
        except (FileNotFoundError, NotADirectoryError):
            continue
    for dropin in dropins_in_order(listings):
        if os.path.isfile(dropin):  # a link to /dev/null masks the drop-ins of that name
            files.append(UnitFile(dropin, DROP_IN, read_text(dropin)))
    return files


def environment_files(references: Sequence[EnvironmentFileReference]) -> list[tuple[str, str]]:
    """Path and text of the environment files that exist, in the order systemd reads them.

    Raises:
        OSError: A file exists and cannot be read.
        ValueError: A file is too large.
    """
    return [
        (path, read_text(path))
        for reference in references
        for path in sorted(glob.glob(reference.pattern))
        if os.path.isfile(path)
    ]


def journal_of_invocation(invocation_id: str, *, from_end: bool = False, lines: int = 400) -> list[str]:
    """The first (or last) messages that one run of a unit wrote to the journal; empty when there are none."""
    if not re.fullmatch("[0-9a-f]{32}", invocation_id):
        return []
    text = _journal(f"_SYSTEMD_INVOCATION_ID={invocation_id}", *([f"--lines={lines}"] if from_end else []))
    return text[-lines:] if from_end else text[:lines]


def last_messages_of_unit(scope: str, unit: str, *, lines: int) -> list[str]:
    """The last messages of a unit's runs and of systemd about them."""
    return _journal(f"--user-unit={unit}" if scope == USER else f"--unit={unit}", f"--lines={lines}")[-lines:]


def _journal(*arguments: str) -> list[str]:
    """Lines of the journal; at most 1 MiB of it, because that of a server with debugging on is long."""
    command = ["journalctl", "--quiet", "--no-pager", "--output=cat", *arguments]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            output = process.stdout.read(JOURNAL_LIMIT_BYTES) if process.stdout else b""
            process.kill()
    except OSError:
        return []
    return output.decode("utf-8", "replace").split("\n")


def dropin_base_directory(scope: str, runtime: bool = False) -> str:
    """The directory for unit files of the administrator (system) or of the user.

    C(runtime): the one that the next boot empties. Drop-ins of all directories are read in the order of their names
    (systemd.unit(5)), so that it makes no other difference.
    """
    if runtime:
        return f"/run/user/{os.geteuid()}/systemd/user" if scope == USER else "/run/systemd/system"
    if scope == USER:
        return os.path.join(_home(), ".config", "systemd", "user")
    return "/etc/systemd/system"


def state_directory(scope: str, unit: str) -> str:
    """The directory in which this collection keeps what it must remember about a unit."""
    if scope == USER:
        return os.path.join(_home(), ".local", "state", "gpufleet", unit)
    return os.path.join("/var/lib/gpufleet", unit)


def _home() -> str:
    # Not $HOME or XDG_CONFIG_HOME: where Ansible became another user, they may be those of the user before.
    return pwd.getpwuid(os.geteuid()).pw_dir
