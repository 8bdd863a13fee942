# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No green light over a host that was not seen, and no rollout that goes on past a host that was lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

DROPIN = "/etc/systemd/system/ollama.service.d/zz-gpufleet.conf"
RECORD = "/var/lib/gpufleet/ollama.service/planned_gpus.json"
PROFILES = Path(__file__).parents[1] / "simulated_nvml" / "profiles"
ONE_GPU = {"gpus": "rtx3060_12gb", "models": {"llama3.2:3b": None}}
AS_DEPLOY = {
    "ansible_become": True,
    "ansible_become_method": "su",
    "ansible_become_user": "deploy",
    "ansible_pipelining": True,
}
# Processes that were started under the former drop-in, while every file is as planned.
MAKE_STALE = f"""
mv {DROPIN} /root/kept; systemctl daemon-reload; systemctl restart ollama
mv /root/kept {DROPIN}; systemctl daemon-reload
"""


def states(host):
    return {name: told["state"] for name, told in host.report().items()}


@pytest.mark.essential
def test_what_may_not_be_read_is_unknown_and_site_refuses_it(make_host):
    host = make_host(**ONE_GPU)
    assert host.playbook("site").return_code == 0
    host.shell(f"useradd --create-home deploy; {MAKE_STALE}")
    pid = host.property("MainPID")
    run = host.playbook("drift", gpufleet_drift_fail=True, **AS_DEPLOY)
    assert run.return_code != 0
    told = host.report()["host"]
    assert (told["state"], told["drift"]) == ("unknown", [])
    assert "may not be read: run as root (become)" in told["problem"]
    assert "the journal of ollama.service may not be read" in told["problem"]
    assert "makes none of them so" in " ".join(run.output.split())

    refused = host.playbook("site", **AS_DEPLOY)
    assert refused.return_code != 0
    assert "No host was changed. host: " in refused.output
    assert host.property("MainPID") == pid
    assert host.playbook("drift", gpufleet_drift_fail=True).return_code != 0
    assert host.report()["host"]["drift"][0]["cause"] == "stale process"


def test_a_folder_that_may_not_be_read_accuses_nobody_of_an_edit(make_host):
    host = make_host(**ONE_GPU)
    assert host.playbook("site").return_code == 0
    host.shell("useradd --create-home deploy; chmod 0700 /etc/systemd/system/ollama.service.d")
    assert host.playbook("drift", **AS_DEPLOY).return_code == 0
    told = host.report()["host"]
    assert told["state"] == "unknown"
    # What site.yml would refuse is said, and nothing of an edit.
    assert [one["cause"] for one in told["drift"]] == ["refused"]
    assert "cannot be read: Permission denied" in told["drift"][0]["message"]


def test_a_journal_that_is_not_kept_is_a_note_and_no_blindness(make_host):
    host = make_host(**ONE_GPU)
    assert host.playbook("site").return_code == 0
    host.shell(
        "journalctl --rotate; journalctl --vacuum-time=1us; rm -rf /run/log/journal/*/* /var/log/journal/*/*"
    )
    assert host.playbook("drift", gpufleet_drift_fail=True).return_code == 0
    assert "no longer holds the server config line" in host.report()["host"]["notes"][0]


@pytest.mark.essential
def test_a_gpu_that_is_gone_is_drift_until_somebody_goes_on_without_it(make_host):
    host = make_host(**ONE_GPU)
    assert host.playbook("site").return_code == 0
    assert "GPU-" in host.read(RECORD)
    host.write("/etc/simulated-nvml.json", (PROFILES / "no_gpu.json").read_text())
    run = host.playbook("drift", gpufleet_drift_fail=True)
    assert run.return_code != 0
    told = host.report()["host"]
    # What is planned without it, a shorter context, is drift too.
    causes = [drift["cause"] for drift in told["drift"]]
    assert (told["state"], causes[0], set(causes) - {"plan changed"}) == ("drifted", "gpu gone", {"gpu gone"})
    before = host.read(DROPIN)
    refused = host.playbook("site")
    assert refused.return_code != 0
    assert "which the plan was applied for, is gone" in refused.output
    assert host.read(DROPIN) == before

    accepted = host.playbook("site", ollama_plan_on_gpu_fault="exclude")
    assert accepted.return_code == 0, accepted.output
    assert states(host) == {"host": "in sync"}
    assert host.playbook("drift", gpufleet_drift_fail=True).return_code == 0


def test_a_host_that_is_as_planned_and_remembers_nothing_is_made_to_once(make_host):
    host = make_host(**ONE_GPU)
    assert host.playbook("site").return_code == 0
    pid = host.property("MainPID")
    host.shell(f"rm {RECORD}")
    assert [host.playbook("site").changed for _run in range(2)] == [1, 0]
    assert host.exists(RECORD)
    assert host.property("MainPID") == pid


