# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of Ollama's environment, read as Ollama v0.33.0-rc2 reads them (envconfig/config.go and its tests)."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import url_of_host
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import as_printed, problems
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._values import address, boolean, cleaned
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("value", "text"),
    [(' "3" ', "3"), ("'3'", "3"), ("\t3\u00a0", "3"), ('" 3"', " 3"), ("\u2003'3'\u3000", "3"), ("", "")],
)
def test_values_are_cleaned_as_ollama_does(value, text):
    assert cleaned(value) == text


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, None),
        ("", None),
        (" '' ", None),
        ("1", True),
        ("'T'", True),
        ("yes", True),
        ("off", True),
        ("no", True),
        ("2", True),
        ("0", False),
        (" FALSE ", False),
        ('"f"', False),
    ],
)
def test_a_switch_that_does_not_parse_is_on(value, read):
    assert boolean(value) is read


# value of OLLAMA_HOST, the URL that Ollama prints, the URL at which a client on the host reaches it
ADDRESSES = [
    ("", "http://127.0.0.1:11434", "http://127.0.0.1:11434"),
    ("   ", "http://127.0.0.1:11434", "http://127.0.0.1:11434"),
    ("127.0.0.1", "http://127.0.0.1:11434", "http://127.0.0.1:11434"),
    ("1.2.3.4:1234", "http://1.2.3.4:1234", "http://1.2.3.4:1234"),
    ("0.0.0.0", "http://0.0.0.0:11434", "http://127.0.0.1:11434"),
    ("0.0.0.0:8080", "http://0.0.0.0:8080", "http://127.0.0.1:8080"),
    (":8080", "http://:8080", "http://127.0.0.1:8080"),
    (":0", "http://:0", "http://127.0.0.1:0"),
    ("::", "http://[::]:11434", "http://[::1]:11434"),
    ("[::]", "http://[::]:11434", "http://[::1]:11434"),
    ("[::]:8080", "http://[::]:8080", "http://[::1]:8080"),
    ("::1", "http://[::1]:11434", "http://[::1]:11434"),
    ("[::1]", "http://[::1]:11434", "http://[::1]:11434"),
    ("[::1", "http://[::1]:11434", "http://[::1]:11434"),
    ("[::1]:1337", "http://[::1]:1337", "http://[::1]:1337"),
    ("2001:DB8:0:0::7", "http://[2001:db8::7]:11434", "http://[2001:db8::7]:11434"),
    ("::ffff:1.2.3.4", "http://1.2.3.4:11434", "http://1.2.3.4:11434"),
    ("[::ffff:0.0.0.0]:80", "http://[::ffff:0.0.0.0]:80", "http://127.0.0.1:80"),
    ("[fe80::1%eth0]:11434", "http://[fe80::1%25eth0]:11434", "http://[fe80::1%eth0]:11434"),
    ("example.com", "http://example.com:11434", "http://example.com:11434"),
    ("example.com:1234", "http://example.com:1234", "http://example.com:1234"),
    ("http://1.2.3.4", "http://1.2.3.4:80", "http://1.2.3.4:80"),
    ("http://1.2.3.4:4321", "http://1.2.3.4:4321", "http://1.2.3.4:4321"),
    ("http://gpu:0", "http://gpu:0", "http://gpu:0"),
    ("https://1.2.3.4", "https://1.2.3.4:443", "http://1.2.3.4:443"),
    ("https://example.com/ollama", "https://example.com:443/ollama", "http://example.com:443"),
    ("https://gpu:443/x/", "https://gpu:443/x/", "http://gpu:443"),
    ("ollama.com", "https://ollama.com:443", "http://ollama.com:443"),
    ("gpu:80/path", "http://gpu:80/path", "http://gpu:80"),
    ("unix:///run/o.sock", "unix://127.0.0.1:11434/run/o.sock", "http://127.0.0.1:11434"),
    (' " 1.2.3.4 " ', "http://1.2.3.4:11434", "http://1.2.3.4:11434"),
    (" 'gpu:80' ", "http://gpu:80", "http://gpu:80"),
    ("\x0bgpu:80", "http://gpu:80", "http://gpu:80"),
    ("1.2.3.4:+8080", "http://1.2.3.4:+8080", "http://1.2.3.4:8080"),
    (":+8080", "http://:+8080", "http://127.0.0.1:8080"),
    ("1.2.3.4:08080", "http://1.2.3.4:08080", "http://1.2.3.4:8080"),
    ("gpu_1.lan.", "http://gpu_1.lan.:11434", "http://gpu_1.lan.:11434"),
]
# The same, where the port is none and Ollama takes the default.
PORTS_REFUSED = [
    ("localhost:", "http://localhost:11434", "http://localhost:11434"),
    ("1.2.3.4:port", "http://1.2.3.4:11434", "http://1.2.3.4:11434"),
    (":66000", "http://:11434", "http://127.0.0.1:11434"),
    (":-1", "http://:11434", "http://127.0.0.1:11434"),
    ("gpu: 8080", "http://gpu:11434", "http://gpu:11434"),
    ("1.2.3.4:\u0663\u0663", "http://1.2.3.4:11434", "http://1.2.3.4:11434"),
    ("https://1.2.3.4:99999", "https://1.2.3.4:443", "http://1.2.3.4:443"),
]
# The same, where Ollama does not start, because nothing can be listened on.
NO_ADDRESSES = [
    ("foo:bar:80", "http://[foo:bar:80]:11434"),
    ("[fe80::1%eth0]", "http://[[fe80::1%25eth0]]:11434"),
    # Meant as every address, or as a port alone.
    ("*", "http://*:11434"),
    ("*:11434", "http://*:11434"),
    ("http://*:8080", "http://*:8080"),
    ("11434", "http://11434:11434"),
    ("0", "http://0:11434"),
    ("256.1.1.1", "http://256.1.1.1:11434"),
    ("0.0.0.0;11434", "http://0.0.0.0;11434:11434"),
    ("my host", "http://my%20host:11434"),
    ("-gpu", "http://-gpu:11434"),
    ("caf\u00e9", "http://caf%C3%A9:11434"),
    # Not text: from a byte that is not UTF-8, or in JSON.
    ("gpu\udcff:80/\ud800", "http://gpu%ED%B3%BF:80/%ED%A0%80"),
]


