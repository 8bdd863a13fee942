# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's nginx and HAProxy in front of three hosts: no request fails while site.yml restarts one of them."""

from __future__ import annotations

import collections
import concurrent.futures
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from .conftest import CHECKOUT, PATIENCE_SECONDS, Run

MODEL = "llama3.2:3b"
SLOTS = 2
# A request takes a second or two, so that a restart meets requests in flight.
OLLAMA = {"throughput": {"time_scale": 0.5, "output_tokens": 64}}
CARD = {"gpus": "rtx3060_12gb", "models": {MODEL: None}, "ollama": OLLAMA}
TASKS = CHECKOUT / "docs" / "examples" / "placing" / "tasks"
# In a container the unit of Debian's haproxy cannot have the log of its host.
UNIT = {"/etc/systemd/system/haproxy.service.d/container.conf": "[Service]\nBindReadOnlyPaths=\n"}
ROUTER = {"packages": ("haproxy", "nginx-light"), "ollama": False, "groups": ("router",), "files": UNIT}
PLAYBOOK = [
    {
        "hosts": "ollama",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.import_role": {"name": "gpufleet.ollama.ollama_plan"}}],
    },
    {
        "hosts": "router",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": {"name": "gpufleet.ollama.ollama_router"}}],
    },
]


class Fleet:
    """Three hosts with a router of a kind in front of them."""

    def __init__(self, hosts, kind: str) -> None:
        self.host, self.router, self.folder = hosts[0], hosts[-1], hosts[0].folder
        self.hosts = {host.name: host for host in hosts}
        self.addresses = {host.name: host.shell("hostname -I").split()[0] for host in hosts}
        self.extra = self.folder / "extra.yml"
        self.variables = {
            "gpufleet_report_dir": str(self.folder / "report"),
            "ollama_plan_wanted": [{"name": MODEL, "context_length": 4096, "requests": SLOTS}],
            "ollama_plan_operator_environment": {"OLLAMA_HOST": "0.0.0.0:11434", "OLLAMA_KEEP_ALIVE": "-1"},
            "ollama_override_preload": True,
            "ollama_router_kind": kind,
            "ollama_router_replace_foreign": True,
            "ollama_router_hosts": ["a", "b", "c"],
            "ollama_router_queue_timeout": 60,
        }
        self.write_inventory()
        self.router.shell("systemctl daemon-reload; systemctl reset-failed; systemctl restart haproxy")
        self.url = f"http://{self.addresses[self.router.name]}:11435/models/{MODEL}/api/generate"
        self.playbook = self.folder / "router.yml"
        self.playbook.write_text(yaml.safe_dump(PLAYBOOK))

    def write_inventory(self, **of_b: object) -> None:
        hosts = {name: {"ollama_router_address": address} for name, address in self.addresses.items()}
        hosts.setdefault("b", {}).update(of_b)
        self.extra.write_text(yaml.safe_dump({"all": {"vars": self.variables, "hosts": hosts}}))

    def run(self, playbook, *arguments: str) -> Run:
        running = self.host.start(playbook, "-i", str(self.extra), *arguments)
        output, _unused = running.communicate(timeout=PATIENCE_SECONDS)
        return Run(running.returncode, output)

    def lose(self, name: str, how: str) -> None:
        """Takes a host away without a word, from now on."""
        host = self.hosts[name]
        if how == "refused":
            host.shell("systemctl mask --now --runtime ollama & systemctl kill --signal=KILL ollama; wait")
        else:
            host.disconnect()

    def ask(self) -> int:
        """The status of one streamed answer; one that ends too early counts as 0."""
        body = json.dumps({"model": MODEL, "prompt": "Say something", "stream": True}).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url, body), timeout=120) as answer:
                lines = answer.read().decode().splitlines()
        except urllib.error.HTTPError as error:
            is_told_when = "Retry-After" in error.headers or self.variables["ollama_router_kind"] == "haproxy"
            return error.code if is_told_when else -error.code
        except (OSError, urllib.error.URLError):
            return 0
        return 200 if json.loads(lines[-1]).get("done") else 0

    def loaded_while(self, stop: threading.Event, clients: int) -> collections.Counter[int]:
        """Statuses of so many clients that ask without a pause until they are told to stop."""

        def client() -> list[int]:
            found = []
            while not stop.is_set():
                found.append(self.ask())
            return found

        with concurrent.futures.ThreadPoolExecutor(max_workers=clients) as pool:
            return collections.Counter(status for one in pool.map(lambda _one: client(), range(clients)) for status in one)


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_a_restart_loses_no_request_and_what_is_too_much_waits_or_is_told_to_come_again(make_hosts, kind):
    fleet = Fleet(make_hosts(a=CARD, b=CARD, c=CARD, balancer=ROUTER), kind)
    first = fleet.run(CHECKOUT / "playbooks" / "site.yml")
    assert first.return_code == 0, first.output
    told = fleet.run(fleet.playbook, "--diff")
    assert told.return_code == 0, told.output
    assert fleet.run(fleet.playbook).changed == 0
    assert fleet.ask() == 200

    # As much as the slots of the hosts that remain, while one of three is restarted.
    tasks = {
        "ollama_override_pre_restart_tasks": str(TASKS / "out_of_service.yml"),
        "ollama_override_post_restart_tasks": str(TASKS / "into_service.yml"),
        "ollama_override_drain_timeout": 120,
    }
    fleet.variables.update(tasks)
    environment = {**fleet.variables["ollama_plan_operator_environment"], "OLLAMA_DEBUG": "1"}
    fleet.write_inventory(ollama_plan_operator_environment=environment)
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        load = pool.submit(fleet.loaded_while, stop, 2 * SLOTS)
        time.sleep(3)
        restarted = fleet.run(CHECKOUT / "playbooks" / "site.yml")
        time.sleep(3)
        stop.set()
        statuses = load.result()
    assert restarted.return_code == 0, restarted.output
    assert "Take it out of the router" in restarted.output
    assert "is restarted although it is not idle" not in restarted.output
    assert set(statuses) == {200}, statuses
    assert statuses[200] > 4 * SLOTS

    # Twice as much as all slots.
    stop = threading.Event()
    threading.Timer(8.0, stop.set).start()
    statuses = fleet.loaded_while(stop, 6 * SLOTS)
    assert statuses[200] > 0
    assert set(statuses) == ({200} if kind == "haproxy" else {200, 503}), statuses


