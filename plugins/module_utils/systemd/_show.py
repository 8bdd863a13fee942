# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemctl, the unit files and the journal say of a unit. Commands are lists of arguments."""

from __future__ import annotations

import datetime
import glob
import hashlib
import itertools
import os
import pwd
import re
import subprocess
import time
from collections.abc import Mapping
from typing import Callable, Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._files import NotRegular, open_regular
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._numbers import whole_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    Assignment,
    parse_shown_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import (
    DROP_IN,
    FRAGMENT,
    EnvironmentFileReference,
    UnitFile,
    dropin_directories,
    dropins_in_order,
    secret_file,
    secret_file_setting,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._programs import program

SYSTEM = "system"
USER = "user"
MASKED = "masked"
BOOTED = "/run/systemd/system"  # sd_booted(3)
FILE_LIMIT_BYTES = 4 * 1024 * 1024  # systemd reads unit files of at most 4 MiB (READ_FULL_BYTES_MAX)
# A pattern may name a folder that the service's user fills.
MAX_ENVIRONMENT_FILES = 64
JOURNAL_LIMIT_BYTES = 1024 * 1024
# What starts a service in place of its program is short.
MAX_SCRIPTS = 8
SCRIPT_LIMIT_BYTES = 64 * 1024
JOURNALS = ("/run/log/journal", "/var/log/journal")  # systemd-journald.service(8)
MACHINE_ID = "/etc/machine-id"
_UNLIMITED_BYTES = 1 << 60  # older ones print what 64 bits hold for infinity
BOOT_ID = "/proc/sys/kernel/random/boot_id"

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
    "EnvironmentFiles",
    "ExecStart",
    "MemoryMax",
    "MemoryHigh",
)


@dataclass(frozen=True)
class Completed:
    """What a command answered."""

    return_code: int
    stdout: str
    stderr: str


# systemd.unit(5)
_UNIT_NAME = re.compile(r"[A-Za-z0-9:_.@\\-]{1,248}\.service\Z")


class UnitNameError(ValueError):
    """What should be a unit is not the name of a service; the sentence says how one is written."""


def check_unit(unit: str) -> None:
    """Refuses what is not the name of a service of systemd.

    Raises: UnitNameError when it is none.
    """
    if not _UNIT_NAME.match(unit):
        raise UnitNameError(f"{unit!r} is not the name of a systemd service: write it like ollama.service")


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
    """What `systemctl show` says of a unit; `started_at` is ISO 8601 in UTC, `started_at_s` in seconds since 1970.

    Both are None while it never ran. `job`: the number of what systemd is doing with it or about to do, 0 for nothing.
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
    started_at_s: float | None
    job: int

    @property
    def exists(self) -> bool:
        return self.load_state not in ("not-found", "")


def systemctl(scope: str) -> list[str]:
    """The start of a systemctl command for a scope."""
    return ["systemctl", "--user"] if scope == USER else ["systemctl"]


def manager(run: Run, scope: str, booted: str = BOOTED) -> Manager:
    """The service manager of a scope.

    Raises: SystemdError when this host was not booted with systemd, or the scope's manager does not answer.
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
    """What `systemctl show` says of a unit now.

    Raises: SystemdError when systemctl failed.
    """
    return parse_unit_state(unit, unit_properties(run, scope, unit))


def unit_properties(run: Run, scope: str, unit: str) -> dict[str, str]:
    """A unit's properties, asked for all at once whoever wants some of them.

    Raises: SystemdError when systemctl failed.
    """
    answer = run([*systemctl(scope), "show", f"--property={','.join(_PROPERTIES)}", "--", unit])
    if answer.return_code != 0:
        raise SystemdError(f"systemctl show {unit} failed: {answer.stderr.strip()}")
    return parse_properties(answer.stdout)


def parse_unit_state(unit: str, properties: Mapping[str, str]) -> UnitState:
    """A unit's state from the properties that `systemctl show` prints."""
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
        started_at_s=_booted_at_s() + monotonic_microseconds / 1e6 if monotonic_microseconds else None,
        job=_int(properties.get("Job")),
    )


def memory_limit_bytes(properties: Mapping[str, str]) -> int | None:
    """How much system memory a unit's processes may take together; None where nothing limits them.

    Source: systemd.resource-control(5): beyond MemoryHigh= they are slowed down, beyond MemoryMax= they are killed.
    """
    limits = [whole_number(properties.get(name)) for name in ("MemoryMax", "MemoryHigh")]
    return min((limit for limit in limits if limit is not None and limit < _UNLIMITED_BYTES), default=None)


