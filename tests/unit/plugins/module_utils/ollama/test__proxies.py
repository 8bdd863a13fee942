# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry is asked by the proxy that Go finds in the service's environment.

Each row is what a program of Go 1.27.3 printed that asked http.ProxyFromEnvironment in this environment; but for MALFORMED,
where that goes to a host that nobody meant, or to none.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._socket import Proxy
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._proxies import (
    Proxies,
    ProxyError,
    proxies_of,
)
from hypothesis import given
from hypothesis import strategies as st

TLS, PLAIN = "https://registry.ollama.ai/v2/x", "http://10.1.2.3:5000/v2/x"
URL = "http://proxy.example:3128"


def proxy(url, **environment):
    parts = urlsplit(url)
    return proxies_of({"PATH": "/bin", **environment})(parts.scheme, parts.hostname, parts.port)


@pytest.mark.parametrize(
    ("url", "environment", "found"),
    [
        (TLS, {}, None),
        (TLS, {"HTTPS_PROXY": URL}, "HTTPS_PROXY"),
        (TLS, {"https_proxy": URL}, "https_proxy"),
        (PLAIN, {"HTTP_PROXY": URL}, "HTTP_PROXY"),
        (PLAIN, {"http_proxy": URL}, "http_proxy"),
        (TLS, {"HTTP_PROXY": URL}, None),
        (PLAIN, {"HTTPS_PROXY": URL}, None),
        (TLS, {"ALL_PROXY": URL}, None),
        (TLS, {"HTTPS_PROXY": URL, "https_proxy": "http://lower:2"}, "HTTPS_PROXY"),
        (TLS, {"HTTPS_PROXY": "", "https_proxy": URL}, "https_proxy"),
    ],
)
def test_which_variable(url, environment, found):
    there = proxy(url, **environment)
    assert (there and there.variable) == found
    assert there is None or (there.host, there.port) == ("proxy.example", 3128)


@pytest.mark.parametrize(
    ("value", "host", "port", "authorization"),
    [
        ("proxy.example:3128", "proxy.example", 3128, ""),
        ("proxy.example", "proxy.example", 80, ""),
        ("10.0.0.9:3128", "10.0.0.9", 3128, ""),
        ("HTTP://proxy.example:3128/path", "proxy.example", 3128, ""),
        ("http://proxy:", "proxy", 80, ""),
        ("[fd00::1]:3128", "fd00::1", 3128, ""),
        ("http://[fd00::1]:3128", "fd00::1", 3128, ""),
        (":3128", "localhost", 3128, ""),
        # user:pa@ss, user:, u:p@w
        ("user:pa%40ss@proxy:3128", "proxy", 3128, "Basic dXNlcjpwYUBzcw=="),
        ("http://user@proxy", "proxy", 80, "Basic dXNlcjo="),
        ("http://u:p@w@proxy:1", "proxy", 1, "Basic dTpwQHc="),
    ],
)
def test_how_a_proxy_is_written(value, host, port, authorization):
    assert proxy(TLS, HTTPS_PROXY=value) == Proxy("HTTPS_PROXY", host, port, authorization)


MALFORMED = (
    *("http://", "http:proxy:1", "http://a b:1", "http://proxy:port", " http://proxy:1", "/proxy", "//proxy:1", "http://proxy:99999"),
    *("http://u:hunter2#w@proxy:1", "http://u:hunter2 w@proxy:1", "http://u:hunter2/w@proxy:1", "http://u:hunter2%zz@proxy:1"),
)


@pytest.mark.parametrize("value", MALFORMED)
def test_what_is_no_proxy(value):
    with pytest.raises(ProxyError, match="the service's HTTPS_PROXY is no URL of a proxy: expected one like") as raised:
        proxy(TLS, HTTPS_PROXY=value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "https", "ftp"])
def test_a_kind_that_this_look_does_not_go_by(scheme):
    with pytest.raises(ProxyError, match=f"HTTP_PROXY is a proxy of the kind {scheme}, by which Ollama may go") as raised:
        proxy(PLAIN, HTTP_PROXY=f"{scheme}://user:hunter2@proxy:1080")
    assert "hunter2" not in str(raised.value)
    assert proxy(PLAIN, HTTP_PROXY=f"{scheme}://proxy:1080", NO_PROXY="10.1.2.3") is None


