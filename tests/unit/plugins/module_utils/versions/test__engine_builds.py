# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The builds of the engine as values."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import (
    B10488,
    NEWEST_BUILD,
    EngineBuild,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._versions import ROWS, rules


def test_builds_are_told_by_their_number_and_stand_in_order() -> None:
    assert str(B10488) == "b10488"
    assert B10488 <= NEWEST_BUILD
    assert EngineBuild(10487) < B10488 < EngineBuild(10489)


@pytest.mark.parametrize(
    ("version", "build"), [("0.33.0-rc2", B10488), ("0.30.0", B10488), ("0.24.0", None), ("0.10.0", None)]
)
def test_each_version_from_0_30_on_has_a_build(version: str, build: EngineBuild | None) -> None:
    assert rules(version).engine_build == build


def test_a_later_row_never_has_an_earlier_build() -> None:
    builds = [row.engine_build for row in ROWS if row.engine_build]
    assert builds == sorted(builds)
    assert [row.version.release for row in ROWS] == sorted(row.version.release for row in ROWS)