CUT = """
- name: Take the network away after this task
  ansible.builtin.command: >-
    systemd-run --quiet sh -c 'sleep 0.5; systemctl stop ssh.socket ssh.service; pkill -9 sshd'
  when: inventory_hostname == cut
- name: Wait for it
  ansible.builtin.command: sleep 3
  delegate_to: localhost
  connection: local
  when: inventory_hostname == cut
- name: Try to reach the host
  ansible.builtin.command: "true"
"""


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ("a", {"a": "unreachable", "b": "drifted", "c": "drifted"}),
        ("b", {"a": "in sync", "b": "unreachable", "c": "drifted"}),
    ],
)
@pytest.mark.parametrize("strategy", ["linear", "free"])
def test_a_rollout_stops_at_a_host_that_is_lost_and_the_report_says_so(
    make_hosts, monkeypatch, cut, expected, strategy
):
    monkeypatch.setenv("ANSIBLE_STRATEGY", strategy)
    first, _second, last = make_hosts(a=ONE_GPU, b=ONE_GPU, c=ONE_GPU)
    tasks = first.folder / "cut.yml"
    tasks.write_text(CUT)
    before = last.property("MainPID")
    # A batch of its own, in which nobody is left, and one with others.
    run = first.playbook(
        "site",
        "--limit=all",
        cut=cut,
        gpufleet_serial=[1, "100%"] if cut == "a" else [2, "100%"],
        ollama_override_pre_restart_tasks=str(tasks),
    )
    assert run.return_code != 0
    assert not last.exists(DROPIN)
    assert last.property("MainPID") == before
    assert states(first) == expected
    if cut == "b":
        told = first.report()
        assert "after its change had begun" in told["b"]["problem"]
        assert told["a"]["compared"] == "after its change"
        assert "this batch was not changed, because the run has lost b" in " ".join(run.output.split())


def test_a_host_that_cannot_be_reached_is_no_traceback_and_site_changes_nothing(make_hosts):
    here, away = make_hosts(here=ONE_GPU, away=ONE_GPU)
    away.shell("systemctl stop ssh.socket ssh.service; pkill -9 sshd || true")
    drift = here.playbook("drift", "--limit=all")
    assert drift.return_code == 0, drift.output
    assert "has no attribute" not in drift.output
    assert drift.output.count("[ERROR]") <= 1  # that it was not reached
    assert states(here) == {"here": "drifted", "away": "unreachable"}
    site = here.playbook("site", "--limit=all")
    assert site.return_code != 0
    assert "No host was changed. away: " in site.output
    assert not here.exists(DROPIN)
    assert here.playbook("plan", "--limit=all").return_code != 0
    assert states(here) == {"here": "planned", "away": "unreachable"}
    # Nobody is left; the page keeps what the run before has found of the other.
    for playbook in ("site", "plan"):
        assert here.playbook(playbook, "--limit=away").return_code != 0
        assert states(here) == {"here": "planned", "away": "unreachable"}
    assert here.playbook("drift", "--limit=away", gpufleet_drift_fail=True).return_code != 0


@pytest.mark.parametrize("unit", ["ollama.service", "alias.service"])
def test_two_names_of_one_service_are_refused(make_host, unit):
    host = make_host(**ONE_GPU)
    host.shell(
        "ln -s /etc/systemd/system/ollama.service /etc/systemd/system/alias.service; systemctl daemon-reload"
    )
    twin = {"ansible_host": "host", "ollama_plan_num_parallel": 3, "ollama_override_unit": unit}
    names = host.folder / "names.yml"
    names.write_text(yaml.safe_dump({"ollama": {"hosts": {"twin": twin}}}))
    arguments = ("--limit=all", f"--inventory={names}")
    site = host.playbook("site", *arguments)
    assert site.return_code != 0
    assert "No host was changed. host and twin are names of one service of one machine" in site.output
    assert not host.exists(DROPIN)
    for playbook in ("drift", "plan"):
        warned = host.playbook(playbook, *arguments)
        assert warned.return_code == 0, warned.output
        assert "host and twin are names of one service" in " ".join(warned.output.split())


def test_a_folder_that_cannot_be_written_stops_before_the_first_change_and_the_table_is_shown(make_host):
    host = make_host(**ONE_GPU)
    for playbook in ("site", "drift"):
        run = host.playbook(playbook, gpufleet_report_dir="/dev/null/report")
        assert run.return_code != 0
        assert "not applied" in run.output
        assert "the report cannot be written into /dev/null/report" in run.output
    assert not host.exists(DROPIN)


def test_a_run_that_would_ignore_the_inventory_is_refused(make_host):
    host = make_host(**ONE_GPU)
    names = host.folder / "settings.yml"
    names.write_text(yaml.safe_dump({"ollama": {"vars": {"gpufleet_serial": [1, 1]}}}))
    run = host.playbook("site", f"--inventory={names}")
    assert run.return_code != 0
    assert "gpufleet_serial is set in the inventory" in run.output
    own = host.folder / "own.yml"
    site = str(Path(__file__).parents[2] / "playbooks" / "site.yml")
    own.write_text(yaml.safe_dump([{"import_playbook": site, "vars": {"gpufleet_serial": [1]}}]))
    options = {"gpufleet_report_dir": str(host.folder / "report")}
    running = host.start(own, f"--extra-vars={json.dumps(options)}")
    output, _unused = running.communicate(timeout=600)
    assert running.returncode == 0, output
