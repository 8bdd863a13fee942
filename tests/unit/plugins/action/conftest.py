# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions as Ansible runs them, for a host that nobody can reach."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.template import Templar


@pytest.fixture
def action_of():
    """`action_of(ActionModule, name, options)` is the action of a task, in check mode."""

    def make(action_class, name, options):
        task = SimpleNamespace(
            action=f"gpufleet.ollama.{name}",
            args=options,
            async_val=0,
            check_mode=True,
            diff=False,
            retries=None,
            until=[],
        )
        return action_class(
            task=task,
            connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir=None)),
            play_context=None,
            loader=None,
            templar=Templar(loader=None),
            shared_loader_obj=None,
        )

    return make
