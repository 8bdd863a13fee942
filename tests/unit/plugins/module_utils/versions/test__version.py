# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A version of Ollama by its text."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._version import Version, parse
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.33.0-rc2", Version(0, 33, 0, "rc2")),
        ("v0.12.7", Version(0, 12, 7)),
        ("0.30", Version(0, 30, 0)),
        (" 0.11.10 ", Version(0, 11, 10)),
        ("0.12.0+build.5", Version(0, 12, 0, "build.5")),
    ],
)
def test_a_version_is_read_from_what_ollama_prints(text: str, version: Version) -> None:
    assert parse(text) == version
    assert parse(version) == version


@pytest.mark.parametrize(
    "text", ["", "latest", "0", "0.x.1", "0.33.0 beta", "-1.2.3", "0.1.2.3", "9" * 20 + ".0"]
)
def test_what_is_no_version_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version of Ollama"):
        parse(text)


@given(st.tuples(*[st.integers(0, 99)] * 3))
def test_a_version_is_printed_as_it_is_read(numbers: tuple[int, int, int]) -> None:
    text = ".".join(str(number) for number in numbers)
    assert str(parse(text)) == text
    assert parse(text).release == numbers
