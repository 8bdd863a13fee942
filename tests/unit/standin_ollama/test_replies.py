# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in's replies beside those recorded from Ollama v0.33.0-rc2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import CAPTURES, MODEL, Reply, Server, Start

BASE = CAPTURES / "base"
SAME_TEXT = (
    "root", "root_head", "version", "err_404", "err_method", "err_chat_nomodel", "err_generate_badjson",
    "err_generate_nobody", "err_generate_notfound", "err_keepalive_type", "err_option_type",
    "err_show_notfound", "embed", "chat_think_unsupported", "chat_tools_unsupported",
)  # fmt: skip
SAME_FORM = (
    "chat", "chat_format_json", "chat_stream", "generate", "generate_stream", "generate_preload",
    "generate_keepalive_forever", "generate_unknown_option", "unload", "tags", "tags2", "v1_models", "status",
    "show_g-ctx8k", "show",
)  # fmt: skip
COMPARED_HEADERS = ("Content-Type", "Allow", "Transfer-Encoding")
OWN_STORE = ("tags", "tags2", "v1_models")


@pytest.fixture(scope="module")
def server(executable: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    begin = Start(executable, store, tmp_path_factory.mktemp("replies"))
    yield begin()
    begin.stop()


def recorded(name: str) -> tuple[dict[str, Any], bytes]:
    meta = json.loads((BASE / f"{name}.meta.json").read_text())
    return meta, (BASE / meta["body_file"]).read_bytes()


def repeat(server: Server, meta: dict[str, Any]) -> Reply:
    """Ask the stand-in what the real server was asked."""
    body = meta["request"]["body"]
    raw = {"<4 raw bytes>": b"{bad"}
    if isinstance(body, str):
        body = raw[body]
    return server.ask(meta["request"]["method"], meta["request"]["path"], body)


def form(value: Any) -> Any:
    """Keys and types without values; a list is the set of its members' forms."""
    if isinstance(value, dict):
        return {key: form(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(form(item), sort_keys=True) for item in value})
    if isinstance(value, bool) or value is None:
        return str(value is not None and "bool")
    return "number" if isinstance(value, (int, float)) else "text"


def same_head(reply: Reply, meta: dict[str, Any]) -> bool:
    told = {name: value for name, value in meta["headers"] if name in COMPARED_HEADERS}
    own = {name: value for name, value in reply.headers.items() if name in COMPARED_HEADERS}
    # How Go's writer chunks a long reply depends on its buffer; what matters is that a stream is one.
    if meta["request"]["path"] == "/api/show":
        told.pop("Transfer-Encoding", None)
    return (reply.status, own) == (meta["status"], told)


@pytest.mark.parametrize("name", SAME_TEXT)
def test_answers_word_for_word(server: Server, name: str) -> None:
    meta, body = recorded(name)
    reply = repeat(server, meta)
    assert same_head(reply, meta)
    assert reply.body == body


@pytest.mark.parametrize("name", SAME_FORM)
def test_answers_in_the_same_form(server: Server, name: str) -> None:
    meta, body = recorded(name)
    reply = repeat(server, meta)
    assert same_head(reply, meta)
    lines, told = reply.lines(), [json.loads(line) for line in body.splitlines()]
    if name in OWN_STORE:  # our store holds other models beside the recorded one
        for document in (*lines, *told):
            key = "models" if "models" in document else "data"
            document[key] = [item for item in document[key] if MODEL in json.dumps(item)]
    if name == "show_g-ctx8k":
        told[0].pop("system")
    assert form(lines) == form(told)


@pytest.mark.parametrize(
    "name", ["chat", "generate", "chat_stream", "generate_stream", "generate_unknown_option"]
)
def test_generates_as_many_tokens_as_asked_and_says_why_it_ended(server: Server, name: str) -> None:
    meta, body = recorded(name)
    end, told = repeat(server, meta).lines()[-1], json.loads(body.splitlines()[-1])
    assert {key: end[key] for key in ("model", "done", "done_reason", "eval_count")} == {
        key: told[key] for key in ("model", "done", "done_reason", "eval_count")
    }


def test_lists_a_loaded_model_as_the_real_server_does(server: Server) -> None:
    server.ask("POST", "/api/generate", {"model": MODEL})
    told = json.loads((BASE / "ps.json").read_text())
    listed = server.ask("GET", "/api/ps").json()
    assert form(listed) == form(told)
    assert (listed["models"][0]["size_vram"], listed["models"][0]["context_length"]) == (0, 4096)


def test_shows_the_model_info_of_the_header(server: Server) -> None:
    told = json.loads((BASE / "show.json").read_text())
    shown = server.ask("POST", "/api/show", {"model": MODEL}).json()
    assert shown["model_info"] == told["model_info"]
    assert shown["tensors"] == told["tensors"]


def test_a_verbose_show_gives_short_arrays_in_full(server: Server) -> None:
    shown = server.ask("POST", "/api/show", {"model": MODEL, "verbose": True}).json()
    assert shown["model_info"]["general.tags"][0] == "gemma3"


@pytest.mark.parametrize(
    ("keep_alive", "expires"),
    [(-1, "2319-"), ("24h", "20"), (3600, "20")],
)
def test_keep_alive_says_when_a_model_goes(server: Server, keep_alive: Any, expires: str) -> None:
    server.ask("POST", "/api/generate", {"model": MODEL, "keep_alive": keep_alive})
    assert server.ask("GET", "/api/ps").json()["models"][0]["expires_at"].startswith(expires)


def test_lists_nothing_where_nothing_is_loaded(server: Server) -> None:
    for model in server.ask("GET", "/api/ps").json()["models"]:
        server.ask("POST", "/api/generate", {"model": model["name"], "keep_alive": 0})
    assert server.ask("GET", "/api/ps").body == (BASE / "ps_empty.json").read_bytes()


def test_unloading_ends_the_runner(server: Server) -> None:
    server.ask("POST", "/api/generate", {"model": MODEL})
    assert server.runners()
    server.ask("POST", "/api/generate", {"model": MODEL, "keep_alive": 0})
    listed = [model["name"] for model in server.ask("GET", "/api/ps").json()["models"]]
    assert f"{MODEL}:latest" not in listed
    assert len(server.runners()) == len(listed)


def test_embeds_with_an_embedding_model(server: Server) -> None:
    reply = server.ask("POST", "/api/embed", {"model": "nomic-embed-text", "input": ["a b", "c"]}).json()
    assert [len(vector) for vector in reply["embeddings"]] == [768, 768]
    assert set(reply) == {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"}


def test_every_recorded_error_is_compared() -> None:
    errors = {path.name.split(".")[0] for path in Path(BASE).glob("err_*")}
    beyond = {name for name in errors if "pull" in name or "create" in name or "delete" in name}
    assert errors - beyond <= set(SAME_TEXT)
