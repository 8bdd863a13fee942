# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How sizes are rounded up and written."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import (
    GIB,
    MIB,
    gib,
    gib_above,
    gib_number,
    gib_or_mib,
    padded,
    whole_mib,
)


@pytest.mark.parametrize(
    ("size_bytes", "number", "either", "whole"),
    [
        (0, "0.0", "0 MiB", "0 MiB"),
        (1, "0.0", "0 MiB", "1 MiB"),
        (457 * MIB, "0.4", "457 MiB", "457 MiB"),
        (GIB - 1, "1.0", "1024 MiB", "1024 MiB"),
        (GIB, "1.0", "1.0 GiB", "1024 MiB"),
        (9 * GIB + 100 * MIB + 1, "9.1", "9.1 GiB", "9317 MiB"),
    ],
)
def test_a_size_as_people_read_it(size_bytes: int, number: str, either: str, whole: str) -> None:
    assert (gib_number(size_bytes), gib(size_bytes)) == (number, f"{number} GiB")
    assert (gib_or_mib(size_bytes), whole_mib(size_bytes)) == (either, whole)


@pytest.mark.parametrize(
    ("count", "multiple", "result"), [(0, 256, 0), (1, 256, 256), (256, 256, 256), (257, 256, 512), (7, 1, 7)]
)
def test_a_count_is_rounded_up(count: int, multiple: int, result: int) -> None:
    assert padded(count, multiple) == result


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 GiB"), (1, "1 GiB"), (GIB, "1 GiB"), (GIB + 1, "2 GiB")]
)
def test_a_size_that_is_enough(size_bytes: int, text: str) -> None:
    assert gib_above(size_bytes) == text
