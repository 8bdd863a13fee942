# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of models: the short form that Ollama lists, and when two names mean one model."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Source: Ollama v0.33.0-rc2 types/model/name.go.
DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
# Of host, namespace, model and tag together, Ollama takes some 590.
MAX_NAME_CHARACTERS = 600

_PART = r"[A-Za-z0-9_][A-Za-z0-9_%s-]{0,%d}"
_HOST, _NAMESPACE = re.compile(_PART % (".:", 349)), re.compile(_PART % ("", 79))
_MODEL_OR_TAG = re.compile(_PART % (".", 79))


_PIN = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")


def pin_of(digest: str) -> str:
    """The digits of a digest that a model is pinned to, 12 to 64 of them; empty of what is none."""
    found = _PIN.fullmatch(digest.strip().lower())
    return found[1] if found else ""


def is_name(host: str, namespace: str, model: str, tag: str) -> bool:
    """Whether Ollama takes these parts for a model's name; others it reports as a bad manifest name and passes over.

    Source: Ollama v0.33.0-rc2 types/model/name.go (isValidLen, isValidPart).
    """
    parts = ((_HOST, host), (_NAMESPACE, namespace), (_MODEL_OR_TAG, model), (_MODEL_OR_TAG, tag))
    return all(pattern.fullmatch(part) for pattern, part in parts)


def name_parts(name: str) -> tuple[str, str, str, str]:
    """Host, namespace, model and tag of a name, with Ollama's own where it leaves them out. A host may have a port.

    Source: Ollama v0.33.0-rc2 types/model/name.go (ParseName).
    """
    path, tag = name.strip(), ""
    if path.rfind(":") > path.rfind("/"):
        path, _colon, tag = path.rpartition(":")
    rest, _slash, model = path.rpartition("/")
    host, _slash, namespace = rest.rpartition("/")
    scheme, separator, after = host.partition("://")
    host = (after if separator else scheme) or DEFAULT_HOST
    return host, namespace or DEFAULT_NAMESPACE, model, tag or DEFAULT_TAG


def short_name(name: str) -> str:
    """The name without the default host and namespace and with its tag: `gemma3` is `gemma3:latest`.

    Source: Ollama v0.33.0-rc2 types/model/name.go (DisplayShortest).
    """
    host, namespace, model, tag = name_parts(name)
    shown = [model]
    if host.lower() != DEFAULT_HOST:
        shown = [host, namespace, model]
    elif namespace.lower() != DEFAULT_NAMESPACE:
        shown = [namespace, model]
    return f"{'/'.join(shown)}:{tag}"


def name_key(name: str) -> str:
    """What is equal for all names of one model: Ollama does not tell upper from lower case.

    Source: Ollama v0.33.0-rc2 server/routes.go (getExistingName), types/model/name.go (EqualFold).
    """
    return short_name(name).lower()


def same_model(first: str, second: str) -> bool:
    """Whether two names mean the same model."""
    return name_key(first) == name_key(second)


def unlike(names: Iterable[str]) -> list[str]:
    """The names in their order, of those that mean the same model only the first."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(name_key(name), name)
    return list(first.values())
