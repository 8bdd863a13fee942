# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts on which Ollama runs otherwise than by the unit that was named: one sentence each, with what to do."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _elsewhere
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._elsewhere import missing, refusal
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._precedence import UnitFile

SERVE = ("/usr/local/bin/ollama", "serve")


@pytest.fixture
def processes(monkeypatch):
    """Processes by pid: name, command line and control group."""
    table = {}
    monkeypatch.setattr(_elsewhere, "pids", lambda: sorted(table))
    monkeypatch.setattr(_elsewhere, "process_name", lambda pid: table[pid][0])
    monkeypatch.setattr(_elsewhere, "process_command", lambda pid: table[pid][1])
    monkeypatch.setattr(_elsewhere, "control_group", lambda pid: table[pid][2])
    monkeypatch.setattr(_elsewhere, "serving_pid", lambda pid: pid)
    return table


# Sources: control groups as systemd 252, docker, podman, snapd and Incus make them; ollama/ollama pull request 2432 (snap).
@pytest.mark.parametrize(
    ("name", "command", "group", "words"),
    [
        ("ollama", SERVE, "/system.slice/docker-7f.scope", "in a container (pid 7, /system.slice/docker-7f.scope)"),
        ("ollama", SERVE, "/docker/7f", "set its environment where the container is defined"),
        ("ollama", SERVE, "/machine.slice/libpod-7f.scope/container", "in a container"),
        ("ollama", SERVE, "/lxc.payload.gpu1/system.slice/ollama.service", "in a container"),
        ("ollama", SERVE, "/machine.slice/machine-gpu1.scope/payload/system.slice/ollama.service", "in a container"),
        ("ollama", SERVE, "/kubepods/besteffort/pod1/7f", "in a container"),
        (
            "ollama",
            ("/snap/ollama/105/bin/ollama", "serve"),
            "/system.slice/snap.ollama.listener.service",
            "as a snap (pid 7): a snap has settings of its own (snap get ollama)",
        ),
        ("ollama", SERVE, "/system.slice/snap.ollama.ollama-7f.scope", "a snap has settings of its own"),
        ("ollama", SERVE, "/system.slice/ollama-gpu.service", "as ollama-gpu.service (pid 7): name that in ollama_override_unit"),
        ("ollama", SERVE, "/system.slice/system-ollama.slice/ollama@0.service", "name that in ollama_override_unit"),
        (".ollama-wrapped", ("/nix/store/x/bin/.ollama-wrapped", "serve"), "/system.slice/llm.service", "as llm.service"),
        (
            "ollama",
            SERVE,
            "/user.slice/user-1000.slice/user@1000.service/app.slice/ollama.service",
            "as ollama.service of the user 1000 (pid 7): set ollama_override_scope",
        ),
        ("ollama", SERVE, "/user.slice/user-1000.slice/session-3.scope", "by no service (pid 7, /user.slice"),
        ("ollama", SERVE, "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope", "by no service"),
        ("ollama", SERVE, "/user.slice/user-1000.slice/user@1000.service/", "by no service"),
        ("ollama", ("ollama", "start"), "", "by no service (pid 7, started by hand)"),
        # A client, a runner, and a program that only has the word in its name.
        ("ollama", ("ollama", "run", "serve"), "/system.slice/x.service", "install Ollama with its systemd unit, or name"),
        ("ollama", ("ollama", "runner", "--port", "1"), "/system.slice/x.service", "install Ollama"),
        ("python3", SERVE, "/system.slice/x.service", "install Ollama"),
    ],
)
def test_where_ollama_runs_is_said_where_the_unit_is_missing(processes, name, command, group, words):
    processes[7] = (name, command, group)
    sentence = missing("ollama.service", "system")
    assert sentence.startswith("there is no ollama.service on this host")
    assert words in sentence


def test_a_service_of_the_system_is_named_to_a_user(processes):
    processes[7] = ("ollama", SERVE, "/system.slice/ollama.service")
    sentence = missing("ollama.service", "user")
    assert sentence.startswith("this user has no ollama.service, Ollama runs as ollama.service of the system (pid 7)")
    processes[7] = ("ollama", SERVE, "/user.slice/user-7.slice/user@7.service/app.slice/llm.service")
    assert "Ollama runs as llm.service (pid 7)" in missing("ollama.service", "user")


