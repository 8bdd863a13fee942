# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client takes Ollama's recorded replies, and makes one sentence of everything else."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import socket
import threading
import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _api
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import (
    Api,
    ApiError,
    address_of,
    url_of_host,
)
from hypothesis import given
from hypothesis import strategies as st


class TestRecordedReplies:
    def test_version(self, ollama):
        assert Api(ollama.url).version() == "0.33.0-rc2"

    def test_tags(self, ollama):
        assert [tag["name"] for tag in Api(ollama.url).tags()] == ["g-ctx8k:latest", "gemma3-270m:latest"]

    def test_no_models(self, server, recording):
        server.replies["/api/tags"] = recording("tags_empty")
        assert Api(server.url).tags() == []

    def test_loaded(self, ollama):
        (loaded,) = Api(ollama.url).loaded()
        assert (loaded["name"], loaded["context_length"]) == ("gemma3-270m:latest", 4096)

    def test_show(self, ollama):
        assert Api(ollama.url).show("gemma3-270m")["details"]["family"] == "gemma3"
        assert ollama.asked == [("POST", "/api/show", {"model": "gemma3-270m", "verbose": False})]

    def test_load(self, server, recording):
        server.replies["/api/generate"] = recording("generate_preload")
        options = {"num_ctx": 8192}
        assert Api(server.url).load("m", keep_alive="10m", options=options)["done_reason"] == "load"
        body = {"model": "m", "stream": False, "keep_alive": "10m", "options": options}
        assert server.asked == [("POST", "/api/generate", body)]

    def test_an_embedding_model_is_loaded_without_input(self, server):
        server.replies["/api/embed"] = (200, b'{"model": "m", "embeddings": []}')
        Api(server.url).load("m", embedding=True)
        assert server.asked == [("POST", "/api/embed", {"model": "m", "input": []})]

    @pytest.mark.parametrize(
        ("recorded_as", "path", "message"),
        [
            ("err_show_notfound", "/api/show", "POST .*/api/show answers 404: model 'nope:latest' not found"),
            ("err_404", "/api/show", "answers 404: 404 page not found"),
            ("err_generate_nobody", "/api/show", "answers 400: missing request body"),
        ],
    )
    def test_errors_are_passed_on(self, server, recording, recorded_as, path, message):
        server.replies[path] = recording(recorded_as)
        with pytest.raises(ApiError, match=message):
            Api(server.url).show("nope")

    def test_an_embedding_error_is_passed_on(self, server, recording):
        server.replies["/api/embed"] = recording("embed")
        with pytest.raises(ApiError, match="answers 501: This server does not support embeddings"):
            Api(server.url).load("m", embedding=True)


class TestOtherReplies:
    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            ((200, b"<html>"), "answers with something that is no JSON mapping: this is no Ollama server"),
            ((200, b"[" * 100000), "no JSON mapping"),
            ((200, b"[]"), "no JSON mapping"),
            ((200, b"\xff"), "no JSON mapping"),
            ((200, b'{"error": "broken"}'), "GET http://.*/api/version answers: broken"),
            ((200, b"{}"), "/api/version answers without a version: this is no Ollama server"),
            ((200, b'{"version": 3}'), "answers without a version"),
            ((500, b"a\n  b"), "answers 500: a b"),
            ((500, b"x" * 5000), "answers 500: x{300}[.]{3}$"),
            ((301, b""), "answers 301"),
        ],
    )
    def test_are_one_sentence(self, server, reply, message):
        server.replies["/api/version"] = reply
        with pytest.raises(ApiError, match=message):
            Api(server.url).version()
        assert len(server.asked) == 1

    @pytest.mark.parametrize("body", [b"{}", b'{"models": 3}', b'{"models": [3]}'])
    def test_a_list_of_models_must_be_one(self, server, body):
        server.replies["/api/tags"] = (200, body)
        with pytest.raises(ApiError, match="/api/tags answers without a list of models"):
            Api(server.url).tags()

    def test_an_endless_reply_is_given_up(self, server):
        server.replies["/api/version"] = (200, b" " * _api.MOST.max_bytes)
        with pytest.raises(ApiError, match=f"failed: the answer is longer than {_api.MOST.max_bytes} bytes"):
            Api(server.url).version()

    def test_no_proxy_is_asked(self, ollama, monkeypatch):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        assert Api(ollama.url).version() == "0.33.0-rc2"

    def test_a_path_in_the_url_is_kept(self, server, recording):
        server.replies["/ollama/api/version"] = recording("version")
        assert Api(server.url + "/ollama/").version() == "0.33.0-rc2"


