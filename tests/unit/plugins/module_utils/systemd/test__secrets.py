# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets do not show, and everything else does."""

from __future__ import annotations

import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import (
    MASK,
    masked,
    masked_environment,
    redacted,
    secret_values,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "HF_TOKEN", "CLIENT_SECRET", "DB_PASSWORD", "db_passwd", "AWS_CREDENTIALS"]
)
def test_values_of_secret_names_are_masked(name):
    assert masked(name, "hunter2") == MASK


def test_an_empty_secret_is_shown_as_empty():
    assert masked("HF_TOKEN", "") == ""


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("HTTPS_PROXY", "http://user:pass@proxy:3128", f"http://{MASK}@proxy:3128"),
        ("https_proxy", "user:pass@proxy:3128", f"{MASK}@proxy:3128"),
        ("OLLAMA_ORIGINS", "https://a:b@x,https://y", f"https://{MASK}@x,https://y"),
        ("HTTPS_PROXY", "http://proxy:3128", "http://proxy:3128"),
        ("OLLAMA_KEEP_ALIVE", "24h", "24h"),
        ("OLLAMA_NUM_PARALLEL", "3", "3"),
        ("MAIL", "a@b", "a@b"),
    ],
)
def test_only_the_credentials_of_urls_are_masked(name, value, shown):
    assert masked(name, value) == shown


def test_an_environment_is_masked_variable_by_variable():
    assert masked_environment({"A": "1", "MY_KEY": "2"}) == {"A": "1", "MY_KEY": MASK}


def test_secrets_are_taken_out_of_messages_the_longest_first():
    secrets = secret_values({"A_TOKEN": "abc", "B_TOKEN": "abcdef", "C": "abc", "D_TOKEN": ""})
    assert secrets == ["abcdef", "abc"]
    assert redacted("said abcdef and abc", secrets) == f"said {MASK} and {MASK}"


@pytest.mark.parametrize("name", ["A", "HTTPS_PROXY"])
@pytest.mark.parametrize("piece", ["a", "a://", "://", "a://b", "a:b", "@", "a@", "http://u:p", "+.-", "http://u:p@h "])
def test_a_long_text_is_masked_soon(name, piece):
    began = time.monotonic()
    masked(name, piece * (1_000_000 // len(piece)))
    assert time.monotonic() - began < 1


@given(st.text("abc", min_size=1), st.text("abc:1.+-", min_size=1))
def test_credentials_are_masked_wherever_a_url_begins(user, before):
    assert masked("A", f"{before}x://{user}:secret@host") == f"{before}x://********@host"
