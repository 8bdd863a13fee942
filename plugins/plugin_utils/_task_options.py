# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resolved options of a task, as Ansible carries them."""

from __future__ import annotations

from typing import Any


def forget_options(task: Any) -> None:
    """Keeps the options of a task that is done out of what goes back to Ansible's main process.

    A worker sends them with its result (ansible-core 2.19, `executor/process/worker.py`, `task_fields`), and the
    strategy holds those of every host until the task's last one is done. The callbacks that ansible-core ships do not
    show them. A task that may be tried again still needs them; with `until` alone it is tried again, too.
    """
    if not (task.retries or task.until):
        task.args = {}
