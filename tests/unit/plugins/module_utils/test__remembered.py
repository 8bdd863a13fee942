# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A property is found once for each object, also of a frozen one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._remembered import remembered


@dataclass(frozen=True)
class Square:
    side: int
    found: list[int] = field(default_factory=list, compare=False)

    @remembered
    def area(self) -> int:
        """What it covers."""
        if self.side < 0:
            raise ValueError("it has no area")
        self.found.append(self.side)
        return self.side * self.side


def test_it_is_found_once_for_each_object():
    three, four = Square(3), Square(4)
    assert [three.area, three.area, four.area, three.area] == [9, 9, 16, 9]
    assert (three.found, four.found) == ([3], [4])


def test_it_changes_neither_equality_nor_a_copy():
    three = Square(3)
    assert three.area == 9
    assert three == Square(3)
    assert replace(three, side=5).area == 25


def test_what_cannot_be_found_is_looked_for_again():
    none = Square(-1)
    for _read in range(2):
        with pytest.raises(ValueError, match="no area"):
            print(none.area)