def _int(text: str | None) -> int:
    return whole_number(text) or 0


def _wall_clock(monotonic_microseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(
        round(_booted_at_s() + monotonic_microseconds / 1e6), tz=datetime.timezone.utc
    )
    return moment.isoformat()


def _booted_at_s() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)


def parse_properties(text: str) -> dict[str, str]:
    """The `Name=value` lines of `systemctl show`; of a repeated name the values joined by spaces."""
    properties: dict[str, str] = {}
    for line in text.split("\n"):  # not splitlines: values may hold U+2028 and the like
        name, separator, value = line.partition("=")
        if separator:
            properties[name] = f"{properties[name]} {value}" if name in properties else value
    return properties


def parse_version(text: str) -> int:
    """systemd's major version out of `252.38-1~deb12u1` or `systemd 247 (247.3-7)`; 0 when there is none."""
    match = re.search("[0-9]{1,9}", text)
    return int(match.group()) if match else 0


def read_text(path: str) -> str:
    """A text file's content; bytes that are not UTF-8 become surrogate escapes.

    A link is followed, as systemd follows it: what a unit or an environment file says is what its link says. Nothing is
    told that way which the service's user does not know, because systemd gives the service whatever it reads there.

    Raises: NotRegular when it is a pipe, a device or a folder, which is not waited for; OSError when the file
    cannot be read; ValueError when the file is larger than systemd reads.
    """
    with open_regular(path, follow_link=True) as stream:
        content = stream.read(FILE_LIMIT_BYTES + 1)
    if len(content) > FILE_LIMIT_BYTES:
        raise ValueError(f"{path} is larger than {FILE_LIMIT_BYTES} bytes, which systemd does not read")
    return content.decode("utf-8", "surrogateescape")


def unit_files(state: UnitState, unit_path: Sequence[str], own_directory: str) -> list[UnitFile]:
    """The unit's fragment and drop-ins as they lie on disk now, in systemd's order.

    `own_directory` is searched first even where the manager does not list it yet.

    Raises: OSError when a file cannot be read; ValueError when a file is too large.
    """
    files = []
    if state.fragment_path and state.load_state != MASKED:  # that of a masked unit is a link to /dev/null
        files.append(UnitFile(state.fragment_path, FRAGMENT, read_text(state.fragment_path)))
    path = list(dict.fromkeys([*unit_path, own_directory]))
    listings = []
    for directory in dropin_directories(state.unit, state.aliases, path):
        try:
            listings.append((directory, sorted(os.listdir(directory))))
        except (FileNotFoundError, NotADirectoryError):
            continue
    for dropin in dropins_in_order(listings):
        text = _text_if_regular(dropin)
        if text is not None:  # a link to /dev/null masks the drop-ins of that name
            files.append(UnitFile(dropin, DROP_IN, text))
    return files


def _text_if_regular(path: str) -> str | None:
    """The content of a regular file; None where there is something else, or nothing."""
    try:
        return read_text(path)
    except (NotRegular, FileNotFoundError):
        return None


def environment_files(
    references: Sequence[EnvironmentFileReference], dropin_path: str, own: str | None
) -> list[tuple[str, str]]:
    """Path and text of the environment files that exist, in the order systemd reads them.

    `own`: what the one of our drop-in at `dropin_path` holds or is to hold, None for nothing.

    Raises: OSError when a file exists and cannot be read; ValueError when a file is too large, or they are
    too many.
    """
    ours = secret_file_setting(dropin_path).partition("=")[2].replace("%%", "%")
    found: list[tuple[str, str]] = []
    left_bytes = FILE_LIMIT_BYTES
    for reference in references:
        if reference.pattern == ours:
            found += [] if own is None else [(secret_file(dropin_path), own)]
            continue
        paths = list(itertools.islice(glob.iglob(reference.pattern), MAX_ENVIRONMENT_FILES + 1))
        if len(paths) > MAX_ENVIRONMENT_FILES:
            raise ValueError(f"{reference.pattern} names more than {MAX_ENVIRONMENT_FILES} files")
        for path in sorted(paths):
            text = _text_if_regular(path)
            if text is not None:
                found.append((path, text))
                left_bytes -= len(text)
            if left_bytes < 0:
                raise ValueError(f"they are longer than {FILE_LIMIT_BYTES} bytes in all, up to {path}")
    return found


