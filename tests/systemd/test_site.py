# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks as a whole: what they leave on the hosts, and what the report says of it, also when they fail."""

from __future__ import annotations

import pytest
import yaml

DROPIN = "/etc/systemd/system/ollama.service.d/zz-gpufleet.conf"
# An unchanged host costs so many module runs on it: one look for the plan and for the comparison with it.
REMOTE_EXECUTIONS = 1
ONE_GPU = {"gpus": "rtx3060_12gb", "models": {"llama3.2:3b": None}}
IMPATIENT = {"ollama_override_health_timeout": 12, "ollama_override_stable_seconds": 1}


def test_an_unchanged_host_costs_few_remote_executions(make_host):
    host = make_host(**ONE_GPU)
    first = host.playbook("site", ollama_override_preload=True)
    assert first.return_code == 0, first.output
    assert "so that no model is loaded after a restart" in " ".join(first.output.split())
    pid = host.property("MainPID")
    run = host.playbook("site", "-vvv")
    assert run.return_code == 0, run.output
    assert run.changed == 0
    assert host.property("MainPID") == pid
    on_the_host = run.output.split("PLAY [Report on the whole fleet]")[0]
    assert on_the_host.count("Using module file") == REMOTE_EXECUTIONS
    assert host.report()["host"]["state"] == "in sync"


@pytest.mark.essential
def test_the_operators_secrets_show_nowhere_and_reach_the_process(make_host):
    host = make_host(**ONE_GPU)
    given_environment = {
        "HF_TOKEN": "hunter2-token",
        "DB_PASS": "hunter2-pass",
        "PIN_TOKEN": 47114711,
        "HTTPS_PROXY": "http://user:hunter2-p@ss/word@proxy:3128",
        "OLLAMA_KEEP_ALIVE": "24h",
    }
    secrets = host.folder / "secrets.yml"
    secrets.write_text(yaml.safe_dump({"ollama_plan_operator_environment": given_environment}))
    given = f"--extra-vars=@{secrets}"
    for playbook in ("plan", "site", "drift", "site"):
        run = host.playbook(playbook, given, "-vvv", "--diff")
        assert run.return_code == 0, run.output
        page = (host.folder / "report" / "report.html").read_text()
        for shown in (run.output, page, str(host.report())):
            assert "hunter2" not in shown
            assert "47114711" not in shown
    assert run.changed == 0
    assert "'HF_TOKEN': '********'" in str(host.report()["host"]["environment"])
    process = host.process_environment()
    assert {name: process[name] for name in given_environment} == {
        name: str(value) for name, value in given_environment.items()
    }

    secrets.write_text(secrets.read_text().replace("hunter2-token", "hunter3-token"))
    drift = host.playbook("drift", given, "-vvv")
    assert "******** in file and process, wanted another value" in str(host.report()["host"]["drift"])
    assert "hunter" not in drift.output
    # Ollama itself logs its proxy; what Ansible and systemd log must not hold it.
    assert "hunter" not in host.shell("journalctl --no-pager | grep -v ' ollama\\['")


def test_a_host_that_is_as_planned_is_looked_at_by_its_models_where_asked(make_host):
    host = make_host(**ONE_GPU)
    assert host.playbook("site").return_code == 0
    pid = host.property("MainPID")
    # On the command line a value is text.
    run = host.playbook("site", "--extra-vars=ollama_verify_load=true")
    assert run.return_code == 0, run.output
    assert run.changed == 0
    assert "Load the planned models in the plan's order" in run.output
    assert host.property("MainPID") == pid


def test_what_somebody_added_to_our_drop_in_is_drift_and_is_written_over(make_host):
    host = make_host(**ONE_GPU)
    assert host.playbook("site").return_code == 0
    pid = host.property("MainPID")
    host.shell(f"echo MemoryMax=8G >>{DROPIN}; systemctl daemon-reload")
    assert host.playbook("drift").return_code == 0
    (drift,) = host.report()["host"]["drift"]
    assert drift["cause"] == "file edited"
    assert "sets MemoryMax, which is not ours" in drift["message"]
    run = host.playbook("site")
    assert run.return_code == 0, run.output
    assert "MemoryMax" not in host.read(DROPIN)
    assert host.property("MainPID") == pid
    assert host.report()["host"]["state"] == "in sync"


