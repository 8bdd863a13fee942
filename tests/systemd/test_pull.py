# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models come from a real registry, Debian's docker-registry behind a front that redirects blobs, and from a file."""

from __future__ import annotations

import base64
import json
import subprocess
import time

import pytest
import yaml
from ansible_collections.gpufleet.ollama.tests.registry.models import small_model

from .conftest import CHECKOUT, PATIENCE_SECONDS

CARD = {"gpus": "rtx3060_12gb", "packages": ("docker-registry",)}
FRONT = "localhost:5001"
NAME = f"{FRONT}/team/model:v1"
FAULTS = "/root/faults.json"
# Debian's own wants a login, which Ollama does not have.
OPEN = """
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}
http: {addr: ":5000"}
"""
FILE = "/srv/small.gguf"
SOURCE = {"name": NAME, "insecure": True}
NOPE = [{"name": f"{FRONT}/team/nope:v1", "insecure": True}]
SETTINGS = {
    "gpufleet_pull": True,
    "ollama_plan_wanted": [{"name": NAME, "context_length": 2048, "requests": 2}],
    "ollama_plan_min_context_length": 2048,
    "ollama_pull_models": [SOURCE],
    "ollama_pull_keep_free_bytes": 0,
}
ROLE = {"ansible.builtin.include_role": {"name": "gpufleet.ollama.ollama_pull"}}
PUT = """
import sys, urllib.request
path, file = sys.argv[1:3]
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:11434" + path, open(file, "rb").read(), method="POST"))
"""
ASK = """
import json, sys, urllib.request
method, path, body = sys.argv[1:4]
request = urllib.request.Request("http://127.0.0.1:11434" + path, body.encode() if body else None, method=method)
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""


def ask(host, method, path, body=None):
    """What the host's server answers."""
    return host.run("python3", "-c", ASK, method, path, json.dumps(body) if body else "")


def installed(host):
    return {model["name"]: model["digest"] for model in json.loads(ask(host, "GET", "/api/tags"))["models"]}


def put_file(host, path, content):
    host.shell(f"mkdir -p $(dirname {path})")
    host.run("sh", "-c", f"base64 -d > {path}", input=base64.b64encode(content).decode())


def have(host, *models, **variables):
    """A run of the role for these models."""
    settings = {"ollama_pull_keep_free_bytes": 0, **variables}
    return host.play([ROLE], "--diff", ollama_pull_models=list(models), **settings)


def faults(host, **made):
    host.write(FAULTS, json.dumps(made))


def filled(host, model, backend):
    """Has a front on the host, before a registry or alone (`0`), with a model that the host itself has not."""
    host.write("/root/front.py", (CHECKOUT / "tests/registry/front.py").read_text())
    host.run("systemd-run", "--unit=front", "python3", "/root/front.py", "5001", backend, FAULTS)
    put_file(host, FILE, model)
    host.shell("until python3 -c 'import socket; socket.create_connection((\"localhost\", 5001))'; do sleep 0.2; done")
    digest = f"sha256:{host.run('sha256sum', FILE).split()[0]}"
    host.run("python3", "-c", PUT, f"/api/blobs/{digest}", FILE)
    ask(host, "POST", "/api/create", {"model": NAME, "files": {"model.gguf": digest}, "stream": False})
    ask(host, "POST", "/api/push", {"model": NAME, "insecure": True, "stream": False})
    ask(host, "DELETE", "/api/delete", {"model": NAME})
    assert installed(host) == {}


@pytest.fixture
def registry(make_host, tmp_path):
    """`registry()` is a host whose registry has a model, which the host itself has not; its file lies there too."""

    def make(**settings):
        host = make_host(**{**CARD, **settings})
        host.write("/etc/docker/registry/config.yml", OPEN)
        host.shell("systemctl restart docker-registry")
        filled(host, small_model(tmp_path), "5000")
        return host

    return make


