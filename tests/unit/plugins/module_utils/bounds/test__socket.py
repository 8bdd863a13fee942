# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a peer does, an exchange ends in its time and within its bytes."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._stream import Open, ask
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds import _socket
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._socket import Budget, TooLong
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError

TIMEOUT_S = 0.4
# What an answer may take longer than it may: a loaded machine, not a slow peer.
MARGIN_S = 0.4
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def dripped(begin, drop=b"a"):
    """What is said at once, then a drop each 50 ms, for ever."""
    yield begin
    while True:
        time.sleep(0.05)
        yield drop


def poured(begin, drop):
    """What is said at once, then as much as is taken, for ever."""
    yield begin
    yield from itertools.repeat(drop * 1000)


SLOW = {
    "nothing": lambda: dripped(b"", b""),
    "the status line": lambda: dripped(b"HTTP/1.1 200 "),
    "a header": lambda: dripped(OK + b"X: "),
    "100 Continue": lambda: dripped(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the size of a chunk": lambda: dripped(CHUNKED, b"0"),
    "trailers": lambda: dripped(CHUNKED + b"0\r\n", b"X: y\r\n"),
    "the body": lambda: dripped(OK + b"\r\n", b" "),
    "a body of a promised length": lambda: dripped(OK + b"Content-Length: 99999999999999\r\n\r\n{}", b""),
}
ENDLESS = {
    "100 Continue": lambda: poured(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "trailers": lambda: poured(CHUNKED + b"0\r\n", b"X: y\r\n"),
    "the body": lambda: poured(OK + b"\r\n", b" "),
    "chunks": lambda: poured(CHUNKED, b"1\r\n \r\n"),
}


@pytest.fixture
def peer():
    """`peer(says)` gives the URL of a server that says this to one client."""
    with contextlib.ExitStack() as stack:

        def serve(listener, says):
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                connection.recv(65536)
                for part in says:
                    connection.sendall(part)

        def begin(says):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            threading.Thread(target=serve, args=(listener, says), daemon=True).start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield begin


@pytest.mark.parametrize("says", SLOW.values(), ids=SLOW)
def test_what_never_ends_is_given_up_in_time(says, peer):
    began = time.monotonic()
    with pytest.raises(ApiError, match=f"no whole answer within {TIMEOUT_S} seconds"):
        Api(peer(says()), TIMEOUT_S).tags()
    assert TIMEOUT_S - 0.1 < time.monotonic() - began < TIMEOUT_S + MARGIN_S


@pytest.mark.parametrize("says", ENDLESS.values(), ids=ENDLESS)
def test_what_is_too_long_is_given_up(says, peer):
    with pytest.raises(ApiError, match="the answer is longer than 4194304 bytes"):
        Api(peer(says()), 10).tags()


@pytest.mark.parametrize("says", SLOW.values(), ids=SLOW)
def test_a_request_for_text_ends_in_time_too(says, peer):
    began = time.monotonic()
    sent = ask(Api(peer(says())), {"model": "m"}, TIMEOUT_S, Open())
    assert sent.error == f"no whole answer within {TIMEOUT_S:g} s"
    assert time.monotonic() - began < TIMEOUT_S + MARGIN_S


def test_a_request_to_what_is_no_url_has_failed():
    assert "is no URL" in ask(Api("http://127.0.0.1:1\x00/"), {}, TIMEOUT_S, Open()).error


def test_a_peer_that_takes_nothing_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        sent = ask(Api(url), {"prompt": "x" * 20_000_000}, TIMEOUT_S, Open())
    assert sent.error == f"no whole answer within {TIMEOUT_S:g} s"
    assert time.monotonic() - began < TIMEOUT_S + MARGIN_S


def test_a_server_that_closes_the_connection_after_its_answer_is_read(peer):
    body = b'{"version": "0.33.0"}'
    assert Api(peer([OK + b"Connection: close\r\n\r\n" + body])).version() == "0.33.0"


def test_the_next_address_of_a_host_is_tried_where_the_first_refuses(peer, monkeypatch):
    url = peer([OK + b'\r\n{"version": "0.33.0"}'])
    port = int(url.rpartition(":")[2])

    def addresses(_host, _port, type):
        return [(socket.AF_INET, type, 0, "", ("127.0.0.1", at)) for at in (1, port)]

    monkeypatch.setattr(_socket.socket, "getaddrinfo", addresses)
    assert Api(f"http://somewhere:{port}").version() == "0.33.0"


def test_a_server_that_speaks_no_tls_is_one_sentence(peer):
    url = peer([OK]).replace("http:", "https:")
    with pytest.raises(ApiError, match=f"GET {url}/api/version failed: "):
        Api(url, 5).version()


def test_a_budget_counts_seconds_and_bytes():
    budget = Budget(0.05, 10)
    assert 0 < budget.left_s() <= 0.05
    budget.count(10)
    with pytest.raises(TooLong, match="longer than 10 bytes"):
        budget.count(1)
    time.sleep(0.06)
    with pytest.raises(TimeoutError, match=r"within 0\.05 seconds"):
        budget.left_s()


def test_a_budget_is_prolonged_from_now():
    budget = Budget(0.0, 10)
    with pytest.raises(TimeoutError, match="within 0 seconds"):
        budget.left_s()
    budget.prolong(30)
    assert 29 < budget.left_s() <= 30


def test_a_connection_that_was_prolonged_goes_on(peer):
    connection, _base = Api(peer(slowly())).connection(0.2, 1000)
    connection.request("GET", "/")
    connection.prolong(5)
    assert connection.getresponse().read() == b"late"
    connection.close()


def slowly():
    """An answer that takes longer than its time was at first."""
    time.sleep(0.4)
    yield OK + b"Content-Length: 4\r\n\r\nlate"


@pytest.mark.parametrize(
    ("address", "is_near"),
    [
        *((near, True) for near in ("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "169.254.169.254")),
        *((near, True) for near in ("fe80::1", "fe80::1%eth0", "::ffff:127.0.0.1", "::ffff:169.254.169.254")),
        *((far, False) for far in ("10.0.0.1", "192.168.1.1", "1.1.1.1", "2606:4700::1111", "fd00::1", "::ffff:10.0.0.1")),
    ],
)
def test_what_lies_on_this_machine_or_its_own_link(address, is_near):
    assert _socket.is_near(address) is is_near
