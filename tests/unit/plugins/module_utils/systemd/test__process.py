# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc tells, from a /proc made for the test and from this machine's own."""

from __future__ import annotations

import os
import socket

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _process
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import parse_socket_table


@pytest.fixture
def proc(tmp_path):
    """Makes processes: pid, control group, and what else is to be said."""

    def make(pid, group, name="x", command=("x",), environ=b"", ticks=(1, 2), lines=None):
        folder = tmp_path / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text(f"{name}\n")
        (folder / "cgroup").write_text(lines or f"0::{group}\n")
        (folder / "cmdline").write_bytes(b"".join(part.encode() + b"\0" for part in command))
        (folder / "environ").write_bytes(environ)
        fields = " ".join(["S", *["7"] * 10, str(ticks[0]), str(ticks[1]), "9"])
        (folder / "stat").write_text(f"{pid} (a ) b) {fields}\n")
        return folder

    make.path = str(tmp_path)
    make(1, "/init.scope", "systemd")
    return make


def test_a_process_environment_and_name(proc):
    proc(7, "/system.slice/o.service", name="ollama", environ=b"A=1\0B=x y\0")
    assert _process.process_environment(7, proc.path) == {"A": "1", "B": "x y"}
    assert _process.process_name(7, proc.path) == "ollama"
    assert _process.process_name(8, proc.path) == ""
    with pytest.raises(OSError, match="8"):
        _process.process_environment(8, proc.path)


