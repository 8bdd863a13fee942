# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in is asked what a real Ollama v0.33.0-rc2 was asked, in the same order over the same store."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..conftest import CAPTURES, Reply, Server, Start
from .recorded_store import GIVEN_LLAMA, GIVEN_MID_LLAMA, LLAMA, REAL_FOLDER, WEIGHTS, calls, lay_out

# Bytes that /api/ps gave by model, context and batch.
SIZES = [
    ("tiny-llama:latest", 4, 512, 503315),
    ("tiny-llama:latest", 2048, 512, 4708105),
    ("tiny-llama:latest", 4096, 512, 7853833),
    ("tiny-llama:latest", 8192, 1024, 23718788),
    ("tiny-lora:latest", 2048, 512, 4708105),
    ("tiny-vision:latest", 4096, 512, 7906261),
    ("tiny-qwen3:latest", 4096, 512, 15938354),
    ("tiny-bert:latest", 512, 512, 2285895),
    ("mid-llama:latest", 4096, 512, 102288588),
    ("mid-sys:latest", 4096, 512, 102288588),
    ("mid-cpu:latest", 4096, 512, 102288588),
    ("mid-8k:latest", 8192, 1024, 162067906),
]
CONFIG = {
    "sizes": [
        {
            "model": name, "context_total": context, "parallel": 1, "batch": batch, "weights_bytes": size,
            "kv_cache_bytes": 0, "compute_bytes": 0,
        }
        for name, context, batch, size in SIZES
    ]
}  # fmt: skip
TIMES = {"created_at", "modified_at", "expires_at", "created"}
# What depends on the weights and on the tokenizer.
MODELS_OWN = {"response", "content", "context", "embeddings", "prompt_eval_count"}
COMPARED_HEADERS = ("Content-Type", "Allow")
RAW_BODIES = {"<0 raw bytes>": b"", "<1 raw bytes>": b"{"}
# Needs the file itself, which is not kept: test_writing.py.
WITHOUT_FILE = {"blob_head_missing", "blob_post", "blob_post_again", "blob_post_bad_name", "blob_post_wrong_digest"}


def post(server: Server, path: str, **body: Any) -> None:
    assert server.ask("POST", path, body).status == 200


def with_names(server: Server) -> None:
    """The names that were there before the 32 spellings were tried."""
    for name in ("Some/MixedCase:Q8", "hf.co/bartowski/Tiny-Llama-GGUF:Q4_K_M", "registry.example.com:5000/team/model:v1"):
        post(server, "/api/copy", source="tiny-llama", destination=name)


def with_cloud(server: Server) -> None:
    (made,) = (call for call in calls(CAPTURES, "cloud") if call["name"] == "create_host_not_allowed")
    post(server, "/api/create", **made["body"])


def with_siblings(server: Server) -> None:
    with_cloud(server)
    with_names(server)
    post(server, "/api/create", model="tiny-llama", **{"from": "tiny-llama"})
    post(server, "/api/create", model="mid-sys", system="Be brief.", **{"from": "mid-llama"})
    post(server, "/api/create", model="mid-cpu", parameters={"num_gpu": 0}, **{"from": "mid-llama"})
    post(server, "/api/create", model="mid-8k", parameters={"num_ctx": 8192}, **{"from": "mid-llama"})


def with_all_cloud(server: Server) -> None:
    """The models of the cloud that the sitting before this one had made."""
    for call in calls(CAPTURES, "cloud"):
        if call["name"].startswith(("create_", "copy_")):
            server.ask(call["method"], call["path"], call["body"])


def nothing(_server: Server) -> None:
    """The store as it was laid out."""


PREPARED = {
    "replies": nothing,
    "cloud": nothing,
    "cloud_disabled": with_all_cloud,
    "names": lambda server: (with_cloud(server), with_names(server)),
    "siblings_two_tags": with_siblings,
    "siblings_num_gpu_0": with_siblings,
    "siblings_num_ctx": with_siblings,
    "siblings_projector_adapter": with_siblings,
    "create": nothing,
    "pull": nothing,
    "push": nothing,
    "repeat_limit": nothing,
}
RECORDED = [
    (group, position, call)
    for group in PREPARED
    for position, call in enumerate(calls(CAPTURES, group))
    if call["name"] not in WITHOUT_FILE
]


@dataclass(frozen=True)
class Answer:
    """What the stand-in answered to one call, and its runners by pid where they were recorded."""

    reply: Reply
    runners: dict[int, list[str]]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "models"
    lay_out(folder, CAPTURES)
    return folder


@pytest.fixture(scope="module")
def sittings(
    executable: Path, laid_out: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Answer]]:
    """All recorded calls repeated, each sitting with a store and a server of its own."""
    return {group: sitting(group, executable, laid_out, tmp_path_factory.mktemp(group)) for group in PREPARED}