class TestNoServer:
    def test_a_closed_port_is_named(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with pytest.raises(
            ApiError, match=f"GET http://127.0.0.1:{port}/api/version failed: Connection refused"
        ):
            Api(f"http://127.0.0.1:{port}").version()

    @pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://", "http://host:port", "http://[::1"])
    def test_what_is_no_url_is_named(self, url):
        with pytest.raises(ApiError, match=r"expected one like http://127\.0\.0\.1:11434"):
            Api(url).version()

    @pytest.fixture
    def port(self):
        """A port behind which a program speaks what `self.say` does."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=self.serve, args=(listener,), daemon=True)
            thread.start()
            yield listener.getsockname()[1]

    def serve(self, listener):
        connection, _address = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(10000)
            self.say(connection)

    def test_silence_ends_with_the_timeout(self, port):
        self.say = lambda connection: time.sleep(1)
        with pytest.raises(ApiError, match=r"failed: no whole answer within 0.1 seconds"):
            Api(f"http://127.0.0.1:{port}", 0.1).version()

    def test_a_trickle_ends_with_the_timeout(self, port):
        def trickle(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _tick in range(400):
                connection.sendall(b" ")
                time.sleep(0.05)

        self.say = trickle
        started = time.monotonic()
        with pytest.raises(ApiError, match="failed: "):
            Api(f"http://127.0.0.1:{port}", 0.3).version()
        assert time.monotonic() - started < 10

    def test_another_protocol_is_one_sentence(self, port):
        self.say = lambda connection: connection.sendall(b"220 mail.example.org ESMTP\r\n")
        with pytest.raises(ApiError, match="failed: BadStatusLine: 220 mail"):
            Api(f"http://127.0.0.1:{port}").version()

    def test_a_connection_that_breaks_off_is_one_sentence(self, port):
        self.say = lambda connection: None
        with pytest.raises(ApiError, match="failed: "):
            Api(f"http://127.0.0.1:{port}").version()


class TestBounds:
    """What a server may say, whoever it is."""

    def test_a_version_is_short(self, server):
        server.replies["/api/version"] = (200, json.dumps({"version": "1" * 129}).encode())
        with pytest.raises(ApiError, match="a version of 129 characters, at most 128 are taken") as raised:
            Api(server.url).version()
        assert len(str(raised.value)) < 200

    @pytest.mark.parametrize(
        ("entry", "told"),
        [
            ({"size": 5, "size_vram": 3, "context_length": 4096}, (5, 3, 4096, None)),
            ({}, (None, None, None, None)),
            ({"size": [[[]]], "size_vram": "5", "context_length": True}, (None, None, None, None)),
            ({"size": -1, "size_vram": 10**30, "context_length": 0.5}, (None, None, None, None)),
            ({"expires_at": "2026-11-23T05:52:42Z"}, (None, None, None, "2026-11-23T05:52:42Z")),
            ({"expires_at": "x" * 129}, (None, None, None, None)),
            ({"expires_at": {"a": 1}}, (None, None, None, None)),
        ],
    )
    def test_of_a_loaded_model_what_is_of_another_kind_is_unknown(self, entry, told, server):
        server.replies["/api/ps"] = (200, json.dumps({"models": [{"name": "m", "more": "x", **entry}]}).encode())
        (loaded,) = Api(server.url).loaded()
        assert tuple(loaded[key] for key in ("size", "size_vram", "context_length", "expires_at")) == told
        assert set(loaded) == {"name", "digest", "size", "size_vram", "context_length", "expires_at"}

    @pytest.mark.parametrize("name", [None, 3, ["m"], "m" * 601])
    @pytest.mark.parametrize("path", ["/api/ps", "/api/tags"])
    def test_a_model_has_a_name(self, path, name, server):
        server.replies[path] = (200, json.dumps({"models": [{"name": name}]}).encode())
        api = Api(server.url)
        with pytest.raises(ApiError, match=f"{path} lists a model that is called .*: this is no Ollama server"):
            api.tags() if path == "/api/tags" else api.loaded()

    def test_models_are_counted(self, server):
        server.replies["/api/ps"] = (200, json.dumps({"models": [{"name": "m"}] * 1025}).encode())
        with pytest.raises(ApiError, match="/api/ps lists 1025 models, at most 1024 are read"):
            Api(server.url).loaded()

    def test_values_are_counted_before_they_are_read(self, server):
        server.replies["/api/tags"] = (200, b'{"models": [' + b"{}," * 200_000 + b"{}]}")
        with pytest.raises(ApiError, match="answered with more than is read: it holds up to 400003 items"):
            Api(server.url).tags()

    def test_the_whole_vocabulary_of_a_recorded_answer_is_within_them(self, server, recording):
        server.replies["/api/show"] = recording("show_verbose")
        shown = Api(server.url).show("m", verbose=True)
        assert len(shown["model_info"]["tokenizer.ggml.tokens"]) == 262144

    @pytest.mark.parametrize("url", ["http://host:²", "http://host:99999", "http://ho\nst:1", "http://a\0b:1"])
    def test_an_odd_url_is_one_sentence(self, url):
        with pytest.raises(ApiError, match=r"is no URL|failed"):
            Api(url, 1).version()

    @pytest.mark.parametrize("path", ["/\ud800", "/a b", "/\r\nX: y", "/\u20ac"])
    def test_an_odd_path_is_one_sentence(self, path, server):
        with pytest.raises(ApiError, match=r"GET .* failed|answers 404"):
            Api(server.url + path, 1).version()

    @given(st.text("a1:[]/.%-@ ²\0", max_size=20) | st.text(max_size=40))
    def test_no_ollama_host_makes_a_url_that_raises_anything_else(self, host):
        address_of(url_of_host(host))
        with contextlib.suppress(ApiError):
            Api(url_of_host(host)).connection(1, 1000)


class TestFilesAndRemoval:
    DIGEST = "sha256:" + "a" * 64

    @pytest.mark.parametrize(("status", "is_there"), [(200, True), (404, False)])
    def test_whether_a_file_is_there(self, start, status, is_there):
        api = Api(f"http://127.0.0.1:{start().port}")
        content = b"x" if is_there else b"y"
        digest = f"sha256:{hashlib.sha256(b'x').hexdigest()}" if is_there else self.DIGEST
        if is_there:
            api.put_blob(digest, io.BytesIO(content), 1)
        assert api.has_blob(digest) == is_there

    def test_another_file_than_its_digest_says_is_refused(self, start):
        api = Api(f"http://127.0.0.1:{start().port}")
        with pytest.raises(ApiError, match=r"POST .*/api/blobs/.* answers 400: digest mismatch"):
            api.put_blob(self.DIGEST, io.BytesIO(b"z"), 1)

    def test_what_is_not_there_cannot_be_removed(self, start):
        with pytest.raises(ApiError, match=r"DELETE .*/api/delete answers 404: model 'nope' not found"):
            Api(f"http://127.0.0.1:{start().port}").delete("nope")

    def test_a_server_that_is_down(self):
        api = Api("http://127.0.0.1:1")
        for ask in (lambda: api.has_blob(self.DIGEST), lambda: api.delete("m")):
            with pytest.raises(ApiError, match="failed: Connection refused"):
                ask()
