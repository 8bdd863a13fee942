# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blobs that are given to the stand-in, models that go to a registry and come from one, and a start that panics."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.tests.registry.front import Front
from gguf_writer import write_gguf

from ..conftest import CAPTURES, MODEL, Reply, Server, Start
from .recorded_store import calls, lay_out

CONTENT = b"not a model"
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
OTHER = "sha256:" + "0" * 64


@pytest.fixture
def server(executable: Path, tmp_path: Path) -> Iterator[Server]:
    """A stand-in over the recorded store, which is its own to change."""
    lay_out(tmp_path / "models", CAPTURES)
    begin = Start(executable, tmp_path / "models", tmp_path / "server")
    yield begin()
    begin.stop()


@pytest.fixture
def registry() -> Iterator[str]:
    """The address of an empty registry."""
    front = Front(0).start()
    yield f"localhost:{front.port}"
    front.stop()


def test_a_blob_is_kept_under_its_own_digest(server: Server) -> None:
    def head() -> int:
        return server.ask("HEAD", f"/api/blobs/{DIGEST}").status

    def post(digest: str) -> Reply:
        return server.ask("POST", f"/api/blobs/{digest}", CONTENT)

    assert head() == 404
    assert [post(DIGEST).status, head(), post(DIGEST).status] == [201, 200, 200]
    wrong = post(OTHER)
    assert (wrong.status, wrong.json()["error"]) == (
        400,
        f'digest mismatch, expected "{OTHER}", got "{DIGEST}"',
    )
    assert post("nope").json() == {"error": "invalid digest format"}


def test_a_file_that_is_no_model_makes_none(server: Server) -> None:
    server.ask("POST", f"/api/blobs/{DIGEST}", CONTENT)
    lines = server.ask("POST", "/api/create", {"model": "y", "files": {"a.gguf": DIGEST}}).lines()
    assert lines == [{"status": "parsing GGUF"}, {"error": "supplied file was not in GGUF format"}]


def test_a_deleted_model_leaves_the_blobs_that_others_need(server: Server, tmp_path: Path) -> None:
    before = {path.name for path in (tmp_path / "models" / "blobs").iterdir()}
    server.ask("POST", "/api/copy", {"source": "mid-llama", "destination": "other"})
    for name in ("mid-llama", "other"):
        server.ask("DELETE", "/api/delete", {"model": name})
        gone = before - {path.name for path in (tmp_path / "models" / "blobs").iterdir()}
    assert len(gone) == 2
    assert server.ask("POST", "/api/show", {"model": "tiny-llama"}).status == 200


RECORDED = {call["name"]: call for call in calls(CAPTURES, "registry")}
# The first was done before, the second into an empty store.
REGISTRY = [call for name, call in RECORDED.items() if name not in ("copy_tiny-llama", "pull")]


def test_a_model_goes_to_a_registry_and_comes_from_it_as_recorded(server: Server, registry: str) -> None:
    # The texts of the recorded model, which /api/create took.
    server.ask(
        "POST",
        "/api/create",
        {
            "model": f"{registry}/team/model:v1",
            "from": "tiny-llama",
            "template": "{{ .Prompt }}",
            "system": "Be brief.",
            "license": "MIT",
            "parameters": {"num_ctx": 2048},
        },
    )
    for call in REGISTRY:
        body = json.loads(json.dumps(call["body"]).replace("localhost:5000", registry))
        reply = server.ask(call["method"], call["path"], body)
        assert reply.status == call["status"], call["name"]
        said = reply.body.decode().replace(registry, "localhost:5000")
        assert said.splitlines() == call.get("reply", "").splitlines(), call["name"]


def test_a_model_that_is_given_goes_round_by_a_registry(server: Server, registry: str, tmp_path: Path) -> None:
    write_gguf(
        tmp_path / "small.gguf",
        {"metadata": {"general.architecture": "llama", "general.file_type": 1}, "tensors": [["a", "F16", [64, 64]]]},
    )
    content = (tmp_path / "small.gguf").read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    name = f"{registry}/team/small:v1"
    server.ask("POST", f"/api/blobs/{digest}", content)
    assert server.ask("POST", "/api/create", {"model": name, "files": {"small.gguf": digest}}).status == 200
    server.ask("POST", "/api/push", {"model": name, "insecure": True})
    before = server.ask("POST", "/api/show", {"model": name}).json()
    assert server.ask("DELETE", "/api/delete", {"model": name}).status == 200
    assert server.ask("HEAD", f"/api/blobs/{digest}").status == 404
    pulled = server.ask("POST", "/api/pull", {"model": name, "insecure": True})
    assert pulled.body.decode() == RECORDED["pull"]["reply"]
    after = server.ask("POST", "/api/show", {"model": name}).json()
    assert {**after, "modified_at": ""} == {**before, "modified_at": ""}


def test_what_a_registry_damaged_is_not_taken(server: Server, registry: str, tmp_path: Path) -> None:
    name = f"{registry}/team/model:v1"
    server.ask("POST", "/api/copy", {"source": "tiny-bert", "destination": name})
    server.ask("POST", "/api/push", {"model": name, "insecure": True})
    # The weights of the recorded store are holes, so that they have another digest than their name says.
    shutil.rmtree(tmp_path / "models")
    (tmp_path / "models" / "blobs").mkdir(parents=True)
    lines = server.ask("POST", "/api/pull", {"model": name, "insecure": True}).lines()
    # How many lines tell of layers depends on the time that they take.
    told = [line.get("status") for line in lines if "digest" not in line]
    assert told == ["pulling manifest", "verifying sha256 digest", None]
    assert lines[-1]["error"].startswith("digest mismatch, file must be downloaded again: want sha256:f67ad920")
    assert server.ask("POST", "/api/show", {"model": name}).status == 404


def test_panics_at_an_origin_as_recorded(start: Start) -> None:
    server = start(wait=False, OLLAMA_ORIGINS="http://a.example, https://b.example")
    assert server.process.wait(20) == 2
    told = (CAPTURES / "real_cpu" / "start_log" / "origins_panic.log").read_text().splitlines()
    (panic,) = (line for line in told if line.startswith("panic: "))
    lines = server.log.splitlines()
    assert panic in lines
    assert len(lines) - lines.index(panic) == len(told) - told.index(panic)


@pytest.mark.parametrize(("share", "cut"), [(0.0, 0), (1.0, 4)])
def test_a_share_of_the_answers_at_temperature_0_repeats_itself(start: Start, share: float, cut: int) -> None:
    server = start(config={"throughput": {"repeat_share": share, "time_scale": 0}})
    ends = []
    for number in range(4):
        options = {"num_predict": 64, "temperature": 0}
        body = {"model": MODEL, "prompt": f"word {number}", "raw": True, "options": options}
        ends.append(server.ask("POST", "/api/generate", body).lines()[-1]["done"])
    assert ends.count(False) == cut