@pytest.mark.essential
def test_site_pulls_what_is_wanted_and_missing_and_the_second_time_nothing(registry):
    host = registry()
    faults(host, cut_after=60_000, cuts=1)
    applied = host.playbook("site", **SETTINGS)
    assert applied.return_code == 0, applied.output
    assert list(installed(host)) == [NAME]
    assert host.process_environment()["OLLAMA_NUM_PARALLEL"] == "2"
    again = host.playbook("site", **SETTINGS)
    assert (again.return_code, again.changed) == (0, 0), again.output


def test_an_impossible_plan_pulls_nothing_and_a_plan_shows_what_would_come(registry):
    host = registry()
    impossible = host.playbook("site", **{**SETTINGS, "ollama_plan_headroom_bytes": 11 << 30})
    assert impossible.return_code != 0
    assert "No host was changed" in impossible.output
    shown = host.playbook("plan", **SETTINGS)
    assert shown.return_code == 0, shown.output
    assert f"to pull: {NAME}, 0 MiB" in shown.output
    assert "has room: 0 MiB are to come" in shown.output
    crowded = host.playbook("site", **{**SETTINGS, "ollama_pull_keep_free_bytes": 1 << 60})
    assert crowded.return_code != 0
    assert "would not make enough room: take a larger disk" in crowded.output
    nowhere = host.playbook("site", **{**SETTINGS, "ollama_plan_wanted": [f"{FRONT}/team/nope:v1"], "ollama_pull_models": NOPE})
    assert nowhere.return_code != 0
    assert "has no model team/nope:v1: look for a slip in its name and tag" in nowhere.output
    foretold = host.playbook("site", "--check", "--diff", **SETTINGS)
    assert foretold.return_code == 0, foretold.output
    assert f"+{NAME} " in foretold.output
    assert installed(host) == {}


def test_the_role_makes_pulls_pins_and_removes(registry):
    host = registry()
    # Without a network: a model is made of a file, once.
    file = {"name": "mine:v1", "file": FILE, "digest": host.run("sha256sum", FILE).split()[0]}
    for changed in (1, 0):
        made = have(host, file)
        assert (made.return_code, made.changed) == (0, changed), made.output

    # What is loaded does not go; what is not, does, and nothing else.
    gone = {"name": "mine:v1", "state": "absent"}
    ask(host, "POST", "/api/generate", {"model": "mine:v1", "stream": False})
    kept = have(host, gone)
    assert kept.return_code != 0
    assert "model mine:v1 is not removed, because it is loaded" in kept.output
    ask(host, "POST", "/api/generate", {"model": "mine:v1", "stream": False, "keep_alive": 0})
    host.shell("sleep 1")
    removed = have(host, gone)
    assert (removed.return_code, removed.changed, installed(host)) == (0, 1, {}), removed.output

    # From the registry: another pin, what would come, then a pull in slices with its progress, the second time nothing.
    wrong = have(host, {**SOURCE, "digest": "a" * 12})
    assert wrong.return_code != 0
    assert "and digest pins aaaaaaaaaaaa: the tag was moved" in wrong.output
    foretold = host.play([ROLE], "--check", "--diff", ollama_pull_models=[SOURCE], ollama_pull_keep_free_bytes=0)
    assert (foretold.return_code, foretold.changed, installed(host)) == (0, 1, {}), foretold.output
    assert f"+{NAME} " in foretold.output
    faults(host, rate=30_000)
    pulling = {"gpufleet.ollama.ollama_model": {"models": [SOURCE], "keep_free_bytes": 0, "slice_seconds": 2}}
    pulled = host.play([pulling])
    assert (pulled.return_code, pulled.changed) == (0, 1), pulled.output
    assert pulled.output.count(f"host: {NAME}: 0 MiB of 0 MiB (") > 1, pulled.output
    digest = installed(host)[NAME]
    again = have(host, {**SOURCE, "digest": digest[:12]})
    assert (again.return_code, again.changed) == (0, 0), again.output


