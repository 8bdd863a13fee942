# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names and values are secrets, and what people see in their place.

Every function takes time in proportion to the text, because what a host says may be long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "********"

# A name is a secret's where it holds one of these anywhere (HF_MYSECRET2) ...
_ANYWHERE = re.compile("SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTHORIZATION|COOKIE|APIKEY|SESSION_?ID")
# ... where one of its words ends like this (PGPASS, HFTOKEN), digits behind it left out ...
_ENDINGS = ("KEY", "KEYS", "TOKEN", "PASS", "PW", "CRED", "CREDS", "BEARER", "JWT", "DSN")
# ... or where it is one of its words.
_WORDS = frozenset(
    ("AUTH", "CONNECTION", "HEADER", "HEADERS", "PAT", "PIN", "PRIVATE", "PWD", "SAS", "SIG", "SIGNATURE", "WEBHOOK")
)
# What only looks like one: a switch of Ollama's, the shell's folders, a socket's path, a login's number.
# A number of tokens is none, and several secrets are.
_COUNTED = frozenset(("MAX", "MIN", "NUM", "N", "COUNT", "LIMIT"))
_NO_SECRETS = frozenset(("OLLAMA_AUTH", "PWD", "OLDPWD", "SSH_AUTH_SOCK", "XDG_SESSION_ID"))

_WORD = re.compile("[A-Z0-9]+")
_NAME = re.compile("[A-Za-z0-9_.-]+")
_ASSIGNS = re.compile("[\"']?[ \t]{0,8}[=:][ \t]{0,8}")
_SPACE = re.compile("[ \t]{1,8}")
_VALUE = re.compile("(?:\"[^\"\n]*\"?|'[^'\n]*'?|[^\\s\"'&,;)\\]}]+)+")
_TO_QUOTE = {'"': re.compile('[^"\n]+'), "'": re.compile("[^'\n]+")}
# Authorization: Bearer VALUE
_KINDS_OF_AUTHORIZATION = frozenset(("bearer", "basic", "digest", "token", "apikey"))


def is_secret(name: str) -> bool:
    """Whether a variable, an option or a key of that name holds a secret: judged by the words between its underscores."""
    upper = name.upper()
    if upper in _NO_SECRETS:
        return False
    words = _WORD.findall(upper)
    if words and words[-1].endswith("TOKENS") and not _COUNTED & set(words):
        return True
    return bool(_ANYWHERE.search(upper)) or any(
        word in _WORDS or word.rstrip("0123456789").endswith(_ENDINGS) for word in words
    )


def masked(name: str, value: str) -> str:
    """The value as it may be shown: hidden when the name tells a secret, else without the secrets in its text."""
    if is_secret(name):
        return MASK if value else value
    if name.lower().endswith("proxy") and "://" not in value:
        return _without_userinfo(value)
    return masked_text(value)


def masked_text(text: str) -> str:
    """The text with credentials of URLs hidden, and values that stand behind a secret's name.

    Hidden are `HF_TOKEN=x`, `api_key: x`, `--api-key x`, `?sig=x`, `Authorization: Bearer x`.
    A password may hold whatever it likes, so that of a URL all is hidden up to the last `@` of its line.
    """
    text = "\n".join(_without_credentials(line) for line in text.split("\n"))
    shown = []
    position = 0
    for name in _NAME.finditer(text):
        is_proxy = name[0].lower().endswith("proxy")
        if name.start() < position or not (is_proxy or is_secret(name[0])):
            continue
        hidden = _value_behind(text, name)
        if hidden:
            value = text[hidden[0] : hidden[1]]
            shown += [text[position : hidden[0]], _without_userinfo(value) if is_proxy else MASK]
            position = hidden[1]
    return "".join(shown) + text[position:]


def _without_credentials(line: str) -> str:
    first, *others = line.split("://")
    return "://".join([first, *map(_without_userinfo, others)])


def _without_userinfo(text: str) -> str:
    _userinfo, at_sign, host = text.rpartition("@")
    return f"{MASK}@{host}" if at_sign else text


def _value_behind(text: str, name: re.Match[str]) -> tuple[int, int] | None:
    """Where the value begins and ends that stands behind a name."""
    between = _ASSIGNS.match(text, name.end())
    if between is None and (name[0].startswith("-") or name[0].lower() == "bearer"):
        between = _SPACE.match(text, name.end())
    if between is None:
        return None
    before = text[name.start() - 1 : name.start()]
    # "HF_TOKEN=a b": the quote before the name ends the value.
    pattern = _TO_QUOTE[before] if before in _TO_QUOTE and between[0][0] != before else _VALUE
    value = pattern.match(text, between.end())
    if value and value[0].lower() in _KINDS_OF_AUTHORIZATION:
        gap = _SPACE.match(text, value.end())
        value = (gap and _VALUE.match(text, gap.end())) or value
    return value.span() if value else None


def masked_command(command: Sequence[str]) -> list[str]:
    """A command line's arguments as they may be shown: what follows `--api-key` is hidden too."""
    shown = []
    before = ""
    for argument in command:
        hidden = before.startswith("-") and "=" not in before and is_secret(before)
        shown.append(MASK if hidden and argument else masked_text(argument))
        before = argument
    return shown


def cut_at_secret(text: str) -> str:
    """The text up to where a secret may begin: for what is not understood well enough to hide only the secret."""
    text = "\n".join(_without_credentials(line) for line in text.split("\n"))
    for name in _NAME.finditer(text):
        if is_secret(name[0]) and text[name.end() :].strip(" \t\"'"):
            return f"{text[: name.end()]} {MASK}"
    return text


def masked_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with their secret values masked."""
    return {name: masked(name, value) for name, value in variables.items()}


def masked_option(environment: Mapping[Any, Any]) -> dict[Any, Any]:
    """An environment as an option gives it, where a value need not be text yet, with its secret values masked."""
    return {
        name: masked(str(name), value)
        if isinstance(value, str)
        else MASK
        if value is not None and is_secret(str(name))
        else value
        for name, value in environment.items()
    }


def secrets_of(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of the variables whose values must not be shown, wholly or in part."""
    return {name: value for name, value in variables.items() if masked(name, value) != value}


def secret_values(variables: Mapping[str, str]) -> list[str]:
    """The values that must not be shown, longest first, so that none is cut by a shorter one."""
    return sorted(set(secrets_of(variables).values()), key=len, reverse=True)


def redacted(text: str, secrets: list[str]) -> str:
    """The text with every secret replaced; secrets as `secret_values` orders them."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text
