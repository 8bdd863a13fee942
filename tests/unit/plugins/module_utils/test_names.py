# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A name means one thing in all rooms."""

from __future__ import annotations

import ast
from collections import defaultdict

from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

ROOMS = CHECKOUT / "plugins" / "module_utils"


def test_no_two_public_classes_have_the_same_name() -> None:
    places = defaultdict(list)
    for path in ROOMS.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOMS)))
    assert len(places) > 100
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