@pytest.mark.parametrize("wanted", [["llama3.2:3b"], []])
def test_a_model_that_spills_after_all_is_rolled_back(make_host, wanted):
    host = make_host(
        gpus="rtx3090_x2",
        models={"llama3.2:3b": None, "nomic-embed-text": None},
        ollama={"faults": [{"action": "spill", "parallel": 4}]},
        variables={"ollama_plan_wanted": wanted, "ollama_verify_load": True},
    )
    run = host.playbook("site", ollama_plan_num_parallel=4)
    assert run.return_code != 0
    assert "llama3.2:3b lies partly on the CPU" in run.output
    assert "The former drop-in is back and ollama.service runs on it." in run.output
    assert not host.exists(DROPIN)
    assert "OLLAMA_NUM_PARALLEL" not in host.process_environment()
    assert host.report()["host"]["state"] == "failed"
    assert "llama3.2:3b lies partly on the CPU" in host.report()["host"]["problem"]
    run = host.playbook("site", ollama_plan_num_parallel=2)
    assert run.return_code == 0, run.output
    assert host.process_environment()["OLLAMA_NUM_PARALLEL"] == "2"
    told = host.report()["host"]
    assert (told["state"], told["change"]["restarted"]) == ("in sync", True)
    assert told["change"]["seconds"] > 0
    assert "host  in sync  yes" in run.output
    assert "OLLAMA_NUM_PARALLEL none -> 2" in run.output


def test_an_impossible_plan_stops_everything_while_nothing_has_changed(make_host):
    host = make_host(**ONE_GPU)
    impossible = {"ollama_plan_wanted": ["absent:7b"]}
    run = host.playbook("site", **impossible)
    assert run.return_code != 0
    assert "No host was changed. host: " in run.output
    assert "absent:7b" in run.output
    assert not host.exists(DROPIN)
    assert (host.report()["host"]["state"], "absent:7b" in host.report()["host"]["problem"]) == (
        "failed",
        True,
    )
    planned = host.playbook("plan", gpufleet_report_dir=str(host.folder / "planned"), **impossible)
    assert planned.return_code != 0
    assert "absent:7b" in (host.folder / "planned" / "report.html").read_text()


@pytest.mark.essential
def test_a_rollout_ends_with_the_canary_that_fails_and_the_report_says_so(make_hosts):
    fault = {"action": "exit_on_start", "status": 1, "when": {"OLLAMA_NUM_PARALLEL": "2"}}
    canary, other = make_hosts(canary={**ONE_GPU, "ollama": {"faults": [fault]}}, other=ONE_GPU)
    before = other.property("MainPID")
    run = canary.playbook("site", "--limit=all", ollama_plan_num_parallel=2, **IMPATIENT)
    assert run.return_code != 0
    assert not canary.exists(DROPIN)
    assert canary.property("ActiveState") == "active"
    assert not other.exists(DROPIN)
    assert other.property("MainPID") == before
    told = canary.report()
    assert {name: host["state"] for name, host in told.items()} == {"canary": "failed", "other": "drifted"}
    assert "The former drop-in is back and ollama.service runs on it." in told["canary"]["problem"]
    assert told["canary"]["num_parallel"] == 2
    assert "The former drop-in is back" in (canary.folder / "report" / "report.html").read_text()

    repaired = canary.playbook("site", "--limit=all", ollama_plan_num_parallel=3, **IMPATIENT)
    assert repaired.return_code == 0, repaired.output
    assert {host["state"] for host in canary.report().values()} == {"in sync"}


def test_rollback_returns_to_the_former_dropin(make_host):
    host = make_host(**ONE_GPU)
    for parallel in (2, 3):
        assert host.playbook("site", ollama_plan_num_parallel=parallel).return_code == 0
    foreseen = host.playbook("rollback", "--check", "--diff")
    assert foreseen.return_code == 0, foreseen.output
    assert '+Environment="OLLAMA_NUM_PARALLEL=2"' in foreseen.output
    assert host.process_environment()["OLLAMA_NUM_PARALLEL"] == "3"
    run = host.playbook("rollback")
    assert run.return_code == 0, run.output
    assert host.process_environment()["OLLAMA_NUM_PARALLEL"] == "2"


@pytest.mark.parametrize("check", [["--check"], []])
def test_rollback_on_a_host_without_the_service_is_one_sentence(make_host, check):
    run = make_host(ollama=False).playbook("rollback", *check)
    assert run.return_code == 0, run.output
    assert "no former drop-in of ollama.service is known" in run.output
