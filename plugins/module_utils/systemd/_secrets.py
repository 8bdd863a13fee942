# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which environment values are secrets, and what people see in their place. Pure."""

from __future__ import annotations

import re
from typing import Mapping

MASK = "********"
_SECRET_NAME = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
# Looked for from its slashes on: a scheme that may begin anywhere is sought in a time that grows with the square.
_URL_CREDENTIALS = re.compile(r"(?<=[A-Za-z0-9+.-])(?P<scheme>://)[^/@\s]+@")
_BARE_CREDENTIALS = re.compile(r"^[^/@\s:]+:[^/@\s]+@")


def masked(name: str, value: str) -> str:
    """The value as it may be shown: whole when the name tells a secret, else without a URL's credentials."""
    if _SECRET_NAME.search(name):
        return MASK if value else value
    shown = _URL_CREDENTIALS.sub(rf"\g<scheme>{MASK}@", value)
    if name.lower().endswith("_proxy"):
        shown = _BARE_CREDENTIALS.sub(f"{MASK}@", shown)
    return shown


def masked_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with their secret values masked."""
    return {name: masked(name, value) for name, value in variables.items()}


def secret_values(variables: Mapping[str, str]) -> list[str]:
    """The values that must not be shown, longest first, so that none is cut by a shorter one."""
    secrets = {value for name, value in variables.items() if value and masked(name, value) != value}
    return sorted(secrets, key=len, reverse=True)


def redacted(text: str, secrets: list[str]) -> str:
    """The text with every secret replaced; secrets as C(secret_values) orders them."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text
