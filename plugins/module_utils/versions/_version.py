# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A version of Ollama, by its text; the rules that it follows are another file's, which no host needs."""

from __future__ import annotations

import re

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

_VERSION = re.compile(r"^v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:[-+]([0-9A-Za-z.+-]{1,64}))?$")


@dataclass(frozen=True)
class Version:
    """A released or pre-released version of Ollama."""

    major: int
    minor: int
    patch: int
    prerelease: str = ""

    @property
    def release(self) -> tuple[int, int, int]:
        """The numbers alone: a release candidate follows the rules of the release it precedes."""
        return (self.major, self.minor, self.patch)

    def __str__(self) -> str:
        suffix = f"-{self.prerelease}" if self.prerelease else ""
        return f"{self.major}.{self.minor}.{self.patch}{suffix}"


def parse(text: str | Version) -> Version:
    """The version that a text such as `0.33.0-rc2` or `v0.12` names.

    Raises: ValueError when the text is no version.
    """
    if isinstance(text, Version):
        return text
    match = _VERSION.match(text.strip())
    if match is None:
        raise ValueError(f"'{text:.80}' is not a version of Ollama; expected e.g. 0.33.0 or 0.33.0-rc2.")
    major, minor, patch, prerelease = match.groups()
    return Version(int(major), int(minor), int(patch or 0), prerelease or "")
