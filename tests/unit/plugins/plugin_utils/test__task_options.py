# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task that is done sends back to Ansible's main process."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._task_options import forget_options


def test_a_task_that_is_done_keeps_no_options():
    task = SimpleNamespace(args={"gpu": {}}, retries=None, until=[])
    forget_options(task)
    assert task.args == {}


@pytest.mark.parametrize(
    ("retries", "until"), [(3, []), (None, ["planned is success"]), (3, ["planned is success"])]
)
def test_a_task_that_may_be_tried_again_keeps_them(retries, until):
    task = SimpleNamespace(args={"gpu": {}}, retries=retries, until=until)
    forget_options(task)
    assert task.args == {"gpu": {}}