def script_texts(paths: Sequence[str], *, are_sourced: bool = False) -> dict[str, str]:
    """The text of those files that are scripts and can be read; of a long one nothing.

    `are_sourced`: a script reads them in, for which they need not begin as one.
    """
    found = {}
    for path in paths[:MAX_SCRIPTS]:
        try:
            with open_regular(path, follow_link=True) as stream:
                content = stream.read(SCRIPT_LIMIT_BYTES + 1)
        except (OSError, ValueError):
            continue
        if (are_sourced or content.startswith(b"#!")) and len(content) <= SCRIPT_LIMIT_BYTES:
            found[path] = content.decode("utf-8", "replace")
    return found


def journal_of_invocation(invocation_id: str, *, from_end: bool = False, lines: int = 400) -> list[str]:
    """The first (or last) messages that one run of a unit wrote to the journal; empty when there are none."""
    if not re.fullmatch("[0-9a-f]{32}", invocation_id):
        return []
    text = _journal(f"_SYSTEMD_INVOCATION_ID={invocation_id}", *([f"--lines={lines}"] if from_end else []))
    return text[-lines:] if from_end else text[:lines]


def last_messages_of_unit(scope: str, unit: str, *, since_s: float, lines: int) -> list[str]:
    """The last messages of a unit's runs and of systemd about them since a moment, in seconds since 1970."""
    by_unit = f"--user-unit={unit}" if scope == USER else f"--unit={unit}"
    return _journal(by_unit, f"--since=@{since_s:.6f}", f"--lines={lines}")[-lines:]


def journal_is_closed(scope: str) -> bool:
    """Whether there is a journal that holds a service's messages and that this user may not read.

    Source: systemd-journald.service(8): `system.journal` is readable by root and the group systemd-journal; where the
    journal is kept on disk, a user's own messages are in `user-UID.journal`, which that user may read.
    """
    if scope == USER and any(
        os.access(path, os.R_OK) for path in _journal_files(f"user-{os.geteuid()}.journal")
    ):
        return False
    return any(not os.access(path, os.R_OK) for path in _journal_files("system.journal"))


def _journal_files(name: str) -> list[str]:
    return [path for root in JOURNALS for path in glob.glob(os.path.join(root, "*", name))]


def service_id(scope: str, state: UnitState) -> str:
    """Tells a service from every other one of a fleet, without telling which machine it is; empty where unknown.

    Two inventory names with the same one manage the same unit of the same machine. Cloned machines often share their
    machine id, but never a boot id. Source: machine-id(5), which asks for a hash in its place.
    """
    try:
        machine, boot = _id_in(MACHINE_ID), _id_in(BOOT_ID)
    except OSError:
        return ""
    owner = os.geteuid() if scope == USER else "-"
    name = min(state.aliases, default=state.unit)
    text = "\0".join(("gpufleet.ollama", machine, boot, scope, str(owner), name))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _id_in(path: str) -> str:
    with open_regular(path, follow_link=True) as stream:
        return stream.read(64).decode("ascii", "replace").strip()


def _journal(*arguments: str) -> list[str]:
    """Lines of the journal; at most 1 MiB of it, because that of a server with debugging on is long."""
    try:
        command = [program("journalctl"), "--quiet", "--no-pager", "--output=cat", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            try:
                output = process.stdout.read(JOURNAL_LIMIT_BYTES) if process.stdout else b""
            finally:
                process.kill()
    except OSError:
        return []
    return output.decode("utf-8", "replace").split("\n")


def dropin_base_directory(scope: str, runtime: bool = False) -> str:
    """The directory for unit files of the administrator (system) or of the user.

    `runtime`: the one that the next boot empties. Drop-ins of all directories are read in the order of their names
    (systemd.unit(5)), so that it makes no other difference.
    """
    if runtime:
        return f"/run/user/{os.geteuid()}/systemd/user" if scope == USER else "/run/systemd/system"
    if scope == USER:
        return os.path.join(_home(), ".config", "systemd", "user")
    return "/etc/systemd/system"


def state_directory(scope: str, unit: str) -> str:
    """The directory in which this collection keeps what it must remember about a unit.

    Raises: UnitNameError when it is not the name of a service, but a path for example.
    """
    check_unit(unit)
    if scope == USER:
        return os.path.join(_home(), ".local", "state", "gpufleet", unit)
    return os.path.join("/var/lib/gpufleet", unit)


def _home() -> str:
    # Not $HOME or XDG_CONFIG_HOME: where Ansible became another user, they may be those of the user before.
    return pwd.getpwuid(os.geteuid()).pw_dir
