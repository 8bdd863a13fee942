# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as a playbook uses it: one run tells all that planning needs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._shape import ModelShape
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError
from ansible_collections.gpufleet.ollama.plugins.modules import ollama_model_info
from ansible_collections.gpufleet.ollama.tests.standin_ollama.build import build
from published import published
from store import HEADERS, add_model, load_header

NO_SERVER = "http://127.0.0.1:1"
START_SECONDS = 20
LLAMA = load_header("llama3.2:1b", tokens=1100)
# The tower of llava, in a file of its own.
CLIP = {
    "general.architecture": "clip",
    "clip.has_vision_encoder": True,
    "clip.projector_type": "mlp",
    "clip.vision.image_size": 336,
    "clip.vision.patch_size": 14,
    "clip.vision.embedding_length": 1024,
    "clip.vision.feed_forward_length": 4096,
    "clip.vision.attention.head_count": 16,
    "clip.vision.image_mean": [0.48, 0.45, 0.4],
}


@pytest.fixture(scope="module")
def models_path(tmp_path_factory):
    """A store with every model whose header is known, as Ollama publishes it, and with variants."""
    path = tmp_path_factory.mktemp("models")
    for header_path in sorted(HEADERS.glob("*.json")):
        name = header_path.stem.replace("_", ":", 1)
        add_model(path, name, published(load_header(name, tokens=1100)))
    add_model(path, "chat:8k", LLAMA, params={"num_ctx": 8192, "num_batch": 256, "temperature": 0.1})
    add_model(path, "seeing", LLAMA, projector={"metadata": CLIP, "tensors": [["v.w", "F16", [64, 64]]]})
    adapter = {"metadata": {"general.architecture": "llama"}, "tensors": [["blk.0.a", "F16", [64, 64]]]}
    add_model(path, "tuned", LLAMA, adapter=adapter)
    return path


@pytest.fixture(scope="module")
def server(models_path, tmp_path_factory):
    """The URL of a stand-in for Ollama that serves the store."""
    folder = tmp_path_factory.mktemp("standin")
    build(folder / "ollama")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {"PATH": os.environ["PATH"], "OLLAMA_MODELS": str(models_path), "OLLAMA_HOST": address}
    command = [sys.executable, str(folder / "ollama"), "serve"]
    with (folder / "log").open("wb") as log, subprocess.Popen(
        command, env=environment, stderr=log
    ) as process:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                Api(f"http://{address}").version()
                break
            except ApiError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "the stand-in does not answer"
                time.sleep(0.05)
        yield f"http://{address}"
        process.terminate()


class TestSources:
    def test_disk_and_api_tell_the_same_of_every_model(self, run_module, models_path, server):
        options = {"models_path": str(models_path), "api_url": server, "on_malformed": "report"}
        disk = run_module(ollama_model_info, source="disk", **options)
        api = run_module(ollama_model_info, source="api", **options)
        assert disk["problems"] == api["problems"] == []
        assert len(disk["models"]) == len(list(HEADERS.glob("*.json"))) + 3
        by_name = {model["name"]: model for model in api["models"]}
        for model in disk["models"]:
            assert by_name[model["name"]] == model

    def test_one_run_tells_models_version_and_loaded_models(self, run_module, models_path, server):
        Api(server).load("chat:8k", options={"num_ctx": 4096})
        result = run_module(
            ollama_model_info, models_path=str(models_path), api_url=server, names=["chat:8k"]
        )
        assert result["changed"] is False
        assert result["source"] == "disk"
        assert result["version"] == Api(server).version()
        assert [(model["name"], model["context_length"]) for model in result["loaded"]] == [("chat:8k", 4096)]
        assert [source["ok"] for source in result["sources"]] == [True, True]

    def test_the_models_are_what_the_plan_takes(self, run_module, models_path):
        result = run_module(ollama_model_info, models_path=str(models_path), api_url=NO_SERVER)
        shapes = {model["name"]: ModelShape.from_dict(model) for model in result["models"]}
        assert shapes["chat:8k"].num_ctx == 8192
        assert shapes["chat:8k"].parameters == {"num_batch": 256}
        assert shapes["seeing:latest"].projector_bytes > 64 * 64 * 2
        assert shapes["tuned:latest"].adapter_bytes > 64 * 64 * 2
        assert (shapes["seeing:latest"].tower.kind, shapes["seeing:latest"].tower.patches_most) == ("mlp", 576)
        assert (shapes["gemma3:4b"].tower.kind, shapes["gemma3:4b"].tower.patches_most) == ("gemma3", 4096)
        assert shapes["gemma3:4b"].inline_projector_bytes > 800_000_000
        assert shapes["gpt-oss:20b"].architecture == "gpt-oss"

    def test_without_any_source_the_task_fails_in_one_sentence_each(self, run_module, tmp_path):
        result = run_module(ollama_model_info, models_path=str(tmp_path / "absent"), api_url=NO_SERVER)
        assert result["failed"]
        assert "absent is no model store" in result["msg"]
        assert f"GET {NO_SERVER}/api/tags failed: Connection refused" in result["msg"]


