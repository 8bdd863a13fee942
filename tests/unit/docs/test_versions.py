# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`version_added` is a version that was released, or the one that comes next."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

ADDED = re.compile(r"^\s*version_added: *['\"]?([0-9.]+)['\"]?$", re.MULTILINE)
DOCUMENTED = [
    *sorted((CHECKOUT / "plugins" / "modules").glob("*.py")),
    *sorted((CHECKOUT / "plugins" / "filter").glob("*.py")),
    *sorted((CHECKOUT / "roles").glob("*/meta/argument_specs.yml")),
]


def read(name: str) -> dict:
    return yaml.safe_load((CHECKOUT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", DOCUMENTED, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_what_is_there_was_added_in_a_release_or_comes_with_the_next(path):
    known = {*read("changelogs/changelog.yaml")["releases"], read("galaxy.yml")["version"]}
    added = ADDED.findall(path.read_text(encoding="utf-8"))
    assert set(added) <= known
    assert added or path.parent.name == "meta"