def test_a_server_that_is_killed_in_the_middle_is_waited_for(registry):
    host = registry()
    faults(host, rate=15_000)
    task = {"gpufleet.ollama.ollama_model": {"models": [SOURCE], "keep_free_bytes": 0, "slice_seconds": 3}}
    running = host.start(host._write_playbook([task], {}))
    host.shell("until ls /usr/share/ollama/.ollama/models/blobs/*-partial-0; do sleep 0.2; done; sleep 1")
    host.shell("systemctl kill --signal=KILL ollama")
    faults(host)
    output, _unused = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 0, output
    assert list(installed(host)) == [NAME]


def test_what_a_registry_does_wrong_is_one_sentence_and_leaves_no_model(registry):
    host = registry()
    for made, sentence in (
        ({"wrong": True, "wrong_from": 1000}, "was thrown away: run it again, or repair the registry"),
        ({"half_manifest": True}, "IncompleteRead"),
        ({"manifest_status": 500}, "Ollama says: pull model manifest: 500"),
        ({"no_redirect": True}, "put such a front before it"),
    ):
        faults(host, **made)
        run = have(host, SOURCE)
        assert run.return_code != 0, (made, run.output)
        assert sentence in run.output, (made, run.output)
        assert installed(host) == {}


def test_a_disk_that_is_too_small_is_told_before_anything_comes(registry):
    host = registry(run_options=("--tmpfs=/usr/share/ollama/.ollama/models:size=300k,mode=0777",))
    run = have(host, SOURCE, ollama_pull_keep_free_bytes=200_000)
    assert run.return_code != 0
    assert "the disk of /usr/share/ollama/.ollama/models has no room" in run.output
    assert have(host, SOURCE).return_code == 0


def test_a_disk_that_fills_up_in_the_middle_costs_a_sentence_and_what_came_is_kept(registry):
    store = "/usr/share/ollama/.ollama/models"
    host = registry(run_options=(f"--tmpfs={store}:size=600k,mode=0777",))
    faults(host, rate=15_000)
    task = {"gpufleet.ollama.ollama_model": {"models": [SOURCE], "keep_free_bytes": 0, "slice_seconds": 3}}
    running = host.start(host._write_playbook([task], {}))
    host.shell(f"until ls {store}/blobs/*-partial-0; do sleep 0.2; done; sleep 2")
    host.shell(f"cat /dev/zero > {store}/filler || true")
    output, _unused = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode != 0, output
    assert "no space left on device; the disk is full: make room and run it again" in " ".join(output.split())
    assert installed(host) == {}
    assert host.shell(f"ls {store}/blobs").count("-partial-") > 0
    # Still full: it is told before anything comes.
    again = have(host, SOURCE)
    assert again.return_code != 0
    assert f"the disk of {store} has no room" in again.output
    faults(host)
    host.shell(f"rm {store}/filler")
    resumed = have(host, SOURCE)
    assert (resumed.return_code, list(installed(host))) == (0, [NAME]), resumed.output


def test_site_pulls_a_wanted_model_that_is_installed_as_another_than_is_pinned(registry, tmp_path):
    host = registry()

    def make(seed):
        """The digest of a model of that name, made on the host."""
        path = f"/srv/{seed}.gguf"
        put_file(host, path, small_model(tmp_path, seed))
        digest = f"sha256:{host.run('sha256sum', path).split()[0]}"
        host.run("python3", "-c", PUT, f"/api/blobs/{digest}", path)
        ask(host, "POST", "/api/create", {"model": NAME, "files": {"model.gguf": digest}, "stream": False})
        return installed(host)[NAME]

    pinned = make(2)
    ask(host, "POST", "/api/push", {"model": NAME, "insecure": True, "stream": False})
    assert make(3) != pinned
    settings = {**SETTINGS, "ollama_pull_models": [{**SOURCE, "digest": pinned[:12]}]}
    applied = host.playbook("site", **settings)
    assert applied.return_code == 0, applied.output
    assert installed(host) == {NAME: pinned}
    assert host.playbook("site", **settings).changed == 0


