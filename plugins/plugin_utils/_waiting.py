# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an operator learns what a long task waits for: a line every 15 seconds, while a module works on a host.

A module's action tells what it waits for in one of two ways:

- with `LongModule` as its base it has `waits_for`, which makes the words of the module's options. The module is executed once,
  as ever.
- it executes the module with `in_slices`, a slice of time after the other, where the module can stop and go on without harm (to
  wait for requests in flight, to pull a model, which Ollama resumes). Each slice's answer tells how far it is.

What is printed comes from a worker of Ansible, and Ansible's main process prints it at once, between the lines of the callback.
Source: ansible-core, executor/task_queue_manager.py (`send_display`) and plugins/strategy/__init__.py (`results_thread_main`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible.utils.display import Display
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import shown
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._host_module import HostModule

INTERVAL_SECONDS = 15
# Of a line, which stands by itself in a terminal.
MOST_CHARACTERS = 120


class LongModule(HostModule):
    """Executes a module that may take long, and says meanwhile what it waits for."""

    def waits_for(self, options: Mapping[str, Any]) -> str:
        """What the module waits for, as `loading llama3.1:8b`."""
        raise NotImplementedError

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        words = self.waits_for(self._task.args)
        with telling(host_of(task_vars), lambda: words):
            return super().run(tmp, task_vars)


def in_slices(
    execute: Callable[[], dict[str, Any]],
    words_of: Callable[[Mapping[str, Any]], str | None],
    show: Callable[[str], None],
) -> dict[str, Any]:
    """The answer of the last slice.

    execute: executes the module for a slice of time. words_of: what an answer says is still waited for; None where no other
    slice is to follow. show: takes these words.
    """
    while True:
        answer = execute()
        if answer.get("failed") or answer.get("unreachable"):
            return answer
        words = words_of(answer)
        if words is None:
            return answer
        show(words)


@contextmanager
def telling(host: str, words: Callable[[], str]) -> Iterator[None]:
    """Says every 15 s what is waited for, while the block is executed."""
    is_over = threading.Event()

    def tell() -> None:
        began = time.monotonic()
        while not is_over.wait(INTERVAL_SECONDS):
            say(host, f"{words()}, {time.monotonic() - began:.0f} s")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        is_over.set()
        teller.join()


def say(host: str, words: str, most: int = MOST_CHARACTERS, *, stderr: bool = False) -> None:
    """One line of at most so many characters on the terminal, in which nothing that a host wrote is more than text."""
    Display().display(line_of(host, words, most), stderr=stderr)


def line_of(host: str, words: str, most: int) -> str:
    """Words about a host as one line of at most so many characters, without what a terminal would obey."""
    line = shown(" ".join(f"{host}: {words}".split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def host_of(task_vars: Mapping[str, Any] | None) -> str:
    """The name of the host that a task is about."""
    return str((task_vars or {}).get("inventory_hostname", "host"))
