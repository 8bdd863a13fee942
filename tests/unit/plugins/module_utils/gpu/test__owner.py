# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _owner
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, GpuProcess
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._owner import Owner

SYSTEM = Owner("ollama.service")
USER = Owner("ollama.service", uid=1000)
OF_USER = "/user.slice/user-1000.slice/user@1000.service/app.slice/ollama.service"


@pytest.mark.parametrize(
    ("group", "owner", "ours"),
    [
        ("/system.slice/ollama.service", SYSTEM, True),
        ("/system.slice/ollama.service/runner", SYSTEM, True),
        ("/system.slice/ollama.service/inner.scope", SYSTEM, True),
        ("/system.slice/ollama2.service", SYSTEM, False),
        ("/system.slice/my-ollama.service", SYSTEM, False),
        ("/system.slice", SYSTEM, False),
        ("/", SYSTEM, False),
        ("", SYSTEM, False),
        (OF_USER, SYSTEM, False),
        (OF_USER, USER, True),
        (OF_USER, Owner("ollama.service", uid=1001), False),
        ("/system.slice/ollama.service", USER, False),
    ],
)
def test_a_process_is_ours_when_its_group_lies_in_our_unit(group: str, owner: Owner, ours: bool) -> None:
    assert _owner.belongs_to(group, owner) is ours


def test_a_command_is_shown_without_arguments(proc: Callable[..., Path]) -> None:
    root = proc({7: ("/system.slice/x.service", "/opt/server --api-key hidden")})
    assert _owner.command(7, root) == "/opt/server"


def test_a_process_without_a_command_line_has_its_short_name(proc: Callable[..., Path]) -> None:
    root = proc({7: ("/", "")})
    assert _owner.command(7, root) == "name"


def test_a_process_that_is_hidden_has_no_command_unit_or_owner(proc: Callable[..., Path]) -> None:
    hidden = GpuDevice(0, "a", "", "", "", processes=(GpuProcess(pid=99, used_bytes=5),))
    assert _owner.attribute([hidden], SYSTEM, proc({})) == (hidden,)


def test_memory_of_our_processes_is_summed_on_each_gpu(proc: Callable[..., Path]) -> None:
    root = proc(
        {
            10: ("/system.slice/ollama.service", "/usr/local/bin/ollama runner"),
            11: ("/system.slice/ollama.service", "/usr/local/bin/ollama runner"),
            12: ("/user.slice/user-1000.slice/session-3.scope", "python3 train.py"),
        }
    )
    first = GpuDevice(
        0, "a", "", "", "", processes=(GpuProcess(10, 100), GpuProcess(11, None), GpuProcess(12, 7))
    )
    second = GpuDevice(1, "b", "", "", "", processes=(GpuProcess(10, 30),))
    one, two = _owner.attribute([first, second], SYSTEM, root)
    assert (one.memory_ours_bytes, two.memory_ours_bytes) == (100, 30)
    assert [process.used_bytes for process in one.processes] == [100, None, 7]
    assert [process.systemd_unit for process in one.processes] == [
        "ollama.service",
        "ollama.service",
        "session-3.scope",
    ]
    assert [process.is_ours for process in one.processes] == [True, True, False]
    assert one.processes[2].command == "python3"