THROTTLED = [{"hosts": "ollama", "gather_facts": False, "tasks": [ROLE]}]


def test_no_more_hosts_pull_at_once_than_may(make_hosts, tmp_path):
    hosts = make_hosts(**{name: {"gpus": "rtx3060_12gb"} for name in "abc"})
    model = small_model(tmp_path)
    for host in hosts:
        filled(host, model, "0")
        faults(host, rate=len(model) // 8)
    settings = {"ollama_pull_models": [SOURCE], "ollama_pull_keep_free_bytes": 0, "ollama_pull_throttle": 2}
    playbook = tmp_path / "pull.yml"
    playbook.write_text(yaml.safe_dump([{**THROTTLED[0], "vars": settings}]))
    running = hosts[0].start(playbook)
    pulling = []
    while running.poll() is None:
        pulling.append(sum("-partial" in host.shell("ls /usr/share/ollama/.ollama/models/blobs") for host in hosts))
        time.sleep(0.1)
    assert running.returncode == 0, running.communicate()[0]
    assert max(pulling) == 2, pulling
    assert [list(installed(host)) for host in hosts] == [[NAME]] * 3


PROXY = """
Port 3128
Listen 0.0.0.0
Timeout 60
BasicAuth user hunter2
"""
BEYOND = "registry.internal"
KIND = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


def test_the_look_goes_by_the_proxy_of_the_service(make_hosts, tmp_path):
    """Debian's tinyproxy, which alone knows the registry's name, by plain HTTP and by TLS."""
    host, gate = make_hosts(a={"gpus": "rtx3060_12gb"}, gate={"gpus": "rtx3060_12gb", "packages": ("tinyproxy",)})
    key, signed = tmp_path / "key", tmp_path / "signed"
    subject = ("-subj", f"/CN={BEYOND}", "-addext", f"subjectAltName=DNS:{BEYOND}")
    subprocess.run(["openssl", "req", *KIND, *subject, "-keyout", key, "-out", signed], check=True, capture_output=True)
    filled(gate, small_model(tmp_path), "0")
    gate.write("/root/pair.pem", key.read_text() + signed.read_text())
    gate.run("systemd-run", "python3", "/root/front.py", "5002", "5001", "/root/none.json", "/root/pair.pem")
    gate.shell(f"echo 127.0.0.1 {BEYOND} >> /etc/hosts")
    gate.write("/etc/tinyproxy/tinyproxy.conf", PROXY)
    gate.shell("systemctl restart tinyproxy")
    cafile = host.run("python3", "-c", "import ssl; print(ssl.get_default_verify_paths().openssl_cafile)").strip()
    host.write(cafile, signed.read_text())

    def planned(port, login):
        url = f"http://{login}{gate.shell('hostname -I').split()[0]}:3128"
        given = host.service({"HTTP_PROXY": url, "https_proxy": url, "NO_PROXY": "127.0.0.0/8,.example.com"})
        assert given.return_code == 0, given.output
        name = f"{BEYOND}:{port}/team/model:v1"
        wanted = {"ollama_plan_wanted": [{"name": name, "context_length": 2048, "requests": 2}]}
        source = {"ollama_pull_models": [{"name": name, "insecure": port == 5001}]}
        run = host.playbook("plan", **{**SETTINGS, **wanted, **source})
        assert "hunter" not in run.output
        return run

    for port in (5001, 5002):
        shown = planned(port, "user:hunter2@")
        assert shown.return_code == 0, shown.output
        assert f"to pull: {BEYOND}:{port}/team/model:v1, 0 MiB" in shown.output
    refused = planned(5002, "user:hunter3@")
    assert refused.return_code != 0
    assert "wants a login but does not take that of the variable" in " ".join(refused.output.split())
