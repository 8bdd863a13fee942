# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a service: its port, who holds it, what the API answers."""

from __future__ import annotations

import os
import socket
import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _service
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _process
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Completed, parse_unit_state

UNIT = "ollama.service"


def shows(**properties):
    text = "".join(
        f"{name}={value}\n"
        for name, value in {"ActiveState": "active", "SubState": "running", **properties}.items()
    )
    return lambda command: Completed(0, text, "")


@pytest.fixture
def main_process(monkeypatch):
    """Makes this test the unit's main process, with an environment and a control group of its own."""

    def be(environment, processes=None):
        own = _process.Process(os.getpid(), ("ollama", "serve"), 0)
        monkeypatch.setattr(_service, "server_environment", lambda pid: environment)
        monkeypatch.setattr(_service, "unit_processes", lambda pid: [own] if processes is None else processes)
        return os.getpid()

    return be


def test_the_address_is_that_of_the_running_process_not_of_the_files(main_process):
    pid = main_process({"OLLAMA_HOST": "0.0.0.0:1234"})
    state = parse_unit_state(UNIT, {"Environment": "OLLAMA_HOST=1.2.3.4", "MainPID": str(pid)})
    assert _service.server_url(state) == "http://127.0.0.1:1234"
    assert (
        _service.server_url(parse_unit_state(UNIT, {"Environment": "OLLAMA_HOST=1.2.3.4"}))
        == "http://1.2.3.4:11434"
    )


def test_a_process_that_is_gone_leaves_systemds_word(monkeypatch):
    def gone(pid):
        raise OSError(f"no process {pid}")

    monkeypatch.setattr(_service, "server_environment", gone)
    state = parse_unit_state(UNIT, {"Environment": "OLLAMA_HOST=1.2.3.4", "MainPID": "7"})
    assert _service.server_url(state) == "http://1.2.3.4:11434"


def test_a_service_that_answers_with_its_own_process(ollama, main_process):
    pid = main_process({"OLLAMA_HOST": ollama.url})
    sight = _service.look(shows(MainPID=pid), "system", UNIT)
    assert sight.url == ollama.url
    assert (sight.holder.pid, sight.holder_is_ours, sight.error) == (pid, True, None)
    assert sight.answer == "0.33.0-rc2"
    assert sight.answers


def test_a_process_of_somebody_else_at_the_address(ollama, main_process):
    pid = main_process({"OLLAMA_HOST": ollama.url}, processes=[])
    sight = _service.look(shows(MainPID=pid), "system", UNIT)
    assert sight.answer is not None
    assert not sight.holder_is_ours
    assert not sight.answers


def test_a_server_that_answers_an_error(ollama, main_process):
    ollama.replies["/api/version"] = (500, b'{"error":"broken"}')
    pid = main_process({"OLLAMA_HOST": ollama.url})
    sight = _service.look(shows(MainPID=pid), "system", UNIT)
    assert sight.answer is None
    assert sight.error.endswith("answers 500: broken")


def test_nobody_at_the_address():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    sight = _service.look(shows(MainPID=0, Environment=f"OLLAMA_HOST=127.0.0.1:{port}"), "system", UNIT)
    assert (sight.holder, sight.answer, sight.main_pid) == (None, None, 0)


def test_an_ollama_host_that_is_no_address_is_an_error_to_report():
    sight = _service.look(shows(MainPID=0, Environment="OLLAMA_HOST=foo:bar:80"), "system", UNIT)
    assert (sight.holder, sight.answer) == (None, None)
    assert "foo:bar:80" in sight.error


def test_connections_and_runners_are_the_activity(ollama, main_process):
    runner = _process.Process(os.getpid() + 1, ("llama-server",), 200)
    own = _process.Process(os.getpid(), ("ollama", "serve"), 10**9)
    pid = main_process({"OLLAMA_HOST": ollama.url}, [own, runner])
    quiet, url = _service.activity(shows(MainPID=pid), "system", UNIT)
    assert (quiet.connections, quiet.runner_cpu_s, url) == (0, 200 / os.sysconf("SC_CLK_TCK"), ollama.url)
    port = int(ollama.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)):
        found, deadline = 0, time.monotonic() + 10
        while not found and time.monotonic() < deadline:  # the server accepts in a thread of its own
            found = _service.activity(shows(MainPID=pid), "system", UNIT)[0].connections
    assert found == 1
    assert _service.activity(shows(MainPID=0), "system", UNIT)[0].connections == 0


