# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _visibility_environment
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed, Run


def systemctl(main_pid: int, load_state: str = "loaded", return_code: int = 0) -> Run:
    def run(command: Sequence[str]) -> Completed:
        shown = f"LoadState={load_state}\nMainPID={main_pid}\nEnvironment=CUDA_VISIBLE_DEVICES=1\n"
        return Completed(return_code, shown, "no bus")

    return run


def test_the_environment_of_the_main_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    environment, note = _visibility_environment.service_environment(
        systemctl(os.getpid()), "system", "ollama.service"
    )
    assert "PATH" in environment
    assert "CUDA_VISIBLE_DEVICES" not in environment
    assert note is None


def test_a_service_that_does_not_run_has_its_units_environment() -> None:
    environment, note = _visibility_environment.service_environment(systemctl(0), "system", "ollama.service")
    assert environment == {"CUDA_VISIBLE_DEVICES": "1"}
    assert note is None


def test_a_process_that_may_not_be_read_leaves_its_units_environment() -> None:
    environment, note = _visibility_environment.service_environment(
        systemctl(4194305), "system", "ollama.service"
    )
    assert environment == {"CUDA_VISIBLE_DEVICES": "1"}
    assert "may not be read" in (note or "")


def test_a_unit_that_is_not_there_restricts_nothing() -> None:
    environment, note = _visibility_environment.service_environment(
        systemctl(0, "not-found"), "system", "ollama.service"
    )
    assert environment == {}
    assert "ollama.service is not installed" in (note or "")


def test_a_manager_that_does_not_answer_is_noted() -> None:
    _environment, note = _visibility_environment.service_environment(
        systemctl(0, return_code=1), "system", "ollama.service"
    )
    assert "no bus" in (note or "")


def test_a_host_without_systemctl_is_noted() -> None:
    def run(command: Sequence[str]) -> Completed:
        raise FileNotFoundError(2, "No such file or directory", "systemctl")

    environment, note = _visibility_environment.service_environment(run, "system", "ollama.service")
    assert environment == {}
    assert "is not known" in (note or "")


def test_variables_are_set_and_removed_on_top_of_the_running_ones() -> None:
    running = {"CUDA_VISIBLE_DEVICES": "0", "HOME": "/"}
    assert _visibility_environment.combined(
        running, {"CUDA_VISIBLE_DEVICES": None, "HIP_VISIBLE_DEVICES": "1"}
    ) == {
        "HOME": "/",
        "HIP_VISIBLE_DEVICES": "1",
    }