def sitting(group: str, executable: Path, laid_out: Path, folder: Path) -> list[Answer]:
    store = folder / "models"
    shutil.copytree(laid_out / "manifests", store / "manifests")
    (store / "blobs").mkdir()
    for blob in (laid_out / "blobs").iterdir():  # they stay as they are
        (store / "blobs" / blob.name).hardlink_to(blob)
    start = Start(executable, store, folder / "server")
    variables = {"OLLAMA_NO_CLOUD": "1"} if group == "cloud_disabled" else {}
    server = start(config=CONFIG)
    PREPARED[group](server)
    if variables:
        server = start(config=CONFIG, **variables)
    answers = []
    try:
        for call in calls(CAPTURES, group):
            if call["name"].endswith("_unloaded") and call["path"] == "/api/ps":
                post(server, "/api/generate", model="mid-llama", keep_alive=0)
            answers.append(ask(server, call, store))
    finally:
        start.stop()
    return answers


def ask(server: Server, call: dict[str, Any], store: Path) -> Answer:
    body = call["body"]
    if isinstance(body, str):
        body = RAW_BODIES.get(body, b"")
    reply = server.ask(call["method"], call["path"], body)
    time.sleep(0.15 if call["name"] == "unload" else 0)
    text = reply.body.replace(str(store).encode(), REAL_FOLDER.encode())
    return Answer(Reply(reply.status, reply.headers, text), server.runners() if "runners" in call else {})


def plain(value: Any) -> Any:
    """A reply without what differs at every call; models by name."""
    if isinstance(value, list):
        plainer = [plain(item) for item in value]
        return sorted(plainer, key=str) if plainer and isinstance(value[0], dict) and {"name", "id"} & set(value[0]) else plainer
    if not isinstance(value, dict):
        return re.sub(r"ts=\d+", "ts=0", value) if isinstance(value, str) else value
    shown = {}
    for key, item in value.items():
        if key in TIMES or key.endswith("_duration"):
            shown[key] = type(item).__name__
        elif key in MODELS_OWN:
            shown[key] = [] if isinstance(item, list) and not item else type(item).__name__
        else:
            shown[key] = plain(item)
    return shown


def lines(text: str) -> list[Any]:
    try:
        return [plain(json.loads(line)) for line in text.splitlines()]
    except json.JSONDecodeError:
        return [text]


@pytest.mark.parametrize(
    ("group", "position", "call"), RECORDED, ids=[f"{group}-{call['name']}" for group, _position, call in RECORDED]
)
def test_answers_as_the_real_server_did(
    sittings: dict[str, list[Answer]], group: str, position: int, call: dict[str, Any]
) -> None:
    reply = sittings[group][position].reply
    assert reply.status == call["status"]
    told = {name: value for name, value in call["headers"].items() if name in COMPARED_HEADERS}
    assert {name: value for name, value in reply.headers.items() if name in COMPARED_HEADERS} == told
    is_stream = "ndjson" in told.get("Content-Type", "") and call["status"] == 200
    assert (reply.headers.get("Transfer-Encoding") == "chunked") is is_stream
    if "reply" in call and call["method"] != "HEAD":
        found, wanted = lines(reply.body.decode()), lines(of_made_files(call["reply"]))
        if group == "create":
            found = [as_existing(line) for line in lines(of_made_files(reply.body.decode()))]
            wanted = [as_existing(line) for line in wanted]
        assert found == wanted


def of_made_files(text: str) -> str:
    """Ollama writes the files it is given anew, and the stand-in keeps them."""
    return text.replace(GIVEN_LLAMA, LLAMA[0]).replace(GIVEN_MID_LLAMA, WEIGHTS["mid-llama"][0])


def as_existing(line: Any) -> Any:
    if isinstance(line, dict) and isinstance(line.get("status"), str):
        return {"status": line["status"].replace("creating new", "using existing")}
    return line


@pytest.mark.parametrize("group", [group for group in PREPARED if any("runners" in call for call in calls(CAPTURES, group))])
def test_starts_the_runners_that_the_real_server_started(
    sittings: dict[str, list[Answer]], laid_out: Path, group: str
) -> None:
    recorded = [
        {line.split()[0]: line.split()[1:] for line in call["runners"]} for call in calls(CAPTURES, group) if "runners" in call
    ]
    found = [
        {str(pid): line for pid, line in answer.runners.items()}
        for call, answer in zip(calls(CAPTURES, group), sittings[group])
        if "runners" in call
    ]
    assert numbered(found) == numbered(recorded)


def numbered(moments: list[dict[str, list[str]]]) -> list[list[tuple[int, list[str]]]]:
    """Command lines at each moment; processes are numbered as they come, ports and folders left out."""
    numbers: dict[str, int] = {}
    shown = []
    for moment in moments:
        ordered = sorted(moment, key=int)
        for pid in ordered:
            numbers.setdefault(pid, len(numbers))
        shown.append([(numbers[pid], arguments(moment[pid])) for pid in ordered])
    return shown


def arguments(line: list[str]) -> list[str]:
    without_port = [part for before, part in zip(["", *line], line) if before != "--port"]
    return [re.sub(r"^/.*(/blobs/)", r"\1", part) for part in without_port]