def test_loaded_models(ollama, main_process):
    pid = main_process({"OLLAMA_HOST": ollama.url})
    assert _service.loaded_models(shows(MainPID=pid), "system", UNIT) == ["gemma3-270m:latest"]
    pid = main_process({"OLLAMA_HOST": "127.0.0.1:1"})
    assert _service.loaded_models(shows(MainPID=pid), "system", UNIT) == []


def test_a_process_of_somebody_else_is_not_asked(ollama, main_process):
    pid = main_process({"OLLAMA_HOST": ollama.url}, processes=[])
    api = _service.server_api(UNIT, pid, ollama.url, 5.0)
    with pytest.raises(ApiError, match=f"not {UNIT}: it is not asked"):
        api.version()
    assert ollama.asked == []
    assert _service.loaded_models(shows(MainPID=pid), "system", UNIT) == []


def test_where_nobody_can_be_seen_at_the_port_the_server_is_asked(main_process):
    for main_pid in (0, main_process({})):
        assert _service.server_api(UNIT, main_pid, "http://127.0.0.1:1", 5.0).refused == ""


def test_a_run_that_has_not_written_yet_leaves_the_word_to_those_since_the_wait_began(monkeypatch):
    """What was written before is of an older start, and not the reason for which this one failed."""
    told = {0.0: ["of an hour ago"], 100.0: [UNIT, "it died", ""], 200.0: []}

    def messages(scope, unit, since_s, lines):
        return told[since_s]

    monkeypatch.setattr(_service, "journal_of_invocation", lambda invocation, from_end, lines: [""])
    monkeypatch.setattr(_service, "last_messages_of_unit", messages)
    assert _service.last_words(shows(), "system", UNIT, 100.0) == [UNIT, "it died"]
    assert _service.last_words(shows(), "system", UNIT, 200.0) == []


def test_the_last_words_of_a_panic_begin_with_its_cause(monkeypatch):
    said = ["before", "panic: no", *(f"goroutine {number}" for number in range(90))]
    monkeypatch.setattr(_service, "journal_of_invocation", lambda invocation, from_end, lines: said[-lines:])
    words = _service.last_words(shows(), "system", UNIT, 5.0)
    assert (words[0], len(words)) == ("panic: no", 20)


def test_the_last_words_show_no_credentials(monkeypatch):
    said = ["", "proxy http://user:hunter2@proxy", "bye"]
    monkeypatch.setattr(_service, "journal_of_invocation", lambda invocation, from_end, lines: said)
    assert _service.last_words(shows(), "system", UNIT, 5.0) == ["proxy http://********@proxy", "bye"]


@pytest.mark.parametrize(
    ("url", "sockets", "holder"),
    [
        ("http://127.0.0.1:1", [("127.0.0.1", 7), ("::1", 8)], 7),
        ("http://127.0.0.1:1", [("0.0.0.0", 7), ("192.168.1.5", 8)], 7),
        ("http://[::1]:1", [("127.0.0.1", 7), ("::", 8)], 8),
        ("http://192.168.1.5:1", [("127.0.0.1", 8)], None),
        # A name may stand for either address: the one that is not the service's counts.
        ("http://localhost:1", [("127.0.0.1", 7), ("::1", 8)], 8),
        ("http://localhost:1", [("127.0.0.1", 7)], 7),
        ("http://localhost:1", [], None),
    ],
)
def test_who_may_answer_at_an_address_is_told_and_of_several_a_foreign_one(monkeypatch, url, sockets, holder):
    def tcp_sockets(owners):
        known = set(owners)
        return [
            _process.Socket(address, 1, True, "", 0, number, pid if pid in known else None)
            for number, (address, pid) in enumerate(sockets)
        ]

    monkeypatch.setattr(_service, "tcp_sockets", tcp_sockets)
    monkeypatch.setattr(_service, "pids", lambda: [7, 8])
    found = _service.holder_of(url, [7])
    assert (found and found.pid) == holder
