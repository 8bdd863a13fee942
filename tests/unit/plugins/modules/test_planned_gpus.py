# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module that remembers which GPUs a plan was applied for."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.modules import planned_gpus

A = {"uuid": "GPU-a", "name": "RTX"}


def test_the_module_writes_once(run_module, tmp_path, monkeypatch):
    monkeypatch.setattr(planned_gpus, "state_directory", lambda scope, unit: str(tmp_path / unit))
    assert run_module(planned_gpus, gpus=[A], _ansible_check_mode=True)["changed"]
    assert not (tmp_path / "ollama.service").exists()
    assert [run_module(planned_gpus, gpus=[A])["changed"] for _run in range(2)] == [True, False]
    (tmp_path / "ollama.service" / "planned_gpus.json").write_text("{")
    assert run_module(planned_gpus, gpus=[A])["changed"]


def test_a_path_is_no_unit(run_module):
    assert "is not the name of a systemd service" in run_module(planned_gpus, unit="../x", gpus=[])["msg"]
