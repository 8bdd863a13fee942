# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files and rooms that the pages name exist, and the tree of the architecture shows every pure room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

ROOMS = CHECKOUT / "plugins" / "module_utils"
PAGES = sorted((CHECKOUT / "docs").glob("*.md"))
FILE = re.compile(r"`([a-z0-9_/]*/)?(_[a-z0-9_]+\.py)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    named = FILE.findall(page.read_text(encoding="utf-8"))
    missing = [
        f"{folder}{name}"
        for folder, name in named
        if not any(path.as_posix().endswith(f"/{folder}{name}") for path in (CHECKOUT / "plugins").rglob(name))
    ]
    assert missing == []


def test_the_page_of_the_architecture_names_files_of_every_room() -> None:
    text = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert len(FILE.findall(text)) > 40
    rooms = {path.parent.relative_to(ROOMS).as_posix() for path in ROOMS.rglob("_*.py")} - {"."}
    assert [room for room in sorted(rooms) if f"{room.rpartition('/')[2]}/" not in text] == []
