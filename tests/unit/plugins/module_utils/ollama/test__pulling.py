# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded streams of pulls are read for what they say, slice by slice, and each error gets what to do."""

from __future__ import annotations

import json
import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _pulling
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._pulling import (
    MakingError,
    Told,
    made_error,
    pull,
    stream,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import CAPTURES
from hypothesis import given
from hypothesis import strategies as st

RECORDED = {
    call["name"]: call
    for call in map(json.loads, (CAPTURES / "real_cpu" / "pulls.jsonl").read_text().splitlines())
}
STREAMS = sorted(name for name, call in RECORDED.items() if call["body"].__class__ is dict and call["status"] == 200)


def text(name):
    """The body of a recorded reply."""
    return "".join(f"{line}\n" * count for count, line in RECORDED[name]["lines"]).encode()


@pytest.mark.parametrize("name", [name for name in STREAMS if "stream_false" not in name])
def test_a_recorded_stream_ends_as_it_did(server, name):
    server.replies["/api/pull"] = (200, text(name))
    last = json.loads(RECORDED[name]["lines"][-1][1])
    if "error" in last:
        with pytest.raises(MakingError, match=r"^Ollama says: "):
            stream(Api(server.url), "/api/pull", {}, 10)
    elif last.get("status") == "success":
        assert stream(Api(server.url), "/api/pull", {}, 10).is_done
    else:  # the server was killed, or the client had gone
        with pytest.raises(ApiError, match="ended after 'pulling a5fd3b62230a': the server was stopped, run it again"):
            stream(Api(server.url), "/api/pull", {}, 10)


def test_progress_is_told_as_it_is_though_it_never_reaches_the_whole(server):
    server.replies["/api/pull"] = (200, text("three_parts/pull"))
    told = stream(Api(server.url), "/api/pull", {}, 10)
    assert (list(told.completed.values()), list(told.totals.values())) == ([251293888], [253113024])


def test_what_is_0_is_left_out(server):
    server.replies["/api/pull"] = (200, text("errors/blob_redirect_target_403"))
    seen = []
    with pytest.raises(MakingError, match="max retries exceeded: EOF"):
        stream(Api(server.url), "/api/pull", {}, 10, lambda told: seen.append(dict(told.completed)))
    assert set(seen[-1].values()) == {0}


def recorded_errors():
    for name in STREAMS:
        last = json.loads(RECORDED[name]["lines"][-1][1])
        if "error" in last:
            yield name, last["error"]


MENDABLE = {
    "cut_always/pull",
    "errors/blob_redirect_target_403",
    "errors/connection_refused",
    "errors/manifest_429",
    "errors/manifest_500",
}
REMEDIES = {
    "disk_full/pull": "the disk is full: make room and run it again",
    "disk_full/pull_again": "the disk is full: make room and run it again",
    "disk_full/pull_small_one": "the disk is full: make room and run it again",
    "wrong_digest/pull": "was thrown away: run it again, or repair the registry",
    "errors/unknown_model": "the registry has no such model",
    "errors/unknown_tag": "the registry has no such model",
    "errors/blob_head_404": "the registry has no such model",
    "errors/plain_http_asked_by_https": "allow it with insecure: true",
    "whole/pull_http_scheme": "allow it with insecure: true",
    "whole/pull_not_insecure": "allow it with insecure: true",
    "plain_registry/pull": "put such a front before it",
    "plain_registry/pull_again": "put such a front before it",
    "errors/manifest_412": "update Ollama on the host",
    "errors/manifest_401_basic": "the registry wants a login that Ollama does not have",
    "errors/manifest_401_no_challenge": "the registry wants a login that Ollama does not have",
    "errors/no_such_host": "the host cannot resolve the registry's name",
    "errors/hf": "the host cannot resolve the registry's name",
    "errors/official_registry": "the host cannot resolve the registry's name",
}


@pytest.mark.parametrize(("name", "said"), list(recorded_errors()))
def test_a_recorded_error_says_what_to_do_and_whether_it_may_mend(name, said):
    error = made_error(said)
    assert error.may_mend == (name in MENDABLE)
    assert REMEDIES.get(name, "") in str(error)
    assert (";" in str(error)) == (name in REMEDIES)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("open /srv/models/blobs/sha256-1-partial: permission denied", "make the folder its own (chown)"),
        ("mkdir /srv/models/blobs: read-only file system", "the disk cannot be written"),
        ("write /srv/models/blobs/sha256-1-partial: disk quota exceeded", "raise it, or make room"),
        (
            'Get "https://r/v2/a": tls: failed to verify certificate: x509: certificate signed by unknown authority',
            "the host does not trust the registry's certificate",
        ),
        ('Get "https://r/v2/a": Proxy Authentication Required', "the proxy of the service wants a login"),
        ('Get "https://r/v2/a": proxyconnect tcp: dial tcp: lookup p: no such host', "look at HTTPS_PROXY and HTTP_PROXY"),
    ],
)
def test_what_is_wrong_on_the_host_says_what_to_do(said, remedy):
    error = made_error(said)
    assert remedy in str(error)
    assert not error.may_mend


