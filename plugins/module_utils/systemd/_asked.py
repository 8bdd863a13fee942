# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks systemd the same once, where several parts of one reading want to know it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed, Run

# A service may be restarted while a driver that is slow to answer is asked for its GPUs.
MOST_SECONDS = 1.0


class Asked:
    """Commands that change nothing, and what they answered; `anew` and `lately` run them as a `Run` does."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._answers: dict[tuple[str, ...], tuple[float, Completed]] = {}

    def anew(self, command: Sequence[str]) -> Completed:
        """What a command answers now."""
        asked_at_s = time.monotonic()
        answer = self._run(command)
        self._answers[tuple(command)] = asked_at_s, answer
        return answer

    def lately(self, command: Sequence[str]) -> Completed:
        """What it has answered in the last second, else what it answers now."""
        asked_at_s, answer = self._answers.get(tuple(command), (float("-inf"), None))
        if answer is None or time.monotonic() - asked_at_s > MOST_SECONDS:
            return self.anew(command)
        return answer
