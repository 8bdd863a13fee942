# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets do not show, and everything else does."""

from __future__ import annotations

import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import KNOWN
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import (
    MASK,
    cut_at_secret,
    is_secret,
    masked,
    masked_command,
    masked_environment,
    masked_option,
    masked_text,
    redacted,
    secret_values,
)
from hypothesis import given
from hypothesis import strategies as st

OF_SECRETS = """
    OPENAI_API_KEY HF_TOKEN CLIENT_SECRET DB_PASSWORD db_passwd AWS_CREDENTIALS LLAMA_API_KEY API_KEYS API_KEY_2 apiKey HFTOKEN
    AWS_ACCESS_KEY_ID MYSECRETVALUE DB_PASS PGPASS MYSQL_PWD SMTP_PASS PASSPHRASE GPG_PASSPHRASE AUTHORIZATION AUTH_HEADER
    BASIC_AUTH BEARER JWT COOKIE GITHUB_PAT DSN SENTRY_DSN OTEL_EXPORTER_OTLP_HEADERS PRIVATE SESSION_ID SLACK_WEBHOOK_URL
    AZURE_CONNECTION_STRING OLLAMA_API_KEY HF_TOKENS MY_HF_TOKENS TOKENS X_CREDS LDAP_BINDPW MY_PW KEYSTORE_PIN
"""
OTHERS = """
    PATH HOME PWD OLDPWD SSH_AUTH_SOCK XDG_SESSION_ID PATTERN KEYBOARD TOKENIZERS_PARALLELISM MAX_TOKENS PASSENGERS AUTHOR
    LANG DESIGN NUM_TOKENS N_TOKENS PINNED CREDO SPWN __ TOKENS_SEEN
    LD_LIBRARY_PATH INVOCATION_ID JOURNAL_STREAM LLAMA_ARG_CTX_SIZE LLAMA_ARG_N_PREDICT NVIDIA_DRIVER_CAPABILITIES
"""


@pytest.mark.parametrize("name", OF_SECRETS.split())
def test_values_of_secret_names_are_masked(name):
    assert masked(name, "hunter2") == MASK


@pytest.mark.parametrize("name", [*OTHERS.split(), *KNOWN])
def test_values_of_other_names_and_of_every_setting_of_ollama_are_shown(name):
    assert not is_secret(name)
    assert masked(name, "hunter2") == "hunter2"


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
        ("HTTPS_PROXY", "http://user:p@ss@proxy", f"http://{MASK}@proxy"),
        ("HTTPS_PROXY", "http://user:pa/ss@proxy", f"http://{MASK}@proxy"),
        ("HTTP_PROXY", "http://user:pa ss@proxy", f"http://{MASK}@proxy"),
        ("http_proxy", "user:pa/s@s@proxy:3128", f"{MASK}@proxy:3128"),
        ("GIT", "https://ghp_abc@github.com/x", f"https://{MASK}@github.com/x"),
        ("DATABASE_URL", "postgres://u:pw@h/db", f"postgres://{MASK}@h/db"),
        ("OLLAMA_REMOTES", "https://u:p@h,https://v:q@i", f"https://{MASK}@h,https://{MASK}@i"),
        ("BLOB", "https://h/c?sv=1&sig=pw&x=2", f"https://h/c?sv=1&sig={MASK}&x=2"),
        ("URL", "https://h/?api_key=pw", f"https://h/?api_key={MASK}"),
        ("EXTRA_ARGS", "--verbose --api-key pw --port 1", f"--verbose --api-key {MASK} --port 1"),
        ("EXTRA_ARGS", "--api-key=pw", f"--api-key={MASK}"),
    ],
)
def test_of_other_values_only_the_secrets_in_them_are_masked(name, value, shown):
    assert masked(name, value) == shown


def test_of_an_option_values_that_are_no_text_yet_are_masked_too():
    option = {"HF_TOKEN": None, "API_KEY": 5, "N": 5, "B_KEY": "x", "C_KEY": "", "URL": "http://u:p@h", 3: True}
    assert masked_option(option) == {**option, "API_KEY": MASK, "B_KEY": MASK, "URL": f"http://{MASK}@h"}


def test_an_environment_is_masked_variable_by_variable():
    assert masked_environment({"A": "1", "MY_KEY": "2"}) == {"A": "1", "MY_KEY": MASK}


