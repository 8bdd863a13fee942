# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`drift.yml` on hosts that boot real systemd: it names what went wrong on each, and `site.yml` repairs it.

Needs what the test hosts need (tests/hosts), and takes some minutes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FLEET = "report-drift"
SPEC = Path(__file__).parent / "drift-hosts.yml"
DROP_INS = "/etc/systemd/system/ollama.service.d"
OURS = f"{DROP_INS}/zz-gpufleet.conf"
MODULES_PER_HOST = 1
TAKE_IT = "systemctl daemon-reload; systemctl restart ollama"
LESS = f"sed -i 's/OLLAMA_NUM_PARALLEL=4/OLLAMA_NUM_PARALLEL=2/' {OURS}"
MISHAPS = {
    "file-edited": LESS,
    "stale-process": f"cp {OURS} /root/kept; {LESS}; {TAKE_IT}; cp /root/kept {OURS}; systemctl daemon-reload",
    "other-file": f"printf '[Service]\\nEnvironment=OLLAMA_NUM_PARALLEL=1\\n' >{DROP_INS}/zzz-local.conf; {TAKE_IT}",
    "plan-changed": 'sed -i \'s/"total_bytes": [0-9]*/"total_bytes": 5368709120/\' /etc/simulated-nvml.json',
    "not-applied": f"rm {OURS}; {TAKE_IT}",
    "not-reloaded": f"touch {OURS}",
    "not-running": "systemctl stop ollama",
}


def hosts(*arguments: str) -> str:
    program = [sys.executable, str(CHECKOUT / "tests" / "hosts" / "hosts.py"), *arguments]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Runs:
    """Runs of this checkout's playbooks on the fleet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def play(self, playbook: str, *options: str, status: int = 0) -> str:
        inventory = CHECKOUT / ".build" / "hosts" / FLEET / "inventory.yml"
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), "--forks=10"]
        command += [f"playbooks/{playbook}.yml", "-e", f"gpufleet_report_dir={self.folder}", *options]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=os.environ
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def report(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return {host["name"]: host for host in told["hosts"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    hosts("up", FLEET, "--spec", str(SPEC))
    try:
        made = Runs(tmp_path_factory.mktemp("report"))
        made.play("site", "--limit=!failed", "-e", '{"gpufleet_serial": ["100%"]}')
        yield made
    finally:
        hosts("down", FLEET)


@pytest.fixture(scope="module")
def found(runs: Runs) -> dict[str, Any]:
    """The report after every host but one has gone wrong."""
    for host, mishap in MISHAPS.items():
        hosts("exec", FLEET, host, "sh", "-c", mishap)
    hosts("exec", FLEET, "unreachable", "systemctl", "--no-block", "poweroff")
    told = runs.play("drift")
    assert not re.findall(r"changed=[1-9]", told)
    return runs.report()


@pytest.mark.parametrize("host", sorted(MISHAPS))
def test_names_the_cause(found: dict[str, Any], host: str) -> None:
    told = found[host]
    assert told["state"] == "drifted"
    assert {drift["cause"] for drift in told["drift"]} - {"not reloaded"} <= {host.replace("-", " ")}
    assert host.replace("-", " ") in {drift["cause"] for drift in told["drift"]}


def test_names_the_file_that_decides_instead(found: dict[str, Any]) -> None:
    (drift,) = found["other-file"]["drift"]
    assert f"{DROP_INS}/zzz-local.conf:2" in drift["message"]
    assert (drift["found"]["process"], drift["wanted"]) == ("1", "4")


@pytest.mark.parametrize("host", ["good", "failed", "unreachable"])
def test_tells_hosts_apart_that_cannot_be_compared(found: dict[str, Any], host: str) -> None:
    assert found[host]["state"] == {"good": "in sync"}.get(host, host)
    assert bool(found[host]["problem"]) is (host != "good")


def test_asks_few_things_of_a_host(runs: Runs, found: dict[str, Any]) -> None:
    told = runs.play("drift", "--limit=good", "-vvv")
    on_host = told.split("PLAY [Report on the whole fleet]")[0]
    assert on_host.count("Using module file") == MODULES_PER_HOST


def test_fails_a_scheduler_where_asked_to(runs: Runs, found: dict[str, Any]) -> None:
    runs.play("drift", "--limit=good", "-e", "gpufleet_drift_fail=true")
    told = runs.play("drift", "--limit=good,not-running", "-e", "gpufleet_drift_fail=true", status=2)
    assert "1 of 2 hosts are not as planned" in told


def test_site_repairs_what_was_found(runs: Runs, found: dict[str, Any]) -> None:
    hosts("exec", FLEET, "other-file", "rm", f"{DROP_INS}/zzz-local.conf")
    repaired = ["good", *MISHAPS]
    runs.play("site", f"--limit={','.join(repaired)}", "-e", '{"gpufleet_serial": ["100%"]}')
    runs.play("drift", f"--limit={','.join(repaired)}", "-e", "gpufleet_drift_fail=true")
    told = runs.report()
    assert {name: host["state"] for name, host in told.items()} == {
        **dict.fromkeys(repaired, "in sync"),
        # As the run over all of them has found these.
        **{name: name for name in ("failed", "unreachable")},
    }