def test_a_process_that_has_ended_meanwhile_is_none(processes):
    processes[7] = ("ollama", (), "")
    assert "install Ollama with its systemd unit, or name" in missing("ollama.service", "system")


UNIT_TEXT = "[Service]\nExecStart={}\n"


# Sources of the commands: docs of podman-systemd.unit(5), docker run, and units in public repositories.
@pytest.mark.parametrize(
    ("start", "program"),
    [
        ("/usr/bin/docker run --rm --gpus=all --name ollama ollama/ollama", "docker"),
        ("/usr/bin/docker start -a ollama", "docker"),
        ("-/usr/bin/docker compose -f /opt/ollama/compose.yml up", "docker"),
        ("/usr/local/bin/docker-compose up -d", "docker-compose"),
        ("/usr/bin/podman run --cgroups=split --sdnotify=conmon -d docker.io/ollama/ollama", "podman"),
        ("/usr/bin/env HOME=/root nerdctl run ollama/ollama", "nerdctl"),
        ("/usr/bin/nice -n 5 /usr/bin/docker run ollama/ollama", "docker"),
        ("/bin/sh -c 'exec docker run --gpus all ollama/ollama'", "docker"),
        ("/bin/bash -c \"cd /opt/llm && docker compose up\"", "docker"),
        ("/opt/start-ollama.sh", "podman"),
        ("/usr/bin/systemd-nspawn -D /srv/ollama", "systemd-nspawn"),
        ("/usr/local/bin/ollama serve", ""),
        ("/bin/bash -c 'ulimit -l unlimited; exec /usr/local/bin/ollama serve'", ""),
        ("/opt/plain.sh", ""),
        ("", ""),
    ],
)
def test_a_unit_that_starts_a_container_is_not_managed(processes, start, program):
    files = (UnitFile("/etc/systemd/system/ollama.service", "fragment", UNIT_TEXT.format(start)),)
    texts = {
        "/opt/start-ollama.sh": "#!/bin/sh\n# ollama\npodman --log-level=warn run ollama/ollama\n",
        "/opt/plain.sh": "#!/bin/sh\n# was: docker run ollama/ollama\nexec ollama serve\n",
    }
    sentence = refusal("ollama.service", 0, files, texts)
    assert bool(sentence) is bool(program)
    assert not program or f"runs its program in a container ({program}): " in sentence


@pytest.mark.parametrize(
    ("name", "is_refused"),
    [("conmon", True), ("docker-compose", True), ("containerd-shim", True), ("ollama", False), ("bash", True)],
)
def test_a_running_unit_is_judged_by_its_main_process_first(processes, name, is_refused):
    processes[7] = (name, SERVE if name == "ollama" else (name,), "")
    script = "#!/bin/sh\ndocker start open-webui\nollama serve\n"
    files = (UnitFile("/x", "fragment", UNIT_TEXT.format("/opt/start.sh")),)
    sentence = refusal("ollama.service", 7, files, {"/opt/start.sh": script})
    assert bool(sentence) is is_refused


def test_a_script_that_starts_a_container_beside_the_server_runs_the_server(processes, monkeypatch):
    processes.update({7: ("bash", ("/bin/bash", "/opt/start.sh"), ""), 8: ("ollama", SERVE, "")})
    monkeypatch.setattr(_elsewhere, "serving_pid", lambda pid: 8)
    files = (UnitFile("/x", "fragment", UNIT_TEXT.format("/opt/start.sh")),)
    assert refusal("ollama.service", 7, files, {"/opt/start.sh": "#!/bin/sh\ndocker start ui\nollama serve\n"}) == ""


def test_a_quadlet_names_the_file_that_defines_it(processes):
    made = "[Unit]\nSourcePath=/etc/containers/systemd/ollama.container\n[Service]\nExecStart=/usr/bin/podman run x\n"
    files = (UnitFile("/run/systemd/generator/ollama.service", "fragment", made),)
    assert refusal("ollama.service", 0, files, {}).endswith(
        "set its environment in /etc/containers/systemd/ollama.container"
    )


@pytest.mark.parametrize(
    ("unit", "is_refused"),
    [
        ("snap.ollama.listener.service", True),
        ("snap.ollama_gpu.listener.service", True),
        ("snapshot.service", False),
        ("ollama.snap.service", False),
    ],
)
def test_a_snaps_own_service_is_not_managed(processes, unit, is_refused):
    assert ("set them there, or install Ollama" in refusal(unit, 0, (), {})) is is_refused
