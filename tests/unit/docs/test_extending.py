# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The diffs of docs/extending.md can be applied to the files as they are, and what comes of it is Python."""

from __future__ import annotations

import ast
import re

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

ROOMS = CHECKOUT / "plugins" / "module_utils"
PAGE = (CHECKOUT / "docs" / "extending.md").read_text(encoding="utf-8")
# Within a block each file begins with its name; hunks are parted by @@, by a blank line, or by lines of a new block.
FILE = re.compile(r"^--- (\S+)\n(.*?)(?=^--- |\Z)", re.MULTILINE | re.DOTALL)
DIFFS = [
    (name, hunks)
    for block in re.findall(r"^```diff\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for name, hunks in FILE.findall(block)
]


def applied(text: str, hunks: str) -> str:
    """The text with the hunks, each of which has to fit at exactly one place or to be new altogether."""
    for hunk in re.split(r"^(?:@@)?\n", hunks, flags=re.MULTILINE):
        lines = hunk.splitlines()
        old = "\n".join(line[1:] for line in lines if line[0] in " -")
        new = "\n".join(line[1:] for line in lines if line[0] in " +")
        if old:
            assert text.count(f"{old}\n") == 1, old
            text = text.replace(old, new)
        else:
            text += f"{new}\n"
    return text


def test_there_are_diffs_of_existing_and_of_new_files() -> None:
    assert len(DIFFS) > 10
    assert [name for name, _unused in DIFFS if not (ROOMS / name).exists()] == ["gpu/_xe.py"]


@pytest.mark.parametrize(("name", "hunks"), DIFFS, ids=[name for name, _unused in DIFFS])
def test_a_diff_fits(name: str, hunks: str) -> None:
    before = (ROOMS / name).read_text(encoding="utf-8") if (ROOMS / name).exists() else ""
    after = applied(before, hunks)
    assert after != before
    ast.parse(after)
