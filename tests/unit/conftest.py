# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in as it is installed on test hosts: one file, started as a process of its own."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from ansible_collections.gpufleet.ollama.tests.standin_ollama.build import build
from ansible_collections.gpufleet.ollama.tests.unit.data import CAPTURES, TESTS

# The same examples at every run: a change is judged by what it changes. Other examples: --hypothesis-profile=default.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")
# For `make mutants`: what fails is not made small.
hypothesis.settings.register_profile(
    "mutants",
    derandomize=True,
    deadline=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)

MODEL = "gemma3-270m"
START_SECONDS = 20
REQUEST_SECONDS = 20


@dataclass(frozen=True)
class Reply:
    """One HTTP reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass
class Server:
    """A running stand-in."""

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path
    announcements: Path

    def ask(self, method: str, path: str, body: Any = None) -> Reply:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as reply:
                return Reply(reply.status, dict(reply.headers), reply.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, dict(error.headers), error.read())

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def runners(self) -> dict[int, list[str]]:
        """Command lines of the runners by pid, as /proc shows them."""
        lines = {}
        # By the parent of each process: a list of children belongs to the thread that started them, and is handed on
        # when that ends, which may be while one looks.
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == self.process.pid:
                    lines[int(process.name)] = (process / "cmdline").read_bytes().decode().split("\0")[:-1]
        return lines

    def held(self) -> dict[int, str]:
        return {
            int(path.name): path.read_text() for path in self.announcements.iterdir() if path.name.isdigit()
        }


@pytest.fixture(scope="session")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("standin") / "ollama"
    build(path)
    return path


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the recorded model, made from what the real server said of it, and with two others."""
    headers = tmp_path_factory.mktemp("headers")
    with gzip.open(CAPTURES / "base" / "show_verbose.json.gz") as file:
        shown = json.load(file)
    metadata = {key: value for key, value in shown["model_info"].items() if key != "general.parameter_count"}
    for name in ("tokens", "scores", "token_type"):
        metadata[f"tokenizer.ggml.{name}"] = {"array_length": len(metadata[f"tokenizer.ggml.{name}"])}
    tensors = [[tensor["name"], tensor["type"], tensor["shape"]] for tensor in shown["tensors"]]
    header = {"file_bytes": 253113024, "quantization": "Q4_K_M", "metadata": metadata, "tensors": tensors}
    (headers / f"{MODEL}.json").write_text(json.dumps(header))
    for name in ("llama3.1_8b", "nomic-embed-text"):
        (headers / f"{name}.json").symlink_to(TESTS / "data" / "headers" / f"{name}.json")
    folder = tmp_path_factory.mktemp("models")
    program = [sys.executable, str(TESTS / "model_store" / "store.py"), "--into", str(folder)]
    options = ["--headers", str(headers), "--alias", f"g-ctx8k={MODEL}"]
    options += ["--params", 'g-ctx8k={"num_ctx": 8192, "temperature": 0.1}']
    subprocess.run(
        [*program, *options, MODEL, "llama3.1:8b", "nomic-embed-text"], check=True, capture_output=True
    )
    return folder


class Start:
    """Starts stand-ins: ``start(gpus_gib=(24,), config={...}, OLLAMA_NUM_PARALLEL="3")``."""

    def __init__(self, executable: Path, store: Path, folder: Path) -> None:
        self._executable = executable
        self._store = store
        self._folder = folder
        self._running: list[Server] = []

    def __call__(
        self,
        *,
        gpus_gib: tuple[float, ...] = (),
        config: Mapping[str, Any] | None = None,
        wait: bool = True,
        **environment: str,
    ) -> Server:
        folder = self._folder / str(len(self._running))
        announcements = folder / "announcements"
        announcements.mkdir(parents=True)
        devices = [
            {"uuid": f"GPU-{i}", "memory": {"total_bytes": int(g * 2**30)}} for i, g in enumerate(gpus_gib)
        ]
        (folder / "nvml.json").write_text(json.dumps({"devices": devices}))
        (folder / "config.json").write_text(json.dumps({"load_seconds": 0, **(config or {})}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": "/usr/share/ollama",
            "OLLAMA_MODELS": str(self._store),
            "OLLAMA_HOST": f"127.0.0.1:{port}",
            "SIMULATED_NVML": str(folder / "nvml.json"),
            "SIMULATED_NVML_PROCESSES": str(announcements),
            "STANDIN_OLLAMA_CONFIG": str(folder / "config.json"),
            **environment,
        }
        log = folder / "log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [str(self._executable), "serve"], env=variables, stderr=file, stdout=file
            )
        server = Server(process, port, log, announcements)
        self._running.append(server)
        if wait:
            _wait(server)
        return server

    def stop(self) -> None:
        """End every server that was started."""
        for server in self._running:
            server.process.send_signal(signal.SIGTERM)
            try:
                server.process.wait(5)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()


@pytest.fixture
def start(executable: Path, store: Path, tmp_path: Path) -> Iterator[Start]:
    begin = Start(executable, store, tmp_path)
    yield begin
    begin.stop()


def _wait(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        # The last line of a start; the port is open before it.
        if 'msg="vram-based default context"' in server.log:
            return
        time.sleep(0.05)
    pytest.fail(f"the stand-in did not start: {server.log}")
