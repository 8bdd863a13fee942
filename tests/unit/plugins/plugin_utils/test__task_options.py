# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task that is done sends back to Ansible's main process."""

from __future__ import annotations

from types import SimpleNamespace

from ansible_collections.gpufleet.ollama.plugins.plugin_utils._task_options import forget_options


def test_a_task_that_is_done_keeps_no_options():
    task = SimpleNamespace(args={"gpu": {}}, retries=None)
    forget_options(task)
    assert task.args == {}


def test_a_task_that_may_be_tried_again_keeps_them():
    task = SimpleNamespace(args={"gpu": {}}, retries=3)
    forget_options(task)
    assert task.args == {"gpu": {}}
