# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What site.yml would refuse: told by drift.yml with file and line, and refused before the first host is changed."""

from __future__ import annotations

import pytest

D = "/etc/systemd/system/ollama.service.d"
DROPIN = f"{D}/zz-gpufleet.conf"
ONE_GPU = {"gpus": "rtx3060_12gb", "models": {"llama3.2:3b": None}}
IMPATIENT = {
    "ollama_override_health_timeout": 12,
    "ollama_override_stable_seconds": 1,
    "ollama_override_drain_timeout": 1,
}

# What somebody does on a host, how it is undone, and what both playbooks say of it.
OBSTACLES = [
    (
        f"printf '[Service]\\nEnvironment=\\nEnvironment=PATH=/usr/bin:/bin\\n' >{D}/zzz-clean.conf",
        f"rm {D}/zzz-clean.conf",
        f"{D}/zzz-clean.conf:2 empties Environment= after our drop-in zz-gpufleet.conf",
    ),
    (
        f"printf '\\357\\273\\277[Service]\\nEnvironment=OLLAMA_NUM_PARALLEL=9\\n' >{D}/zzz-bom.conf",
        f"rm {D}/zzz-bom.conf",
        f"{D}/zzz-bom.conf:2 sets OLLAMA_NUM_PARALLEL after our drop-in",
    ),
    (
        f"printf '[Service]\\nUnsetEnvironment=OLLAMA_NUM_PARALLEL\\n' >{D}/a.conf",
        f"rm {D}/a.conf",
        f"{D}/a.conf:2 removes OLLAMA_NUM_PARALLEL again",
    ),
    (
        "printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/env OLLAMA_NUM_PARALLEL=9 /usr/local/bin/ollama serve\\n' "
        f">{D}/wrap.conf",
        f"rm {D}/wrap.conf",
        f"{D}/wrap.conf:3 sets OLLAMA_NUM_PARALLEL itself",
    ),
    (
        "printf '#!/bin/sh\\nexport OLLAMA_NUM_PARALLEL=9\\nexec /usr/local/bin/ollama serve\\n' >/opt/run.sh; "
        f"chmod 755 /opt/run.sh; printf '[Service]\\nExecStart=\\nExecStart=/opt/run.sh\\n' >{D}/wrap.conf",
        f"rm {D}/wrap.conf",
        "/opt/run.sh:2 sets OLLAMA_NUM_PARALLEL itself",
    ),
    (
        f"printf '[Service]\\nEnvironment=OLLAMA_KEEP_ALIVE=1h\\n' >{DROPIN}",
        f"rm {DROPIN}",
        f"{DROPIN} was not written by gpufleet.ollama and is left alone",
    ),
    (
        "mv /etc/systemd/system/ollama.service /root; systemctl mask ollama",
        "systemctl unmask ollama; mv /root/ollama.service /etc/systemd/system; systemctl enable ollama",
        "systemd does not load ollama.service, its state is masked",
    ),
    (
        "systemctl disable --now ollama; mv /etc/systemd/system/ollama.service /etc/systemd/system/llm.service; "
        "systemctl daemon-reload; systemctl enable --now llm",
        "systemctl disable --now llm; mv /etc/systemd/system/llm.service /etc/systemd/system/ollama.service; "
        "systemctl daemon-reload; systemctl enable --now ollama",
        "there is no ollama.service on this host, Ollama runs as llm.service (pid ",
    ),
    (
        "printf '#!/bin/sh\\nexit 0\\n' >/usr/bin/docker; chmod 755 /usr/bin/docker; systemctl stop ollama; "
        "printf '[Service]\\nType=oneshot\\nRestart=no\\nRemainAfterExit=yes\\nExecStart=\\n"
        f"ExecStart=/usr/bin/docker compose up -d\\n' >{D}/docker.conf",
        f"rm {D}/docker.conf; systemctl daemon-reload; systemctl start ollama",
        "ollama.service runs its program in a container (docker)",
    ),
    (
        "systemctl disable --now ollama",
        "systemctl enable --now ollama",
        "ollama.service is stopped and disabled, so that somebody wants it not to run",
    ),
]


@pytest.mark.parametrize(
    "obstacles",
    [pytest.param(OBSTACLES[:1], marks=pytest.mark.essential, id="one"), pytest.param(OBSTACLES[1:], id="others")],
)
def test_what_would_fail_on_a_later_host_is_refused_before_the_first_is_changed_and_is_drift(
    make_hosts, obstacles
):
    first, later = make_hosts(first=ONE_GPU, later=ONE_GPU)
    pids = first.property("MainPID"), later.property("MainPID")
    for done, undone, sentence in obstacles:
        later.shell(f"mkdir -p {D}; {done}; systemctl daemon-reload")
        site = first.playbook("site", "--limit=all", **IMPATIENT)
        said = " ".join(site.output.split())
        assert site.return_code != 0, done
        assert "No host was changed. later: " in said, (done, said)
        assert sentence in said, said
        assert not first.exists(DROPIN)
        drift = later.playbook("drift", gpufleet_drift_fail=True, **IMPATIENT)
        assert drift.return_code != 0, done
        told = later.report()["later"]
        assert sentence in " ".join([told["problem"], *(one["message"] for one in told["drift"])]), told
        later.shell(f"{undone}; systemctl daemon-reload")
    assert first.property("MainPID") == pids[0]
    site = first.playbook("site", "--limit=all", **IMPATIENT)
    assert site.return_code == 0, site.output


