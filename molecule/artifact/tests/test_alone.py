# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each role left behind when it was used alone, from the installed artifact."""

from __future__ import annotations

import json
import os
from pathlib import Path

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
REPORT = PROJECT / ".build" / "hosts" / "molecule-artifact" / "report" / "report.json"


def test_service_gave_the_process_the_values_of_the_playbook(host):
    pid = host.check_output("systemctl show --value --property=MainPID ollama.service")
    environment = host.file(f"/proc/{pid}/environ").content_string.split("\0")
    assert {"OLLAMA_NUM_PARALLEL=2", "OLLAMA_KEEP_ALIVE=1h"} <= set(environment)


def test_plan_is_safe_for_the_host(host):
    plan = json.loads(host.file("/root/plan.json").content_string)
    assert plan["safe"] is True
    assert plan["gpus"][0]["name"] == "NVIDIA GeForce RTX 3060"
    assert "OLLAMA_NUM_PARALLEL" in plan["environment"]


def test_benchmark_kept_its_result_and_put_the_former_state_back(host):
    assert host.file("/var/lib/gpufleet/ollama.service/benchmark.json").exists
    assert not host.file("/etc/systemd/system/ollama.service.d/zzz-gpufleet-benchmark.conf").exists


def test_report_describes_the_host():
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    assert [one["name"] for one in report["hosts"]] == ["alone"]


def test_the_roles_were_those_of_the_artifact():
    installed = PROJECT / ".build" / "artifact" / "ansible_collections" / "gpufleet" / "ollama"
    assert (installed / "MANIFEST.json").exists()
    assert not installed.is_symlink()
