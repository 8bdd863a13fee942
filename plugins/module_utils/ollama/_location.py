# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a host's Ollama service keeps its models, where it listens, and which program it runs."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import field

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._numbers import whole_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import url_of_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._values import cleaned
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import (
    parse_environment_file,
    parse_shown_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import (
    PROC,
    server_environment,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    USER,
    Run,
    SystemdError,
    read_text,
    unit_properties,
)

# Home of the user that Ollama's installer makes. Source: ollama v0.33.0-rc2, scripts/install.sh.
INSTALLER_HOME = "/usr/share/ollama"

_EXEC_PATH = re.compile(r"\{ path=(/[^;]*?) ;")
_ENVIRONMENT_FILE = re.compile(r"(?<!\S)(/\S+) \(ignore_errors=(?:yes|no)\)")


@dataclass(frozen=True)
class Location:
    """What a unit says of its server. executable: None when unknown. exists: whether there is such a unit.

    user: of the unit, empty where it names none. main_pid: 0 where no process runs. environment: of its process,
    which may hold a password.
    """

    models_path: str
    api_url: str
    executable: str | None
    exists: bool
    user: str
    main_pid: int
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def locate(run: Run, scope: str, unit: str, proc: str = PROC) -> Location:
    """The service of a unit; one that does not exist is taken to be as Ollama's installer makes it."""
    properties = _properties(run, scope, unit)
    exists = properties.get("LoadState", "not-found") not in ("not-found", "")
    environment = _environment(properties, proc)
    home = environment.get("HOME") or (_home(properties.get("User", ""), scope) if exists else INSTALLER_HOME)
    executable = _EXEC_PATH.search(properties.get("ExecStart", ""))
    return Location(
        models_path=_models_path(environment, home),
        api_url=url_of_host(environment.get("OLLAMA_HOST", "")),
        executable=executable[1] if executable else None,
        exists=exists,
        user=properties.get("User", ""),
        main_pid=whole_number(properties.get("MainPID")) or 0,
        environment=environment,
    )


def _properties(run: Run, scope: str, unit: str) -> Mapping[str, str]:
    try:
        return unit_properties(run, scope, unit)
    except SystemdError:
        return {}


def _environment(properties: Mapping[str, str], proc: str) -> Mapping[str, str]:
    """The running process's environment, else the one that its unit's files give it."""
    main_pid = whole_number(properties.get("MainPID"))
    if main_pid:
        try:
            return server_environment(main_pid, proc)
        except OSError:
            pass  # not ours to read: the unit says nearly the same
    environment = dict(parse_shown_environment(properties.get("Environment", "")))
    for path in _ENVIRONMENT_FILE.findall(properties.get("EnvironmentFiles", "")):
        try:
            environment.update(assignment for _line, assignment in parse_environment_file(read_text(path)))
        except (OSError, ValueError):
            continue
    return environment


def _home(user: str, scope: str) -> str:
    """The home directory that systemd gives the process: of its user, else of the manager's own."""
    if user or scope != USER:
        try:
            return pwd.getpwnam(user or "root").pw_dir
        except KeyError:
            return INSTALLER_HOME
    return os.path.expanduser("~")


def _models_path(environment: Mapping[str, str], home: str) -> str:
    """Source: ollama v0.33.0-rc2, envconfig/config.go, Models and Var."""
    models = cleaned(environment.get("OLLAMA_MODELS", ""))
    return models or os.path.join(home, ".ollama", "models")