def test_secrets_are_taken_out_of_messages_the_longest_first():
    secrets = secret_values({"A_TOKEN": "abc", "B_TOKEN": "abcdef", "C": "abc", "D_TOKEN": ""})
    assert secrets == ["abcdef", "abc"]
    assert redacted("said abcdef and abc", secrets) == f"said {MASK} and {MASK}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("started with HF_TOKEN=pw on port 1", f"started with HF_TOKEN={MASK} on port 1"),
        (
            "map[HF_TOKEN:pw OLLAMA_HOST:http://0.0.0.0:1]",
            f"map[HF_TOKEN:{MASK} OLLAMA_HOST:http://0.0.0.0:1]",
        ),
        ('{"token": "p w", "n": 1}', f'{{"token": {MASK}, "n": 1}}'),
        ("DB_PASS='p w' x", f"DB_PASS={MASK} x"),
        ("DB_PASS='p w'more\"p w\" x", f"DB_PASS={MASK} x"),
        ('Environment="DB_PASS=p w" "A=1"', f'Environment="DB_PASS={MASK}" "A=1"'),
        ("authorization: Bearer pw, then", f"authorization: Bearer {MASK}, then"),
        ("curl -H 'Authorization: Basic pw' h", f"curl -H 'Authorization: {MASK}' h"),
        ("sent Bearer pw", f"sent Bearer {MASK}"),
        ("HTTP_PROXY=u:p@proxy:3128 A=1", f"HTTP_PROXY={MASK}@proxy:3128 A=1"),
        ("HTTP_PROXY=proxy:3128", "HTTP_PROXY=proxy:3128"),
        ("one\nproxy http://u:p@h\nlast", f"one\nproxy http://{MASK}@h\nlast"),
        ("the key to it is simple", "the key to it is simple"),
        ("auth failed", "auth failed"),
        ("authorization: Bearer", f"authorization: {MASK}"),
        ("authorization: Bearer ", f"authorization: {MASK} "),
        ('"--api-key p w" x', f'"--api-key {MASK}" x'),
    ],
)
def test_secrets_in_text_are_masked_and_stay_so(text, shown):
    assert masked_text(text) == shown
    assert masked_text(shown) == shown


def test_of_a_command_line_what_follows_a_secrets_option_is_hidden():
    command = ["/bin/llama-server", "--api-key", "pw", "--port", "1", "--token=pw", "-m", "http://u:p@h/x"]
    assert masked_command(command) == [
        *(
            "/bin/llama-server",
            "--api-key",
            MASK,
            "--port",
            "1",
            f"--token={MASK}",
            "-m",
            f"http://{MASK}@h/x",
        )
    ]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["--api-key", ""], ["--api-key", ""]),
        (["token", "x"], ["token", "x"]),
        (["--port", "x", "--api-key"], ["--port", "x", "--api-key"]),
    ],
)
def test_of_a_command_line_nothing_else_is_hidden(command, shown):
    assert masked_command(command) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# old token pw and more", f"# old token {MASK}"),
        ("ExecStart=/bin/x --api-key pw", f"ExecStart=/bin/x --api-key {MASK}"),
        ("SetCredential=hf:pw", f"SetCredential {MASK}"),
        ("# get it by http://u:p@h", f"# get it by http://{MASK}@h"),
        ("# the token", "# the token"),
        ("LimitNOFILE=100", "LimitNOFILE=100"),
    ],
)
def test_what_is_not_understood_is_cut_where_a_secret_may_begin(text, shown):
    assert cut_at_secret(text) == shown


@pytest.mark.parametrize(
    "text",
    ["a", "a.", "a=", "key=", "key='", '"', "http://", "http://@", "@", "A_", "key: ", "token ", "-\n"],
)
def test_the_time_of_masking_grows_with_the_text_and_no_faster(text):
    def seconds(size):
        shown = text * (size // len(text))
        began = time.process_time()
        masked("NAME", shown)
        masked(shown, shown)
        cut_at_secret(shown)
        return time.process_time() - began

    few, many = min(seconds(1 << 17) for _turn in range(3)), seconds(1 << 20)
    # Eight times the text: what grows with the square takes 64 times as long.
    assert many < 24 * few + 0.1


PIECES = [
    "HF_TOKEN",
    "api-key",
    "--token",
    "Bearer",
    "A",
    "=",
    ": ",
    " ",
    '"',
    "'",
    "http://",
    "@",
    "pw",
    "&",
    "\n",
    MASK,
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_what_is_masked_once_is_masked_alike_a_second_time(text):
    assert masked_text(masked_text(text)) == masked_text(text)
