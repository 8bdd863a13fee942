# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd, /proc, the journal and the driver tell of a runner, put together; each may be silent."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark import _surroundings
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._session import RunnerMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._surroundings import Surroundings
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._health import Load
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._process import Process

BLOB = "sha256-" + "a" * 64
RUNNER = (
    "/usr/local/lib/ollama/llama-server",
    "--model",
    f"/blobs/{BLOB}",
    "--port",
    "47",
    "-c",
    "8192",
    "-np",
    "2",
)
OURS = Process(7, RUNNER, 0)
LOG = [
    f'msg="starting llama-server" cmd="{" ".join(RUNNER)}"',
    "load_tensors: CUDA0 model buffer size = 10.00 MiB",
]


class FakeApi:
    def __init__(self, loaded=(), fails=False):
        self.entries, self.fails = list(loaded), fails

    def show(self, _name):
        if self.fails:
            raise ApiError("no answer")
        return {"modelfile": f"FROM /blobs/{BLOB}\n"}

    def loaded(self):
        if self.fails:
            raise ApiError("no answer")
        return self.entries


def gpu_process(pid, used_bytes):
    return SimpleNamespace(pid=pid, used_bytes=used_bytes)


@pytest.fixture
def host(monkeypatch):
    """`host(api, processes=..., held=[[(pid, bytes)] per GPU])`."""

    def make(api, processes=(OURS,), held=(), main_pid=5, connections=0):
        devices = [SimpleNamespace(processes=[gpu_process(*one) for one in gpu]) for gpu in held]
        state = SimpleNamespace(main_pid=main_pid, invocation_id="x")
        monkeypatch.setattr(_surroundings, "unit_state", lambda *_: state)
        monkeypatch.setattr(_surroundings, "unit_processes", lambda _pid: list(processes))
        monkeypatch.setattr(_surroundings, "journal_of_invocation", lambda *_a, **_k: LOG)
        monkeypatch.setattr(_surroundings, "gather", lambda _request: SimpleNamespace(devices=devices))
        monkeypatch.setattr(_surroundings, "activity", lambda *_: (Load(0, connections, 0), "url"))
        return Surroundings(None, "system", "ollama.service", api)

    return make


def test_all_three_sources_are_told(host):
    api = FakeApi([{"name": "other", "size_vram": 1}, {"name": "m", "size_vram": 99}])
    found = host(api, held=[[(7, 100), (8, 5)], [(7, 11)]]).memory("m")
    size = 10 << 20
    logged = {"weights_bytes": size, "kv_cache_bytes": 0, "compute_bytes": 0, "total_bytes": size}
    assert found == RunnerMemory(99, logged, 111, 2)


@pytest.mark.parametrize("held", [[], [[(8, 5)]], [[(7, None)]], [[(7, 100)], [(7, None)]]])
def test_a_driver_that_does_not_tell_all_of_a_runner_tells_nothing(host, held):
    assert host(FakeApi(), held=held).memory("m").measured_bytes is None


@pytest.mark.parametrize(
    ("processes", "main_pid"),
    [((), 5), ((Process(9, ("ollama", "serve"), 0),), 5), ((Process(7, RUNNER, 0),), 0)],
)
def test_without_a_runner_only_the_api_tells(host, processes, main_pid):
    api = FakeApi([{"name": "m", "size_vram": 99}])
    assert host(api, processes, main_pid=main_pid).memory("m") == RunnerMemory(99)


def test_a_server_that_does_not_answer_tells_nothing(host):
    assert host(FakeApi(fails=True)).memory("m") == RunnerMemory()


@pytest.mark.parametrize(
    ("connections", "said"),
    [(0, None), (1, "1 connection to the API"), (3, "3 connections to the API")],
)
def test_who_is_connected_is_somebody_else(host, connections, said):
    assert host(FakeApi(), connections=connections).others() == said