class TestService:
    @pytest.fixture
    def systemctl(self, tmp_path, monkeypatch):
        """A systemctl that prints properties, and an ollama that names its version."""

        def install(**properties):
            commands = {"systemctl": "\n".join(f"{name}={value}" for name, value in properties.items())}
            commands["ollama"] = "ollama version is 0.12.6"
            for name, text in commands.items():
                program = tmp_path / "bin" / name
                program.parent.mkdir(exist_ok=True)
                program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
                program.chmod(0o755)
            monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
            return tmp_path / "bin" / "ollama"

        return install

    def test_the_unit_leads_to_store_server_and_version(self, run_module, systemctl, tmp_path):
        program = systemctl(LoadState="loaded", MainPID="0")
        add_model(tmp_path / "models", "llama3.2:1b", LLAMA)
        systemctl(
            LoadState="loaded",
            MainPID="0",
            Environment=f"OLLAMA_MODELS={tmp_path}/models OLLAMA_HOST=127.0.0.1:1",
            ExecStart=f"{{ path={program} ; argv[]={program} serve ; ignore_errors=no }}",
        )
        result = run_module(ollama_model_info)
        assert [model["name"] for model in result["models"]] == ["llama3.2:1b"]
        assert result["models_path"] == f"{tmp_path}/models"
        assert result["api_url"] == NO_SERVER
        assert result["version"] == "0.12.6"
        assert result["loaded"] is None

    def test_a_host_without_the_unit_is_told(self, run_module, systemctl, monkeypatch, tmp_path):
        systemctl(LoadState="not-found")
        monkeypatch.setattr(
            "ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._location.INSTALLER_HOME",
            str(tmp_path),
        )
        add_model(tmp_path / ".ollama" / "models", "llama3.2:1b", LLAMA)
        result = run_module(ollama_model_info, unit="absent.service", api_url=NO_SERVER)
        assert result["problems"] == [
            f"systemd knows no absent.service: {tmp_path}/.ollama/models is where the installer puts models"
        ]

    def test_a_host_without_systemd_needs_a_path(self, run_module, monkeypatch, models_path):
        monkeypatch.setenv("PATH", "/nowhere")
        result = run_module(
            ollama_model_info, models_path=str(models_path), api_url=NO_SERVER, names=["chat:8k"]
        )
        assert [model["name"] for model in result["models"]] == ["chat:8k"]


class TestBadInput:
    def test_a_damaged_model_ends_the_task_with_its_file(self, run_module, tmp_path):
        path = add_model(tmp_path, "llama3.2:1b", LLAMA)
        path.write_text("{")
        result = run_module(ollama_model_info, models_path=str(tmp_path), api_url=NO_SERVER)
        assert result["failed"]
        assert result["msg"].startswith(f"model llama3.2:1b: {path} is no JSON")

    def test_a_damaged_model_can_be_reported_instead(self, run_module, tmp_path):
        add_model(tmp_path, "good", LLAMA)
        path = add_model(tmp_path, "bad", LLAMA)
        path.write_text("{")
        options = {"models_path": str(tmp_path), "api_url": NO_SERVER, "on_malformed": "report"}
        result = run_module(ollama_model_info, **options)
        assert [model["name"] for model in result["models"]] == ["good:latest"]
        assert result["problems"][0].startswith(f"model bad:latest: {path} is no JSON")

    def test_a_damaged_model_that_nobody_asked_for_is_left_alone(self, run_module, tmp_path):
        add_model(tmp_path, "good", LLAMA)
        add_model(tmp_path, "bad", LLAMA).write_text("{")
        result = run_module(ollama_model_info, models_path=str(tmp_path), api_url=NO_SERVER, names=["good"])
        assert "failed" not in result
        assert result["problems"] == []

    def test_names_that_are_not_installed_are_told(self, run_module, tmp_path):
        add_model(tmp_path, "good", LLAMA)
        options = {"models_path": str(tmp_path), "api_url": NO_SERVER, "names": ["good", "absent:7b"]}
        assert run_module(ollama_model_info, **options)["missing"] == ["absent:7b"]

    def test_cloud_models_are_told_apart(self, run_module, tmp_path):
        manifest = json.loads(add_model(tmp_path, "big:cloud", LLAMA).read_text())
        config = Path(tmp_path, "blobs", manifest["config"]["digest"].replace(":", "-"))
        config.write_text('{"remote_host": "https://ollama.com:443"}')
        result = run_module(ollama_model_info, models_path=str(tmp_path), api_url=NO_SERVER)
        reason = "it runs at https://ollama.com:443 and takes no memory here"
        assert result["unplannable"] == [{"name": "big:cloud", "reason": reason}]

    def test_a_timeout_below_a_second_is_refused(self, run_module, tmp_path):
        result = run_module(ollama_model_info, models_path=str(tmp_path), timeout=0)
        assert result["msg"] == "timeout is 0, expected at least 1 second"
