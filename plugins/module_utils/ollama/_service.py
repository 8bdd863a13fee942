# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a running Ollama service, its port and its API."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import time
from collections.abc import Iterable

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import (
    Api,
    ApiError,
    address_of,
    url_of_host,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._health import (
    Holder,
    Load,
    Sight,
    ending,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import (
    Socket,
    pids,
    process_name,
    server_environment,
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
# Go tells of some hundred goroutines when it panics, in two to twenty lines each.
_LINES_OF_AN_END = 400
# A line is cut after it was masked: the end of a URL's credentials may be what is cut off.
_MAX_LINE_CHARACTERS = 2000


def server_url(state: UnitState) -> str:
    """Where a client on this host reaches the unit's process; by systemd's settings while none runs."""
    environment = dict(state.environment)
    if state.main_pid:
        with contextlib.suppress(OSError):
            environment = server_environment(state.main_pid)
    return url_of_host(environment.get("OLLAMA_HOST", ""))


def server_api(unit: str, main_pid: int, url: str, timeout_s: float) -> Api:
    """A client for the unit's server, which is not asked where another process holds its port.

    Whoever may start a process on the host can take the port while the service does not run, and answer what it likes.
    Without root the holder cannot be seen, and what answers is taken for the service.
    """
    holder = _foreign_holder(url, main_pid)
    return Api(url, timeout_s, refused=f"at {url} answers {holder}, not {unit}: it is not asked" if holder else "")


def who_has_the_port(state: UnitState) -> str:
    """That a process of another unit listens where the service would, in a clause; empty where none does."""
    url = server_url(state)
    holder = _foreign_holder(url, state.main_pid)
    return f"the port of {url} is taken by {holder}, so that {state.unit} cannot listen on it" if holder else ""


def _foreign_holder(url: str, main_pid: int) -> Holder | None:
    ours = _own_pids(main_pid)
    holder = holder_of(url, ours)
    return None if holder is None or holder.pid in ours else holder


def look(run: Run, scope: str, unit: str) -> Sight:
    """One look at the service: systemd's state, who holds its port, what the API answers."""
    state = unit_state(run, scope, unit)
    url = server_url(state)
    ours = _own_pids(state.main_pid)
    answer = error = None
    try:
        answer = Api(url, timeout_s=_API_TIMEOUT_S).version()
    except ApiError as failure:
        error = str(failure)
    holder = holder_of(url, ours)
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


def _own_pids(main_pid: int) -> set[int]:
    return {process.pid for process in unit_processes(main_pid)} if main_pid else set()


def holder_of(url: str, first: Iterable[int] = ()) -> Holder | None:
    """Who listens at the URL, of these processes or any; None where nobody does or it cannot be seen.

    Where several may be meant, as by a name that stands for two addresses, it is one that is none of `first`.
    """
    own = set(first)
    listeners = _listeners(url, own)
    if not all(listener.pid for listener in listeners):
        listeners = _listeners(url, pids())
    holders = [listener.pid for listener in listeners if listener.pid]
    pid = next((pid for pid in holders if pid not in own), next(iter(holders), None))
    return None if pid is None else Holder(pid, process_name(pid), unit_of(pid))


def _listeners(url: str, owners: Iterable[int]) -> list[Socket]:
    """The sockets that may answer at the URL, each with its holder where that is one of the owners."""
    name, port = address_of(url)
    found = [s for s in tcp_sockets(owners) if s.listening and s.port == port]
    try:
        address = str(ipaddress.ip_address(name or ""))
    except ValueError:
        return found
    exact = [s for s in found if s.address == address]
    return exact or [s for s in found if ipaddress.ip_address(s.address).is_unspecified]


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
    peers = tuple(s.peer for s in established)
    return Load(time.monotonic(), len(established), ticks / os.sysconf("SC_CLK_TCK"), peers), url


def loaded_models(run: Run, scope: str, unit: str) -> list[str]:
    """The names of the models that are loaded; none where the unit's own API does not answer."""
    state = unit_state(run, scope, unit)
    try:
        api = server_api(unit, state.main_pid, server_url(state), _API_TIMEOUT_S)
        return [entry["name"] for entry in api.loaded()]
    except ApiError:
        return []


def last_words(run: Run, scope: str, unit: str, since_s: float, lines: int = 20) -> list[str]:
    """The lines of the journal that tell why the service's latest run ended, else its last, credentials in URLs masked.

    A service that systemd starts again and again may not have come to write any: then those of its runs since
    `since_s` (seconds since 1970) tell. What an older run wrote is not the reason for which this one failed.
    """
    state = unit_state(run, scope, unit)
    words = journal_of_invocation(state.invocation_id, from_end=True, lines=_LINES_OF_AN_END)
    if not any(line.strip() for line in words):
        words = last_messages_of_unit(scope, unit, since_s=since_s, lines=_LINES_OF_AN_END)
    kept = ending([line for line in words if line.strip()], lines)
    return [masked("", line)[:_MAX_LINE_CHARACTERS] for line in kept]
