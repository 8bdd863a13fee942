# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of models, in the short form that `ollama list` prints."""

from __future__ import annotations

# Source: ollama v0.33.0-rc2, types/model/name.go; manifest/paths.go for the second spelling of the host.
DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_HOSTS = (DEFAULT_HOST, "ollama.com")
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
# Of host, namespace, model and tag together, Ollama takes some 590.
MAX_NAME_CHARACTERS = 600


def short_name(name: str) -> str:
    """The name without the default host and namespace and with its tag: `gemma3` is `gemma3:latest`."""
    path, tag = name, ""
    if ":" in name.rsplit("/", 1)[-1]:
        path, tag = name.rsplit(":", 1)
    parts = path.split("/")
    if len(parts) == 3 and parts[0].lower() in DEFAULT_HOSTS:
        parts = parts[1:]
    if len(parts) == 2 and parts[0].lower() == DEFAULT_NAMESPACE:
        parts = parts[1:]
    return "/".join(parts) + ":" + (tag or DEFAULT_TAG)


def same_model(first: str, second: str) -> bool:
    """Whether two names mean the same model; Ollama does not tell upper from lower case."""
    return short_name(first).lower() == short_name(second).lower()
