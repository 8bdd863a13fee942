# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: one look at a running Ollama service, its port and its API."""

from __future__ import annotations

import contextlib
import os
import time

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import (
    Api,
    ApiError,
    address_of,
    url_of_host,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._health import Holder, Load, Sight
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import (
    Socket,
    pids,
    process_environment,
    process_name,
    tcp_sockets,
    unit_of,
    unit_processes,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    Run,
    UnitState,
    journal_of_invocation,
    last_messages_of_unit,
    unit_state,
)

_API_TIMEOUT_S = 5.0
# A line is cut after it was masked: the end of a URL's credentials may be what is cut off.
_MAX_LINE_CHARACTERS = 2000


def server_url(state: UnitState) -> str:
    """Where a client on this host reaches the unit's process; by systemd's settings while none runs."""
    environment = dict(state.environment)
    if state.main_pid:
        with contextlib.suppress(OSError):
            environment = process_environment(state.main_pid)
    return url_of_host(environment.get("OLLAMA_HOST", ""))


def who_has_the_port(state: UnitState) -> str:
    """That a process of another unit listens where the service would, in a clause; empty where none does."""
    url = server_url(state)
    listener = _listener(url)
    ours = {process.pid for process in unit_processes(state.main_pid)} if state.main_pid else set()
    if not listener or not listener.pid or listener.pid in ours:
        return ""
    holder = Holder(listener.pid, process_name(listener.pid), unit_of(listener.pid))
    return f"the port of {url} is taken by {holder}, so that {state.unit} cannot listen on it"


def look(run: Run, scope: str, unit: str) -> Sight:
    """One look at the service: systemd's state, who holds its port, what the API answers."""
    state = unit_state(run, scope, unit)
    url = server_url(state)
    ours = {process.pid for process in unit_processes(state.main_pid)} if state.main_pid else set()
    listener = _listener(url)
    answer = error = None
    try:
        answer = Api(url, timeout_s=_API_TIMEOUT_S).version()
    except ApiError as failure:
        error = str(failure)
    holder = None
    if listener and listener.pid:
        holder = Holder(listener.pid, process_name(listener.pid), unit_of(listener.pid))
    return Sight(
        at_s=time.monotonic(),
        active_state=state.active_state,
        sub_state=state.sub_state,
        main_pid=state.main_pid,
        restarts=state.restarts,
        url=url,
        holder=holder,
        holder_is_ours=holder is not None and holder.pid in ours,
        answer=answer,
        error=error,
    )


def _listener(url: str) -> Socket | None:
    name, port = address_of(url)
    found = [s for s in tcp_sockets(pids()) if s.listening and s.port == port]
    exact = [s for s in found if s.address == name]
    return next(iter(exact or found), None)


def activity(run: Run, scope: str, unit: str) -> tuple[Load, str]:
    """What the service is doing now, and where it listens."""
    state = unit_state(run, scope, unit)
    url = server_url(state)
    if not state.main_pid:
        return Load(time.monotonic(), 0, 0.0), url
    processes = unit_processes(state.main_pid)
    _name, port = address_of(url)
    established = [
        s for s in tcp_sockets([state.main_pid]) if not s.listening and s.port == port and s.pid is not None
    ]
    ticks = sum(process.cpu_ticks for process in processes if process.pid != state.main_pid)
    return Load(time.monotonic(), len(established), ticks / os.sysconf("SC_CLK_TCK")), url


def loaded_models(url: str) -> list[str]:
    """The names of the models that are loaded; none where the API does not answer."""
    try:
        return [entry["name"] for entry in Api(url, timeout_s=_API_TIMEOUT_S).loaded()]
    except ApiError:
        return []


def last_words(run: Run, scope: str, unit: str, since_s: float, lines: int = 20) -> list[str]:
    """The last lines that the service's latest run wrote to the journal, credentials in URLs masked.

    A service that systemd starts again and again may not have come to write any: then those of its runs since
    C(since_s) (seconds since 1970) tell. What an older run wrote is not the reason for which this one failed.
    """
    state = unit_state(run, scope, unit)
    words = journal_of_invocation(state.invocation_id, from_end=True, lines=lines)
    if not any(line.strip() for line in words):
        words = last_messages_of_unit(scope, unit, since_s=since_s, lines=lines)
    return [masked("", line)[:_MAX_LINE_CHARACTERS] for line in words if line.strip()]