@pytest.mark.parametrize(
    ("group", "unit"),
    [
        ("/system.slice/ollama.service", "ollama.service"),
        ("/system.slice/system-ollama.slice/ollama@gpu0.service", "ollama@gpu0.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/ollama.service", "ollama.service"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        ("/system.slice/o:1.service", "o:1.service"),
        ("/", None),
    ],
)
def test_the_unit_of_a_process(proc, group, unit):
    proc(7, group)
    assert _process.unit_of(7, proc.path) == unit


@pytest.mark.parametrize(
    "lines",
    [
        "1:name=systemd:/system.slice/o.service\n4:memory:/other\n0::/\n",
        "4:memory:/other\n5:pids:/other\n1:name=systemd:/system.slice/o.service\n0::/\n",
        "4:memory:/other\n0::/system.slice/o.service\n5:pids:/other\n",
    ],
)
def test_the_hybrid_tree_is_read_where_systemd_is(proc, lines):
    proc(7, "", lines=lines)
    assert _process.unit_of(7, proc.path) == "o.service"


@pytest.mark.parametrize(
    ("group", "contained"),
    [
        ("/system.slice/docker-0123abc.scope", True),
        ("/docker/0123abc", True),
        ("/machine.slice/libpod-0123abc.scope/container", True),
        ("/kubepods.slice/kubepods-burstable.slice/cri-containerd-0123.scope", True),
        ("/kubepods/besteffort/pod12/0123", True),
        ("/system.slice/ollama.service", False),
        ("/system.slice/docker.service", False),
    ],
)
def test_a_process_in_a_container_is_known_by_its_control_group(proc, group, contained):
    proc(7, group)
    assert _process.container_in(_process.control_group(7, proc.path)) is contained


def test_a_container_that_boots_systemd_is_a_host(proc):
    (proc(9, "/x").parent / "1" / "cgroup").write_text("0::/libpod_parent/libpod-abc/init.scope\n")
    proc(7, "/libpod_parent/libpod-abc/system.slice/ollama.service")
    assert not _process.container_in(_process.control_group(7, proc.path))
    assert _process.control_group(7, proc.path) == "/system.slice/ollama.service"


SERVE = ("/usr/local/bin/ollama", "serve")


@pytest.mark.parametrize(
    ("command", "serves"),
    [
        (SERVE, True),
        (("ollama", "start"), True),
        (("/opt/ollama-0.33/bin/ollama", "serve"), True),
        (("/nix/store/x/bin/.ollama-wrapped", "serve"), True),
        (("/usr/bin/python3", "/usr/local/bin/ollama", "serve"), True),
        (("ollama", "runner", "serve"), False),
        (("ollama",), False),
        (("/bin/sh", "-c", "ollama serve"), False),
        (("server", "serve"), False),
        ((), False),
    ],
)
def test_a_server_is_known_by_its_command_line(command, serves):
    assert _process.is_server(command) is serves


@pytest.mark.parametrize(
    ("main", "others", "serving"),
    [
        (SERVE, [("ollama", "runner")], 7),
        (("/bin/bash", "/opt/start.sh"), [SERVE], 8),
        (("/bin/bash", "/opt/start.sh"), [("tee", "log"), SERVE], 9),
        (("/bin/bash", "/opt/start.sh"), [("sleep", "1")], 7),
        (SERVE, [SERVE], 7),
    ],
)
def test_the_server_is_the_main_process_or_one_that_a_script_waits_for(proc, main, others, serving):
    for pid, command in enumerate((main, *others), start=7):
        proc(pid, "/system.slice/o.service", command=command, environ=b"PID=%d\0" % pid)
    proc(20, "/system.slice/another.service", command=SERVE)
    assert _process.serving_pid(7, proc.path) == serving
    assert _process.server_environment(7, proc.path) == {"PID": str(serving)}


def test_a_process_that_is_gone_has_no_command_line(proc):
    assert _process.process_command(8, proc.path) == ()
    assert _process.serving_pid(8, proc.path) == 8


def test_the_processes_of_a_unit_are_those_of_its_control_group(proc):
    proc(7, "/system.slice/o.service", command=("ollama", "serve"), ticks=(10, 20))
    proc(8, "/system.slice/o.service", command=("llama-server", "-c", "8192", "-np", "2"))
    proc(9, "/system.slice/o.service/sub", command=("child",))
    proc(10, "/system.slice/o.services", command=("other",))
    found = _process.unit_processes(7, proc.path)
    assert [process.pid for process in found] == [7, 8, 9]
    assert found[0].cpu_ticks == 30
    assert found[1].to_dict() == {"pid": 8, "command": ["llama-server", "-c", "8192", "-np", "2"]}


def test_a_process_that_has_used_no_time_of_a_kind_has_used_the_others(proc):
    proc(7, "/system.slice/o.service", ticks=(0, 20))
    assert [process.cpu_ticks for process in _process.unit_processes(7, proc.path)] == [20]


def test_command_lines_are_read_up_to_a_bound_each_and_in_all_and_the_main_process_first(proc):
    word = "x" * 1024
    for pid in range(3, 100):
        proc(pid, "/system.slice/o.service", command=["llama-server", *[word] * 128])
    proc(100, "/system.slice/o.service", command=("ollama", "serve"))
    found = {process.pid: process.command for process in _process.unit_processes(100, proc.path)}
    assert list(found) == list(range(3, 101))
    assert found[100] == ("ollama", "serve")
    sizes = [len("\0".join(command)) for command in found.values()]
    assert sizes[0] == _process.COMMAND_LIMIT_BYTES == 64 << 10
    assert sizes[-2] == 0
    assert sum(sizes) <= _process.COMMANDS_LIMIT_BYTES == 4 << 20


def test_of_a_file_in_proc_16_mib_are_read_and_64_kib_of_a_control_group(proc):
    assert (_process.READ_LIMIT_BYTES, _process.CGROUP_LIMIT_BYTES) == (16 << 20, 64 << 10)
    proc(7, "", lines="0::/system.slice/" + "x" * (64 << 10) + "/o.service\n")
    assert _process.unit_of(7, proc.path) != "o.service"


def test_a_process_that_ends_meanwhile_is_left_out(proc):
    proc(7, "/system.slice/o.service")
    (proc(8, "/system.slice/o.service") / "cmdline").unlink()
    assert [process.pid for process in _process.unit_processes(7, proc.path)] == [7]


@pytest.mark.parametrize("group", ["/", ""])
def test_a_main_process_outside_of_a_unit_has_no_processes(proc, group):
    proc(7, group, lines=f"0::{group}\n")
    assert _process.unit_processes(7, proc.path) == []


def test_this_machines_own_sockets_with_their_holder():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            found = [s for s in _process.tcp_sockets([os.getpid()]) if port in (s.port, s.peer_port)]
            listening = [s for s in found if s.listening]
            assert [(s.address, s.port, s.pid) for s in listening] == [("127.0.0.1", port, os.getpid())]
            client_side = [s for s in found if s.port == client.getsockname()[1]]
            assert [(s.peer, s.peer_port, s.pid) for s in client_side] == [("127.0.0.1", port, os.getpid())]
    assert _process.tcp_sockets([0]) is not None


def test_a_socket_table():
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000  999        0 123 1 0\n"
        "   1: 00000000000000000000000000000000:2CAB 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 124 1\n"
        "   2: 0000000000000000FFFF00000100007F:2CAA 0000000000000000FFFF00000200007F:1F90 01 0:0 0:0 0 0 0 125 1\n"
        "   3: 0100007F:2CAA 0100007F:9999 06 0:0 0:0 0 0 0 0 1\n"
        "broken\n"
        "   4: 0100007F:x 00000000:0000 0A 0:0 0:0 0 0 0 126 1\n"
        "   5: 01007F:2CAA 00000000:0000 0A 0:0 0:0 0 0 0 126 1\n"
        "   6: 0100007F:2CAA 00000000:0000 0A 0:0 0:0 0 0 0 x 1\n"
        "   7: 0100007F:2CAC 00000000:0000 0A 0:0 0:0 0 0 0 127\n"
        "   8: 0100007F:2CAD 00000000:0000 0A 0:0 0:0 0 0 128\n"
    )
    assert [(s.address, s.port, s.listening, s.peer, s.inode) for s in parse_socket_table(table)] == [
        ("127.0.0.1", 11434, True, "0.0.0.0", 123),
        ("::", 11435, True, "::", 124),
        ("127.0.0.1", 11434, False, "127.0.0.2", 125),
        ("127.0.0.1", 11436, True, "0.0.0.0", 127),
    ]
    assert parse_socket_table(table)[0].to_dict()["port"] == 11434


def test_sockets_are_found_where_a_table_is_missing_and_descriptors_are_none(proc, monkeypatch):
    fds = proc(7, "/system.slice/o.service") / "fd"
    for number in (0, 2):
        (fds / str(number)).write_text("")
    (fds / "1").symlink_to("/dev/null")
    (fds / "3").symlink_to("socket:[123]")
    net = fds.parent.parent / "net"
    net.mkdir()
    lines = [f"   {number}: 0100007F:2CA{number} 00000000:0000 0A 0:0 0:0 0 0 0 12{number}" for number in (3, 4)]
    (net / "tcp6").write_text("\n".join([*lines, ""]))
    listed = os.listdir
    monkeypatch.setattr(_process.os, "listdir", lambda path: sorted(listed(path)))
    assert [(one.port, one.pid) for one in _process.tcp_sockets([7, 8], proc.path)] == [(0x2CA3, 7), (0x2CA4, None)]
    assert _process.pids(proc.path) == [1, 7]
