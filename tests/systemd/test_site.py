# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml and rollback.yml as a whole, on one host."""

from __future__ import annotations

from pathlib import Path

SITE = Path(__file__).resolve().parents[2] / "playbooks" / "site.yml"
ROLLBACK = SITE.with_name("rollback.yml")
DROPIN = "/etc/systemd/system/ollama.service.d/zz-gpufleet.conf"
# An unchanged host costs at most so many module runs on it.
REMOTE_EXECUTIONS = 8


def run(host, playbook, *arguments):
    running = host.start(playbook, "--limit", host.name, *arguments)
    output, _none = running.communicate(timeout=300)
    return running.returncode, output


def test_an_unchanged_host_costs_few_remote_executions(make_host):
    host = make_host(gpus="rtx3060_12gb", models={"llama3.2:3b": None})
    code, output = run(host, SITE)
    assert code == 0, output
    pid = host.property("MainPID")
    code, output = run(host, SITE, "-vvv")
    assert code == 0, output
    assert "changed=0" in output
    assert host.property("MainPID") == pid
    on_the_host = output.split("PLAY [Report on the whole fleet]")[0]
    assert 0 < on_the_host.count("Using module file") <= REMOTE_EXECUTIONS


def test_a_model_that_spills_after_all_is_rolled_back(make_host):
    host = make_host(
        gpus="rtx3090_x2",
        models={"llama3.2:3b": None},
        ollama={"faults": [{"action": "spill", "parallel": 4}]},
        variables={"ollama_plan_wanted": ["llama3.2:3b"], "ollama_verify_load": True},
    )
    code, output = run(host, SITE, "-e", "ollama_plan_num_parallel=4")
    assert code != 0
    assert "llama3.2:3b lies partly on the CPU" in output
    assert not host.exists(DROPIN)
    assert "OLLAMA_NUM_PARALLEL" not in host.process_environment()
    code, output = run(host, SITE, "-e", "ollama_plan_num_parallel=2")
    assert code == 0, output
    assert host.process_environment()["OLLAMA_NUM_PARALLEL"] == "2"


def test_an_impossible_plan_stops_everything_while_nothing_has_changed(make_host):
    host = make_host(gpus="rtx3060_12gb", models={"llama3.2:3b": None})
    code, output = run(host, SITE, "-e", '{"ollama_plan_wanted": ["absent:7b"]}')
    assert code != 0
    assert f"No host was changed. {host.name}: " in output
    assert "absent:7b" in output
    assert not host.exists(DROPIN)


def test_rollback_returns_to_the_former_dropin(make_host):
    host = make_host(gpus="rtx3060_12gb", models={"llama3.2:3b": None})
    assert run(host, SITE, "-e", "ollama_plan_num_parallel=2")[0] == 0
    assert run(host, SITE, "-e", "ollama_plan_num_parallel=3")[0] == 0
    code, output = run(host, ROLLBACK)
    assert code == 0, output
    assert host.process_environment()["OLLAMA_NUM_PARALLEL"] == "2"
