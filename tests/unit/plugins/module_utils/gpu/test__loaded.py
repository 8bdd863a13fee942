# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _loaded
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, GpuProcess
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._owner import Owner

GIB = 1 << 30


def gpu(index: int, used: int, *processes: GpuProcess, ours: int = 0, unified: bool = False) -> GpuDevice:
    return GpuDevice(
        index,
        f"GPU-{index}",
        "",
        "nvidia",
        "",
        memory_total_bytes=24 * GIB,
        memory_free_bytes=24 * GIB - used,
        memory_used_bytes=used,
        memory_ours_bytes=ours,
        unified_memory=unified,
        processes=processes,
    )


def unasked() -> int:
    raise AssertionError("Ollama was asked without need")


def test_memory_that_processes_explain_needs_no_question() -> None:
    devices = (gpu(0, 9 * GIB, GpuProcess(5, 8 * GIB + 1)), gpu(1, GIB), gpu(2, 9 * GIB, unified=True))
    assert _loaded.credit(devices, ["GPU-0", "GPU-1", "GPU-2"], unasked) == (devices, [])


def test_on_one_gpu_what_ollama_has_loaded_is_credited() -> None:
    (device,), notes = _loaded.credit([gpu(0, 9 * GIB)], ["GPU-0"], lambda: 8 * GIB)
    assert device.memory_ours_bytes == 8 * GIB
    assert "no process is known to hold" in notes[0]
    assert "8192 MiB count as Ollama's own" in notes[1]


def test_never_more_is_credited_than_is_in_use() -> None:
    (device,), _notes = _loaded.credit([gpu(0, 9 * GIB)], ["GPU-0"], lambda: 50 * GIB)
    assert device.memory_ours_bytes == 9 * GIB


def test_on_several_gpus_nothing_is_credited_because_nobody_says_where() -> None:
    devices = (gpu(0, 9 * GIB), gpu(1, 9 * GIB))
    found, notes = _loaded.credit(devices, ["GPU-0", "GPU-1"], lambda: 8 * GIB)
    assert found == devices
    assert "plan while nothing is loaded" in notes[-1]


@pytest.mark.parametrize(("device", "seen"), [(gpu(0, 9 * GIB), []), (gpu(0, 9 * GIB, ours=GIB), ["GPU-0"])])
def test_a_gpu_that_the_service_does_not_see_or_shows_itself_on_is_not_asked_about(
    device: GpuDevice, seen: list[str]
) -> None:
    found, notes = _loaded.credit([device], seen, unasked)
    assert found == (device,)
    assert len(notes) == 1


def test_an_idle_ollama_is_credited_nothing() -> None:
    (device,), notes = _loaded.credit([gpu(0, 9 * GIB)], ["GPU-0"], lambda: 0)
    assert device.memory_ours_bytes == 0
    assert len(notes) == 1


OWNER = Owner("ollama.service")


@pytest.fixture(autouse=True)
def _in_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """This test is a process of the unit."""
    monkeypatch.setattr(_loaded, "control_group", lambda pid: "/system.slice/ollama.service")


@pytest.fixture
def server() -> Iterator[Callable[[object], str]]:
    """Answers every request with a JSON value; returns what to set as OLLAMA_HOST."""
    servers = []

    def serve(reply: object) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(reply).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_port}"

    yield serve
    for one in servers:
        one.shutdown()
        one.server_close()


def test_the_memory_of_all_loaded_models_is_summed(server: Callable[[object], str]) -> None:
    told = [{"size_vram": 5 * GIB}, {"size_vram": GIB}, {"size_vram": "x"}, {"size_vram": -1}, {}]
    models = [{"name": "m", **one} for one in told]
    assert _loaded.loaded_bytes({"OLLAMA_HOST": server({"models": models})}, OWNER) == 6 * GIB


def test_a_server_that_does_not_answer_holds_nothing(server: Callable[[object], str]) -> None:
    assert _loaded.loaded_bytes({"OLLAMA_HOST": "127.0.0.1:1"}, OWNER) == 0
    assert _loaded.loaded_bytes({"OLLAMA_HOST": server(["not Ollama"])}, OWNER) == 0


def test_a_server_of_another_unit_is_not_believed(
    server: Callable[[object], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_loaded, "control_group", lambda pid: "/user.slice/user-1000.slice/session-1.scope")
    told = {"models": [{"name": "m", "size_vram": 5 * GIB}]}
    assert _loaded.loaded_bytes({"OLLAMA_HOST": server(told)}, OWNER) == 0
