# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a demand to hosts that serve it: placed, applied in an order that serves all the while, and placed again."""

from __future__ import annotations

import json
import re

import pytest

from .conftest import CHECKOUT, PATIENCE_SECONDS, Run

CARD = {"gpus": "rtx3060_12gb", "models": {"llama3.2:3b": None, "gemma3:4b": None}}
DEMAND = [
    {"name": "llama3.2:3b", "requests": 4, "context_length": 8192, "replicas": 2},
    {"name": "gemma3:4b", "requests": 2},
]


def fleet_playbook(host, name: str, *arguments: str, **variables: object) -> Run:
    """A playbook of the collection on all hosts."""
    settings = {"gpufleet_report_dir": str(host.folder / "report"), **variables}
    running = host.start(
        CHECKOUT / "playbooks" / f"{name}.yml", f"--extra-vars={json.dumps(settings)}", *arguments
    )
    output, _unused = running.communicate(timeout=PATIENCE_SECONDS)
    return Run(running.returncode, output)


def place(host, demand, *arguments: str, **variables: object) -> Run:
    return fleet_playbook(
        host,
        "place",
        *arguments,
        gpufleet_demand=demand,
        gpufleet_placement_file=str(host.folder / "placement.yml"),
        **variables,
    )


def serving(hosts) -> dict[str, set[str]]:
    """What is loaded on each host."""
    found = {}
    for host in hosts:
        running = json.loads(
            host.shell(
                "curl -s localhost:11434/api/ps || python3 -c 'import urllib.request as u;"
                'print(u.urlopen("http://localhost:11434/api/ps").read().decode())\''
            )
        )
        found[host.name] = {model["name"] for model in running["models"]}
    return found


@pytest.mark.essential
def test_a_demand_is_placed_and_applied_and_the_same_demand_moves_nothing(make_hosts):
    hosts = make_hosts(a=CARD, b=CARD, c=CARD)
    first = place(hosts[0], DEMAND, gpufleet_survive=1)
    assert first.return_code == 0, first.output
    assert first.changed == 0
    placement = json.loads((hosts[0].folder / "report" / "placement.json").read_text())
    assert placement["is_met"]
    assert all(one["slots_without_one"] >= one["requests"] for one in placement["demand"])
    assert "The demand is met" in (hosts[0].folder / "report" / "report.html").read_text()

    with_file = ("-i", str(hosts[0].folder / "placement.yml"))
    applied = fleet_playbook(hosts[0], "site", *with_file)
    assert applied.return_code == 0, applied.output
    assert "There is no room to serve" not in applied.output
    placed = {one["name"]: one for one in placement["hosts"]}
    loaded = serving(hosts)
    for name, one in placed.items():
        assert loaded[name] == set(one["slots"])
        environment = next(host for host in hosts if host.name == name).process_environment()
        assert environment["OLLAMA_NUM_PARALLEL"] == str(one["num_parallel"])
        assert environment["OLLAMA_CONTEXT_LENGTH"] == str(one["context_length"])

    again = place(hosts[0], DEMAND, *with_file, gpufleet_survive=1)
    assert again.return_code == 0, again.output
    placement = json.loads((hosts[0].folder / "report" / "placement.json").read_text())
    assert {one["name"]: one["slots"] for one in placement["hosts"]} == {
        name: one["slots"] for name, one in placed.items()
    }
    assert not any(one["changes"] or one["to_load"] or one["to_pull"] for one in placement["hosts"])
    pids = [host.property("MainPID") for host in hosts]
    unchanged = fleet_playbook(hosts[0], "site", *with_file)
    assert unchanged.return_code == 0, unchanged.output
    assert [host.property("MainPID") for host in hosts] == pids
    assert serving(hosts) == loaded


def test_a_model_moves_to_its_new_place_before_the_old_one_lets_go(make_hosts):
    hosts = make_hosts(a=CARD, b=CARD)
    for at in ("a", "b"):
        run = place(
            hosts[0],
            [{"name": "gemma3:4b", "requests": 2, "hosts": at}, {"name": "llama3.2:3b", "requests": 1}],
        )
        assert run.return_code == 0, run.output
        applied = fleet_playbook(hosts[0], "site", "-i", str(hosts[0].folder / "placement.yml"))
        assert applied.return_code == 0, applied.output
    changed = re.findall(r"changed: \[(a|b)\]", applied.output)
    assert changed[0] == "b"
    assert "gemma3:4b" in serving(hosts)["b"]


def test_hosts_that_cannot_be_reached_are_named_and_a_placement_of_others_is_refused(make_hosts):
    hosts = make_hosts(a=CARD, b=CARD)
    hosts[1].shell("systemctl stop ssh")
    run = place(hosts[0], DEMAND[1:])
    assert run.return_code == 0, run.output
    assert "b is left out, its slots do not count: it cannot be reached" in run.output
    file = hosts[0].folder / "placement.yml"
    other = hosts[0].folder / "other.yml"
    other.write_text(file.read_text().replace('"a"', '"elsewhere"').replace('\\"a\\"', '\\"elsewhere\\"'))
    hosts[1].shell("systemctl start ssh")
    refused = fleet_playbook(hosts[0], "site", "-i", str(other))
    assert refused.return_code != 0
    assert "of another fleet: elsewhere is none of the 2 hosts" in " ".join(refused.output.split())
    assert not hosts[0].exists("/etc/systemd/system/ollama.service.d/zz-gpufleet.conf")
    refused = fleet_playbook(hosts[0], "site", gpufleet_placement_file=str(file))
    assert refused.return_code != 0
    assert "not among the inventories of this run" in " ".join(refused.output.split())
    assert not hosts[0].exists("/etc/systemd/system/ollama.service.d/zz-gpufleet.conf")
