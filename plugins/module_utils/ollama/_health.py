# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an Ollama service is healthy or idle, judged from what was seen of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

# So many restarts by systemd while we wait are a loop, not a slow start.
RESTART_LOOP = 3
# A runner that computes keeps a CPU busy even while the GPU works (its threads poll); an idle one does not.
BUSY_CPU_SHARE = 0.05
_LINES_TOLD = 5
_PEERS_SHOWN = 3


@dataclass(frozen=True)
class Holder:
    """The process that listens on a port: its name, pid and systemd unit (None: unknown)."""

    pid: int
    name: str
    unit: str | None

    def __str__(self) -> str:
        place = f"unit {self.unit}" if self.unit else "no systemd unit"
        return f"{self.name} (pid {self.pid}, {place})"


@dataclass(frozen=True)
class Sight:
    """What was seen of a service at one moment; `at_s` is a clock's reading in seconds.

    `holder`: who listens on the service's port, `holder_is_ours`: whether that is one of its processes.
    `answer`: the version that the API answered, `error`: why it did not.
    """

    at_s: float
    active_state: str
    sub_state: str
    main_pid: int
    restarts: int
    url: str
    holder: Holder | None = None
    holder_is_ours: bool = False
    answer: str | None = None
    error: str | None = None

    @property
    def answers(self) -> bool:
        return (
            self.active_state == "active"
            and self.main_pid > 0
            and self.answer is not None
            and (self.holder_is_ours or self.holder is None)
        )


@dataclass(frozen=True)
class Health:
    """`healthy`, `hopeless` (waiting longer would not help) and the reason in one sentence."""

    healthy: bool
    hopeless: bool
    reason: str


def judge(unit: str, sights: Sequence[Sight], stable_s: float) -> Health:
    """Whether the service is healthy, from what was seen of it so far, oldest first.

    Healthy: the unit's own process answers, and it has been the same one, not restarted, for `stable_s`.
    """
    last = sights[-1]
    restarted = last.restarts - sights[0].restarts
    if last.answers:
        since = last.at_s
        for sight in reversed(sights):
            if (sight.main_pid, sight.restarts) != (last.main_pid, last.restarts) or not sight.answers:
                break
            since = sight.at_s
        if last.at_s - since >= stable_s:
            return Health(True, False, f"{unit} answers at {last.url} (Ollama {last.answer})")
        return Health(False, False, f"{unit} answers at {last.url} but not for {stable_s:g} s yet")
    foreign = last.holder is not None and not last.holder_is_ours
    if foreign and (last.main_pid == 0 or last.active_state != "active" or restarted):
        reason = f"the port of {last.url} is taken by {last.holder}, so that {unit} cannot listen on it"
        return Health(False, restarted >= RESTART_LOOP or last.active_state == "failed", reason)
    if foreign:
        reason = f"at {last.url} answers {last.holder}, not {unit}: give one of them another OLLAMA_HOST"
        return Health(False, False, reason)
    if last.active_state == "failed":
        return Health(False, True, f"{unit} failed")
    if restarted >= RESTART_LOOP:
        reason = f"{unit} does not stay up: systemd restarted it {restarted} times"
        return Health(False, True, reason)
    if last.main_pid == 0:
        reason = f"{unit} has no process (it is {last.active_state}, {last.sub_state})"
        return Health(False, False, reason)
    reason = f"{unit} runs and does not answer at {last.url}: {last.error or 'no answer'}"
    return Health(False, False, reason)


# What Go and Ollama write when they end, before what Go tells of every goroutine.
_CAUSE = re.compile(r"(panic|fatal error|Error): ")


def ending(words: Sequence[str], most: int) -> list[str]:
    """Of the lines that a service wrote those that tell why it ended: the last cause and what follows, else the last."""
    causes = [position for position, line in enumerate(words) if _CAUSE.match(line)]
    return list(words[causes[-1] :][:most] if causes else words[-most:])


def told(words: Sequence[str]) -> str:
    """What `ending` kept, for a sentence."""
    if words and _CAUSE.match(words[0]):
        return f"Its journal says: {words[0]}"
    return f"Its journal ends: {'; '.join(words[-_LINES_TOLD:])}" if words else "Its journal holds nothing of this start"


@dataclass(frozen=True)
class Load:
    """What a service was doing at one moment: requests' connections, and CPU time of its runners in seconds.

    `peers`: from which addresses they come.
    """

    at_s: float
    connections: int
    runner_cpu_s: float
    peers: tuple[str, ...] = ()

    @property
    def connected(self) -> str:
        """How many are connected and from where, in words."""
        noun = "connection" if self.connections == 1 else "connections"
        peers = sorted(set(self.peers))
        shown = ", ".join(peers[:_PEERS_SHOWN]) + (" and others" if len(peers) > _PEERS_SHOWN else "")
        return f"{self.connections} {noun} to the API{' from ' if peers else ''}{shown}"


def busy(loads: Sequence[Load]) -> str | None:
    """Why the service is not idle, from the two latest moments; None when it is idle."""
    last = loads[-1]
    if last.connections:
        return last.connected
    if len(loads) < 2:
        return "its runners are watched for a moment"
    before = loads[-2]
    elapsed_s = last.at_s - before.at_s
    if elapsed_s > 0 and (last.runner_cpu_s - before.runner_cpu_s) / elapsed_s > BUSY_CPU_SHARE:
        return "a runner is computing"
    return None