def test_a_stopped_service_is_started_where_that_is_asked_for_and_its_next_boot_is_said(make_host):
    host = make_host(**ONE_GPU)
    host.shell("systemctl disable --now ollama")
    refused = host.service({"OLLAMA_NUM_PARALLEL": 3})
    assert refused.return_code != 0
    assert "Nothing was changed: ollama.service is stopped and disabled" in refused.output
    run = host.playbook("site", ollama_override_start_stopped=True, **IMPATIENT)
    assert run.return_code == 0, run.output
    assert host.property("ActiveState") == "active"
    drift = host.playbook("drift", gpufleet_drift_fail=True)
    assert drift.return_code == 0, drift.output
    assert host.report()["host"]["state"] == "in sync"
    assert "will not start at boot" in " ".join(host.report()["host"]["notes"])


def test_absent_is_refused_by_the_playbook_that_applies_plans(make_host):
    host = make_host(**ONE_GPU)
    assert host.playbook("site", **IMPATIENT).return_code == 0
    pid = host.property("MainPID")
    for name in ("site", "drift"):
        run = host.playbook(name, ollama_override_state="absent", gpufleet_drift_fail=True)
        assert run.return_code != 0, run.output
        assert "ollama_override_state is absent" in " ".join(run.output.split())
    assert host.exists(DROPIN)
    assert host.property("MainPID") == pid


def test_a_foreign_server_on_the_port_is_named_by_drift_too(make_host):
    host = make_host(**ONE_GPU)
    assert host.playbook("site", **IMPATIENT).return_code == 0
    host.shell(
        "systemctl stop ollama; systemd-run --unit=thief --quiet "
        "python3 -m http.server --bind 127.0.0.1 11434; sleep 1"
    )
    drift = host.playbook("drift", ollama_plan_num_parallel=3)
    assert drift.return_code == 0, drift.output
    told = {one["cause"]: one["message"] for one in host.report()["host"]["drift"]}
    assert "is taken by python3 (pid " in told["not running"]
    assert "unit thief.service" in told["not running"]
    # Nobody has edited the file: only the plan is another one.
    assert set(told) == {"not running", "plan changed"}


def test_an_edit_by_hand_is_one_also_after_a_restart(make_host):
    host = make_host(**ONE_GPU)
    assert host.playbook("site", ollama_plan_num_parallel=2, **IMPATIENT).return_code == 0
    host.shell(f"sed -i s/PARALLEL=2/PARALLEL=7/ {DROPIN}; systemctl daemon-reload; systemctl restart ollama")
    assert host.playbook("drift", ollama_plan_num_parallel=2).return_code == 0
    assert [one["cause"] for one in host.report()["host"]["drift"]] == ["file edited"]
    assert host.playbook("site", ollama_plan_num_parallel=2, **IMPATIENT).return_code == 0
    assert host.playbook("drift", ollama_plan_num_parallel=3).return_code == 0
    # Three slots have another context each than two.
    assert {one["cause"] for one in host.report()["host"]["drift"]} == {"plan changed"}


def test_what_an_earlier_run_wrote_to_the_journal_is_no_reason_for_this_failure(make_host):
    fails = {"action": "exit_on_start", "status": 1, "when": {"OLLAMA_NUM_PARALLEL": "3"}}
    host = make_host(ollama={"faults": [fails]})
    host.shell("mkdir -p /etc/systemd/journald.conf.d; printf '[Journal]\\nStorage=none\\n' "
               ">/etc/systemd/journald.conf.d/none.conf; systemctl restart systemd-journald")
    run = host.service({"OLLAMA_NUM_PARALLEL": 3}, ollama_override_health_timeout=12)
    assert run.return_code != 0
    assert "Its journal holds nothing of this start" in run.output
    assert "server config" not in run.output


def test_a_program_that_sets_the_variable_itself_is_named_and_not_called_stale(make_host):
    """A wrapper that is no script cannot be looked into: the run says so after its restart."""
    host = make_host(**ONE_GPU)
    host.shell(
        "printf 'import os\\nos.environ[\"OLLAMA_NUM_PARALLEL\"] = \"9\"\\n"
        "os.execv(\"/usr/local/bin/ollama\", [\"ollama\", \"serve\"])\\n' >/opt/wrap.py; "
        f"mkdir -p {D}; printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/python3 /opt/wrap.py\\n' >{D}/wrap.conf; "
        "systemctl daemon-reload; systemctl restart ollama"
    )
    run = host.playbook("site", ollama_plan_num_parallel=3, **IMPATIENT)
    assert run.return_code != 0
    said = " ".join(run.output.split())
    assert "it was started after the drop-in was written, so what starts it sets another value" in said
    assert f"ExecStart in {D}/wrap.conf:3" in said
    assert "The former drop-in is back" in said
