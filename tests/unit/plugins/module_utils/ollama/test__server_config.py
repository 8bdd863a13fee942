# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server config line of recorded servers, and what it says against what was wanted."""

from __future__ import annotations

import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_config import (
    find_server_config,
    parse_map,
    unparsed,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import CAPTURES


@pytest.mark.parametrize("log", sorted(CAPTURES.glob("*/server.log")), ids=lambda path: path.parent.name)
def test_recorded_servers(log):
    config = find_server_config(log.read_text().splitlines())
    assert len(config) == 39
    assert config["OLLAMA_ORIGINS"].startswith("[http://localhost https://localhost ")
    assert config["OLLAMA_ORIGINS"].endswith(" vscode-file://*]")
    assert config["OLLAMA_REMOTES"] == "[ollama.com]"
    assert config["no_proxy"] == ""
    assert config["OLLAMA_MODELS"] == "/usr/share/ollama/.ollama/models"


def test_the_environment_of_a_recording_is_what_its_line_says():
    config = find_server_config((CAPTURES / "np1_ctx4096_q8_fa" / "server.log").read_text().splitlines())
    wanted = {"OLLAMA_CONTEXT_LENGTH": "4096", "OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": "1"}
    assert unparsed(config, wanted) == {}
    assert unparsed(
        config, {**wanted, "OLLAMA_NUM_PARALLEL": "3", "OLLAMA_KEEP_ALIVE": "24h", "PATH": "/x"}
    ) == {
        "OLLAMA_NUM_PARALLEL": ("1", "3"),
        "OLLAMA_KEEP_ALIVE": ("5m0s", "24h0m0s"),
    }


def test_values_with_spaces_colons_and_brackets():
    assert parse_map(
        "map[A:x y B:http://h:1 OLLAMA_HOST:http://[::1]:1 OLLAMA_ORIGINS:[a [b] c] http_proxy:http://p]"
    ) == {
        "A": "x y",
        "B": "http://h:1",
        "OLLAMA_HOST": "http://[::1]:1",
        "OLLAMA_ORIGINS": "[a [b] c]",
        "http_proxy": "http://p",
    }
    assert parse_map("map[]") == {}
    assert parse_map("map[A:[unclosed]") == {"A": "[unclosed"}


def test_quotes_in_the_line_are_escaped():
    line = r'msg="server config" env="map[A:say \"x\" \\ B:]"'
    assert find_server_config([line]) == {"A": 'say "x" \\', "B": ""}


def test_the_last_line_counts_and_none_is_none():
    line = 'time=x msg="server config" env="map[A:{}]"'
    assert find_server_config([line.format(1), "other", line.format(2)]) == {"A": "2"}
    assert find_server_config(["nothing", ""]) is None


@pytest.mark.parametrize(
    ("logged", "value"),
    [
        (r"a\tb", "a\tb"),
        (r"a\u00a0b", "a\u00a0b"),
        (r"a\x7fb", "a\x7fb"),
        (r"a\U0001f600b", "a\U0001f600b"),
        (r"a\\tb", r"a\tb"),
        (r"a\xe9b", b"a\xe9b".decode("utf-8", "surrogateescape")),
        (r"a\a\b\f\n\r\vb", "a\a\b\f\n\r\vb"),
        (r"a\Uffffffffb", r"a\Uffffffffb"),
    ],
)
def test_escapes_of_go_are_undone(logged, value):
    assert find_server_config([f'msg="server config" env="map[A:{logged}]"']) == {"A": value}


@pytest.mark.parametrize("piece", ["A:[ ", "A:b ", "[", "]", "A", "A:[b] ", "a:", "http_proxy:"])
def test_a_long_line_is_soon_read(piece):
    began = time.monotonic()
    parse_map(f"map[{piece * (1_000_000 // len(piece))}]")
    assert time.monotonic() - began < 5


def test_a_bracket_that_is_never_closed_ends_where_the_next_name_begins():
    assert parse_map("map[A:[x [y] B:[z] C:1]") == {"A": "[x [y]", "B": "[z]", "C": "1"}