def test_an_error_tells_no_signature():
    said = 'Get "https://user:hunter2@cdn.example.com/blob?X-Amz-Signature=hunter3&a=b": dial tcp: i/o timeout'
    error = made_error(said)
    assert "hunter" not in str(error)
    assert "X-Amz" not in str(error)
    assert error.may_mend


@given(st.dictionaries(st.text(max_size=9), st.one_of(st.none(), st.text(), st.integers(), st.lists(st.integers()))))
def test_any_line_is_taken_or_refused(line):
    told = Told()
    if "error" in line:
        with pytest.raises(MakingError):
            told.take(line)
    else:
        told.take(line)
        assert all(isinstance(count, int) and count >= 0 for count in told.completed.values())


class TestSlices:
    """A server whose answer takes time."""

    @pytest.fixture
    def slow(self, server):
        """`slow(lines, seconds)` answers with a line each so many seconds."""

        def answer(lines, seconds):
            def reply(_body):
                time.sleep(seconds)
                return 200, b"".join(json.dumps(line).encode() + b"\n" for line in lines)

            server.replies["/api/pull"] = reply
            return Api(server.url)

        return answer

    def test_a_slice_ends_in_time_and_says_how_far_it_is(self, slow):
        started = time.monotonic()
        told = stream(slow([], 3), "/api/pull", {}, 1.0)
        assert time.monotonic() - started < 2
        assert not told.is_done

    def test_a_download_that_was_given_up_and_has_not_ended_is_asked_for_again(self, server, monkeypatch):
        monkeypatch.setattr(_pulling, "_AGAIN_SECONDS", 0.01)
        replies = [b'{"error":"context canceled"}\n', b'{"status":"success"}\n']
        server.replies["/api/pull"] = lambda _body: (200, replies.pop(0))
        assert pull(Api(server.url), "m", False, 5).is_done
        assert [body for _method, _path, body in server.asked] == [{"model": "m", "insecure": False}] * 2

    def test_one_that_never_ends_is_told(self, server, monkeypatch):
        monkeypatch.setattr(_pulling, "_AGAIN_SECONDS", 0.05)
        server.replies["/api/pull"] = (200, b'{"error":"context canceled"}\n')
        with pytest.raises(MakingError, match="context canceled") as raised:
            pull(Api(server.url), "m", True, 0.3)
        assert raised.value.may_mend


@pytest.mark.parametrize(
    ("reply", "kind", "sentence"),
    [
        ((500, b'{"error":"no space left on device"}'), MakingError, "no space left on device; the disk is full"),
        ((404, b"404 page not found"), ApiError, "answers 404: 404 page not found"),
        ((200, b"[]\n"), ApiError, "a line is no JSON mapping"),
        ((200, b"{\n"), ApiError, "broke off: JSONDecodeError"),
        ((200, b"x" * (_pulling.MAX_LINE_BYTES + 1)), ApiError, f"a line is longer than {_pulling.MAX_LINE_BYTES} bytes"),
        ((200, b""), ApiError, "ended after 'nothing'"),
    ],
)
def test_what_is_no_stream_is_one_sentence(server, reply, kind, sentence):
    server.replies["/api/pull"] = reply
    with pytest.raises(kind, match=sentence):
        stream(Api(server.url), "/api/pull", {}, 5)


def test_the_check_of_what_came_is_waited_for(server, monkeypatch):
    monkeypatch.setattr(_pulling, "CHECK_SECONDS", 0.2)
    told = Told()
    for status in ("verifying sha256 digest", "writing manifest", "removing unused layers"):
        told.take({"status": status})
        assert told.is_checking
    told.take({"status": "pulling manifest"})
    assert not told.is_checking


def test_a_server_that_names_ever_more_files_is_kept_to_what_a_manifest_has():
    told = Told()
    for number in range(_pulling.MAX_LAYERS + 5):
        told.take({"status": "pulling", "digest": f"sha256:{number}", "total": 9, "completed": 1})
    assert len(told.totals) == len(told.completed) == _pulling.MAX_LAYERS == 20_000
    told.take({"status": "pulling", "digest": "sha256:7", "total": 9, "completed": 8})
    assert told.completed[told.digest] == 8


def test_the_budgets():
    assert (_pulling.CHECK_SECONDS, _pulling.MAX_LINE_BYTES, _pulling.MAX_STREAM_BYTES) == (3600.0, 1 << 16, 1 << 26)
