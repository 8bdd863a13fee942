# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every task and play keeps to: no shell on any host, and hosts that advance together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

PLAYBOOKS = sorted((CHECKOUT / "playbooks").glob("*.yml"))
FILES = [
    *PLAYBOOKS,
    *sorted((CHECKOUT / "playbooks/tasks").glob("*.yml")),
    *sorted((CHECKOUT / "roles").glob("*/tasks/*.yml")),
]
PROGRAMS = {"shell", "command", "raw", "script", "expect"}


def mappings(value: Any) -> Iterator[dict]:
    """Every mapping in what a YAML file holds: plays, tasks, blocks."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from mappings(inner)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_no_task_runs_a_program_by_itself(path: Path) -> None:
    used = {str(key).rpartition(".")[2] for task in mappings(load(path)) for key in task}
    assert not used & PROGRAMS


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.name)
def test_what_is_run_once_or_for_a_batch_is_so_under_whatever_strategy_is_configured(path: Path) -> None:
    for play in load(path):
        together = "run_once" in str(play) or "max_fail_percentage" in play
        if "hosts" in play and together:
            assert play["strategy"] == "ansible.builtin.linear"


def test_the_workflows_name_actions_by_their_commit() -> None:
    for path in sorted((CHECKOUT / ".github/workflows").glob("*.yml")):
        used = [step["uses"] for step in mappings(load(path)) if "uses" in step]
        assert used
        assert [one for one in used if len(one.rpartition("@")[2]) != 40] == []


def test_a_mirror_is_not_overrun_by_hosts_that_pull() -> None:
    (task,) = (
        task for task in load(CHECKOUT / "roles/ollama_pull/tasks/main.yml") if "gpufleet.ollama.ollama_model" in task
    )
    assert task["throttle"] == "{{ ollama_pull_throttle }}"