@pytest.mark.parametrize(
    ("url", "is_proxied"),
    [
        *((f"http://{near}/", False) for near in ("localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]")),
        *((f"http://{far}/", True) for far in ("localhost.:5000", "a.localhost:1", "169.254.169.254", "0.0.0.0")),
    ],
)
def test_this_machine_is_asked_without_one(url, is_proxied):
    assert (proxy(url, HTTP_PROXY=URL) is not None) is is_proxied


A, B, C = "https://example.com/", "https://a.example.com/", "https://notexample.com/"
V6 = "http://[fd00::5]:5000/"


@pytest.mark.parametrize(
    ("no_proxy", "without", "by_proxy"),
    [
        ("example.com", (A, B, "https://EXAMPLE.com/", "https://example.com:8443/"), (C, "https://example.com./")),
        (".example.com", (B,), (A, C)),
        ("*.example.com", (B,), (A, C)),
        ("*example.com", (), (A, C)),
        ("example.com:443", (A, B), ("https://example.com:8443/", "http://example.com/")),
        ("example.com:80", ("http://example.com/",), (A,)),
        (" foo , EXAMPLE.com ,bar", (A,), (C,)),
        ("com", (A, "https://com/"), ("https://example.org/",)),
        ("*", (A, PLAIN, V6), ()),
        ("foo,*", (A,), ()),
        ("registry_1.example", ("http://registry_1.example:5000/",), ()),
        *((nothing, (), (A,)) for nothing in ("", ",,", ":443", ".", "foo *", "example.com.", "example.*")),
        *((nothing, (), (A,)) for nothing in ("http://example.com", "example.com/", "other;example.com", "0.0.0.0/0")),
        ("10.0.0.0/8", (PLAIN, "http://[::ffff:10.1.2.3]:5000/"), ("http://11.0.0.1/", "https://ten.example/")),
        ("10.1.2.4/8", (PLAIN,), ()),
        ("10.1.2.3/32", (PLAIN,), ("http://10.1.2.4/",)),
        ("10.1.2.3", (PLAIN, "http://[::ffff:10.1.2.3]:5000/"), ("http://10.1.2.4/",)),
        ("10.1.2.3:5000", (PLAIN,), ("http://10.1.2.3:5001/",)),
        ("::ffff:10.1.2.3", (PLAIN,), ()),
        ("0.0.0.0/0", (PLAIN,), (V6,)),
        *((nothing, (), (PLAIN,)) for nothing in ("10.0.0.0/255.0.0.0", "10.0.0.0/33", "10.", "10.*", "10.1.2.0/24:5000")),
        *((nothing, (), (PLAIN,)) for nothing in ("10.1.2", "10/8", "::/0")),
        ("fd00::/8", (V6,), ("http://[fe80::5]:5000/",)),
        ("fd00::5", (V6,), ()),
        ("fd00:0:0::5", (V6,), ()),
        ("[fd00::5]:5000", (V6,), ("http://[fd00::5]:5001/",)),
        ("[fd00::5]", (), (V6,)),
        ("bücher.example", ("https://xn--bcher-kva.example/", "https://bücher.example/"), ()),
        ("xn--bcher-kva.example", ("https://bücher.example/",), ()),
    ],
)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_what_is_excepted(variable, no_proxy, without, by_proxy):
    environment = {"HTTPS_PROXY": URL, "HTTP_PROXY": URL, variable: no_proxy}
    assert [url for url in (*without, *by_proxy) if proxy(url, **environment) is None] == list(without)


def test_only_the_first_variable_of_exceptions_counts():
    assert proxy(A, HTTPS_PROXY=URL, NO_PROXY="foo", no_proxy="example.com") is not None


def test_no_password_is_in_what_is_printed():
    found = proxies_of({"HTTPS_PROXY": "http://user:hunter2@proxy:1"})
    assert "hunter2" not in f"{found!r}"
    assert "hunter2" not in f"{found('https', 'a', None)!r}"
    assert str(found("https", "a", None)) == "the proxy proxy:1 (the service's HTTPS_PROXY)"
    assert Proxies()("https", "a", None) is None


TEXT = st.text(st.sampled_from("a.:/[]@%1* ,") | st.characters(), max_size=30)


@given(value=TEXT, excepted=TEXT, host=TEXT)
def test_whatever_stands_there_is_a_proxy_none_or_one_sentence(value, excepted, host):
    try:
        found = proxies_of({"HTTPS_PROXY": value, "NO_PROXY": excepted})("https", host, None)
    except ProxyError:
        return
    assert found is None or 0 <= found.port <= 65535