@pytest.mark.parametrize(("value", "url", "client_url"), [*ADDRESSES, *PORTS_REFUSED])
def test_an_address_is_what_ollama_takes_it_for(value, url, client_url):
    assert (address(value).url, address(value).client_url) == (url, client_url)
    assert url_of_host(value) == client_url
    assert as_printed("OLLAMA_HOST", value) == (url if cleaned(value) else None)


@pytest.mark.parametrize("value", [row[0] for row in ADDRESSES])
def test_an_address_that_ollama_takes_as_it_stands_is_no_problem(value):
    assert problems({"OLLAMA_HOST": value}) == []


@pytest.mark.parametrize("value", [row[0] for row in PORTS_REFUSED])
def test_a_port_that_ollama_does_not_take_is_a_problem(value):
    (problem,) = problems({"OLLAMA_HOST": value})
    assert "has no valid port" in problem


@pytest.mark.parametrize(("value", "url"), NO_ADDRESSES)
def test_what_nothing_can_listen_on_is_a_problem(value, url):
    assert address(value).url == url
    (problem,) = problems({"OLLAMA_HOST": value})
    assert "is no address" in problem


@given(st.text(max_size=30))
def test_any_value_has_a_port(value):
    found = address(value)
    assert 0 <= int(found.port) <= 65535
    assert found.client_url.startswith("http://")


@given(st.ip_addresses(v=4), st.integers(min_value=1, max_value=65535))
def test_the_printed_url_means_the_same_address_again(ip, port):
    url = address(f"{ip}:{port}").url
    assert urlsplit(url).port == port
    assert address(url).url == url