@pytest.mark.parametrize("how", ["refused", "silent"])
@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_a_host_that_is_lost_loses_only_what_it_was_answering(make_hosts, kind, how):
    fleet = Fleet(make_hosts(a=CARD, b=CARD, c=CARD, balancer=ROUTER), kind)
    first = fleet.run(CHECKOUT / "playbooks" / "site.yml")
    assert first.return_code == 0, first.output
    told = fleet.run(fleet.playbook)
    assert told.return_code == 0, told.output
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        # One slot of those that remain is left free.
        load = pool.submit(fleet.loaded_while, stop, 2 * SLOTS - 1)
        time.sleep(4)
        fleet.lose("b", how)
        time.sleep(12)
        stop.set()
        statuses = load.result()
    lost = sum(count for status, count in statuses.items() if status != 200)
    assert statuses[200] > 4 * SLOTS, statuses
    assert lost <= SLOTS, statuses
    assert set(statuses) <= {200, 0, 502, 503, 504}, statuses


def test_a_file_that_the_router_does_not_take_is_not_put_in_place_and_a_reload_that_fails_is_taken_back(make_hosts):
    fleet = Fleet(make_hosts(a=CARD, balancer=ROUTER), "nginx")
    fleet.variables["ollama_router_hosts"] = ["a"]
    fleet.write_inventory()
    assert fleet.run(fleet.playbook).return_code == 0
    place = "/etc/nginx/conf.d/ollama.conf"
    before = fleet.router.read(place)

    refused = fleet.run(fleet.playbook, "--extra-vars=ollama_router_listen_address=300.1.1.1")
    assert refused.return_code != 0
    assert "The router keeps what it had before." in " ".join(refused.output.split())
    assert fleet.router.read(place) == before

    # Another program listens where the router is to listen: nginx keeps its old workers and says nothing.
    fleet.router.shell("systemd-run --unit=squatter python3 -m http.server 11500")
    refused = fleet.run(fleet.playbook, "--extra-vars=ollama_router_listen_port=11500")
    assert refused.return_code != 0
    assert fleet.router.read(place) == before
    assert fleet.run(fleet.playbook).return_code == 0

    fleet.router.write(place, "# by hand\n")
    refused = fleet.run(fleet.playbook, '--extra-vars={"ollama_router_replace_foreign": false}')
    assert "was not written by this role" in " ".join(refused.output.split())
    assert fleet.router.read(place) == "# by hand\n"


@pytest.fixture(scope="module")
def litellm() -> Path:
    """The program litellm, in a virtual environment of its own."""
    folder = CHECKOUT / ".build" / "litellm"
    program = folder / "bin" / "litellm"
    if not program.exists():
        lock = CHECKOUT / "requirements" / "litellm.txt"
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [folder / "bin" / "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", lock]
        subprocess.run(list(map(str, install)), check=True)
    return program


def test_litellm_loads_its_file_and_routes_by_it(make_hosts, litellm):
    fleet = Fleet(make_hosts(a=CARD, balancer=ROUTER), "litellm")
    fleet.variables.update(ollama_router_hosts=["a"], ollama_router_path="/root/litellm.yaml")
    fleet.write_inventory()
    first = fleet.run(CHECKOUT / "playbooks" / "site.yml")
    assert first.return_code == 0, first.output
    told = fleet.run(fleet.playbook)
    assert told.return_code == 0, told.output
    assert fleet.run(fleet.playbook).changed == 0
    config = fleet.folder / "litellm.yaml"
    config.write_text(fleet.router.read("/root/litellm.yaml"))
    (deployment,) = yaml.safe_load(config.read_text())["model_list"]
    assert deployment["litellm_params"]["max_parallel_requests"] == SLOTS
    assert deployment["model_info"]["max_input_tokens"] == 4096

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(litellm), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    # Without a key it does not start; by itself it fetches a list of prices.
    key = "sk-router-test-1f0c7a7d5f1e4c1c9a55"
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key}
    log = (fleet.folder / "litellm.log").open("w+")
    with subprocess.Popen(command, stdout=log, stderr=log, env=environment) as proxy:
        try:
            body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}).encode()
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
            answer = asked_when_up(urllib.request.Request(url, body, headers), proxy)
        finally:
            proxy.terminate()
    log.seek(0)
    assert answer.get("choices"), log.read()
    assert answer["choices"][0]["message"]["content"]


def asked_when_up(request: urllib.request.Request, program: subprocess.Popen[bytes]) -> dict:
    deadline = time.monotonic() + 300
    while program.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return {"error": error.read().decode()}
        except OSError:
            time.sleep(1)
    return {}
