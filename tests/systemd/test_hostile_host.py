# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose root is hostile runs nothing on the control node, and chooses nothing there."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import SPECS

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
PROFILE = HERE.parent / "simulated_nvml" / "profiles" / "rtx3060_12gb.json"
PYTHON = "/usr/local/bin/hostile-python"
QUICK = {
    "ollama_benchmark_parallels": [1],
    "ollama_benchmark_requests_per_client": 1,
    "ollama_benchmark_rounds": 1,
    "ollama_benchmark_output_lengths": [4],
    "ollama_benchmark_prompt_lengths": [16],
}
# The texts that a host can choose, and on which no run depends.
FREE_TEXTS = (
    *("name", "driver_version", "uuid", "digest", "family", "message", "reason", "error", "errors", "command"),
    *("problems", "failures", "notes", "msg", "load_error", "path", "models_path", "stdout", "stderr"),
)


@dataclass(frozen=True)
class Hostile:
    """A host that says what it likes, and the folder in which what it starts or has written leaves something."""

    host: Any
    traces: Path

    @property
    def template(self) -> str:
        return "{{ lookup('ansible.builtin.pipe', 'touch " + str(self.traces / "ran") + "') }}"

    def lie(self, *planted: str) -> None:
        """Answer with a template behind the texts under these names, and with every variable of ours as a fact."""
        names = {name for specs in SPECS.values() for options in specs.values() for name in options}
        paths = {name: str(self.traces / name) for name in names if name.endswith(("_dir", "_path", "_tasks"))}
        others = {
            "gpufleet_report_dir": str(self.traces / "report"),
            "ollama_benchmark_inventory": "host_vars",
            "ollama_benchmark_hosts": [self.host.name],
            "ollama_plan": {"environment": {"A": self.template}},
            "__ollama_benchmark_inventory": "host_vars",
        }
        facts = {**dict.fromkeys(sorted(names), self.template), **paths, **others}
        evil = {"host_name": "evil", "groups": ["ollama"], "host_vars": {"ansible_connection": "local"}}
        lies = {"facts": facts, "keys": {"add_host": evil}, "text": self.template, "planted": planted}
        self.host.write("/etc/hostile.json", json.dumps(lies))

    def playbook(self, name: str, **variables: Any) -> Any:
        return self.host.playbook(name, ansible_python_interpreter=PYTHON, **variables)

    def written_into_the_inventory(self) -> list[Path]:
        return list(self.host.fleet.folder.rglob("ollama_benchmark*"))


@pytest.fixture
def hostile(make_host, tmp_path):
    host = make_host(gpus="rtx3060_12gb", models={"llama3.2:3b": None}, variables=QUICK)
    host.write(PYTHON, "#!/usr/bin/python3\n" + (HERE / "hostile_python.py").read_text())
    host.shell(f"chmod 0755 {PYTHON}")
    traces = tmp_path / "traces"
    traces.mkdir()
    return Hostile(host, traces)


@pytest.mark.essential
def test_a_host_that_says_what_it_likes_runs_and_chooses_nothing_on_the_control_node(hostile):
    hostile.lie()
    assert hostile.playbook("site").return_code == 0
    assert hostile.host.report()["host"]["state"] == "in sync"
    hostile.lie(*FREE_TEXTS)
    for name in ("plan", "drift", "site", "benchmark", "rollback", "plan", "drift", "site", "benchmark"):
        run = hostile.playbook(name)
        assert "evil" not in run.output.replace("'evil'", ""), run.output
        assert list(hostile.traces.iterdir()) == [], run.output
        assert hostile.written_into_the_inventory() == [], run.output
    # What was planted is shown as it stands.
    assert "lookup('ansible.builtin.pipe'" in run.output


def test_what_a_benchmark_writes_into_the_inventory_is_data(make_host):
    ran = Path("/tmp", uuid.uuid4().hex)  # NVML has 96 bytes for a name
    gpu = json.loads(PROFILE.read_text())
    gpu["devices"][0]["name"] = "GPU {{ lookup('pipe', 'touch " + str(ran) + "') }}"
    host = make_host(gpus=gpu, models={"llama3.2:3b": None}, variables=QUICK)
    run = host.playbook("benchmark", ollama_benchmark_inventory="host_vars")
    assert run.return_code == 0, run.output
    written = host.fleet.folder / "host_vars" / host.name / "ollama_benchmark.yml"
    assert gpu["devices"][0]["name"] in written.read_text()
    for name in ("plan", "drift", "site", "benchmark", "plan"):
        run = host.playbook(name)
        assert run.return_code == 0, run.output
        assert not ran.exists(), run.output
    # It is read: nothing else tells that one request at once is all that was measured.
    host.shell("rm /var/lib/gpufleet/ollama.service/benchmark.json")
    assert host.playbook("plan").return_code == 0
    assert host.report()["host"]["environment"]["OLLAMA_NUM_PARALLEL"] == "1"
    written.unlink()
    assert host.playbook("plan").return_code == 0
    assert host.report()["host"]["environment"]["OLLAMA_NUM_PARALLEL"] == "4"


FOREIGN = """
import http.server, json
ANSWERS = {
    "/api/version": {"version": "0.11.0"},
    "/api/tags": {"models": []},
    "/api/ps": {"models": [{"name": "llama3.2:3b", "size": 1, "size_vram": 1, "context_length": 123456}]},
}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(ANSWERS.get(self.path, {})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", 11434), Handler).serve_forever()
"""


def test_what_a_foreign_process_answers_on_the_port_is_in_no_plan(make_host):
    host = make_host(gpus="rtx3060_12gb", models={"llama3.2:3b": None})
    host.shell("systemctl stop ollama")
    host.write("/srv/foreign.py", FOREIGN)
    host.shell("systemd-run --quiet --uid=nobody --unit=foreign /usr/bin/python3 /srv/foreign.py")
    host.run("bash", "-c", "until (exec 3<>/dev/tcp/127.0.0.1/11434) 2>/dev/null; do sleep 0.1; done")
    run = host.playbook("plan")
    assert run.return_code == 0, run.output
    assert "unit foreign.service), not ollama.service: it is not asked" in " ".join(run.output.split())
    assert "0.11.0" not in run.output
    assert "123456" not in run.output


@pytest.mark.essential
@pytest.mark.parametrize("playbook", ["plan", "drift", "site", "rollback", "benchmark"])
def test_what_is_written_before_a_host_is_reached_is_text(tmp_path, playbook):
    ran = tmp_path / "ran"
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho \"Welcome {{{{ lookup('pipe', 'touch {ran}') }}}}\" >&2\nexit 255\n")
    ssh.chmod(0o755)
    inventory = tmp_path / "inventory.yml"
    hosts = {"evil": {"ansible_host": "127.0.0.1", "ansible_connection": "ssh", "ansible_ssh_executable": str(ssh)}}
    inventory.write_text(json.dumps({"ollama": {"hosts": hosts}}))
    ansible = Path(sys.executable).parent / "ansible-playbook"
    command = [str(ansible), "-i", str(inventory), str(CHECKOUT / "playbooks" / f"{playbook}.yml")]
    done = subprocess.run(
        [*command, "-e", f"gpufleet_report_dir={tmp_path / 'report'}"],
        cwd=CHECKOUT, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert "Welcome {{ lookup(" in done.stdout, done.stdout
    assert not ran.exists()
