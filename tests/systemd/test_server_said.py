# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan and the page held against what the server on the host says of itself in its journal."""

from __future__ import annotations

import json

import pytest

DROPIN = "/etc/systemd/system/ollama.service.d/zz-gpufleet.conf"
MODELS = {"llama3.2:3b": None, "nomic-embed-text": None}


def test_a_gpu_that_ollama_has_dropped_is_drift_and_nothing_is_planned_with_it(make_host):
    host = make_host(gpus="rtx3060_12gb", models=MODELS, ollama={"faults": [{"action": "drops_gpus"}]})
    assert host.playbook("drift").return_code == 0
    told = host.report()["host"]
    dropped = [drift for drift in told["drift"] if drift["cause"] == "gpu dropped"]
    assert len(dropped) == 1
    assert "it says: NVIDIA driver too old" in dropped[0]["message"]
    assert told["placement"] == "cpu"
    # It was so before, so that nothing is rolled back for it.
    run = host.playbook("site")
    assert run.return_code == 0, run.output
    assert host.exists(DROPIN)
    assert host.playbook("site").changed == 0


@pytest.mark.essential
def test_a_change_by_which_ollama_loses_its_gpu_is_rolled_back(make_host):
    fault = {"action": "drops_gpus", "when": {"OLLAMA_NUM_PARALLEL": "2"}}
    host = make_host(gpus="rtx3060_12gb", models=MODELS, ollama={"faults": [fault]})
    run = host.playbook("site", ollama_plan_num_parallel=2)
    assert run.return_code != 0
    said = " ".join(run.output.split())
    assert "is not used by the Ollama that runs: it says: NVIDIA driver too old" in said
    assert "The former drop-in is back and ollama.service runs on it." in said
    assert not host.exists(DROPIN)
    said = host.module("ollama_host_info")["server"]
    assert [device["library"] for device in said["devices"]] == ["CUDA"]
    assert (said["problem"], said["at_least"]) == ("", False)


def test_a_journal_that_is_gone_is_an_answer(make_host):
    host = make_host(gpus="rtx3060_12gb", models=MODELS)
    host.shell("journalctl --rotate; journalctl --vacuum-time=1s; sleep 2; journalctl --rotate; journalctl --vacuum-time=1s")
    said = host.module("ollama_host_info")["server"]
    # The module's own questions may be there already.
    assert "the journal holds" in said["problem"]
    assert said["devices"] is None
    run = host.playbook("plan")
    assert run.return_code == 0, run.output


def test_loads_are_told_beside_what_was_foretold_and_an_upgrade_is_said_first(make_host):
    host = make_host(gpus="rtx3060_12gb", models={"llama3.2:3b": None}, variables={"ollama_plan_wanted": ["llama3.2:3b"]})
    first = host.playbook("site", ollama_verify_load=True)
    assert first.return_code == 0, first.output
    run = host.playbook("drift")
    assert run.return_code == 0, run.output
    told = host.report()["host"]
    assert {row["kind"] for row in told["seen"]} == {"weights", "kv_cache", "compute"}
    assert [(one["model"], one["evicted"]) for one in told["history"]] == [("llama3.2:3b", 0)]
    # The stand-in's sizes are its own; what it took more than foretold is counted with and remembered, once.
    second = host.playbook("site")
    assert second.return_code == 0, second.output
    assert host.playbook("site").changed == 0

    configuration = host.read("/etc/standin-ollama.json") if host.exists("/etc/standin-ollama.json") else "{}"
    host.write("/etc/standin-ollama.json", json.dumps({**json.loads(configuration), "version": "0.33.1"}))
    host.shell("systemctl restart ollama")
    assert host.playbook("drift").return_code == 0
    drift = host.report()["host"]["drift"][0]
    assert drift["cause"] == "changed since"
    assert drift["message"].startswith("Ollama was upgraded from 0.33.0-rc2 to 0.33.1")
    assert host.playbook("site").return_code == 0
    assert host.playbook("drift").return_code == 0
    assert host.report()["host"]["state"] == "in sync"
