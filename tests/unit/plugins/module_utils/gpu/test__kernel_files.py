# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _kernel_files
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("25753026560", 25753026560),
        ("0x744c", 0x744C),
        ("18446744073709551615", (1 << 64) - 1),
        ("18446744073709551616", None),
        ("-1", None),
        ("1 2", None),
        ("0x", None),
        ("", None),
        (None, None),
        ("9" * 5000, None),
    ],
)
def test_a_number_is_decimal_or_hexadecimal_of_64_bits(text: str | None, number: int | None) -> None:
    assert _kernel_files.to_int(text) == number


@given(st.text())
def test_no_text_makes_a_number_of_more_than_64_bits(text: str) -> None:
    number = _kernel_files.to_int(text)
    assert number is None or 0 <= number < 1 << 64


def test_a_file_is_read_to_a_bound(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (_kernel_files.MAXIMUM_BYTES + 5))
    assert len(_kernel_files.read_bytes(large) or b"") == _kernel_files.MAXIMUM_BYTES


def test_a_file_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert _kernel_files.read_bytes(tmp_path / "missing") is None
    assert _kernel_files.read_text(tmp_path) is None
    assert _kernel_files.read_int(tmp_path / "missing") is None


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe name\n")
    assert (_kernel_files.read_text(tmp_path / "binary") or "").endswith(" name")


@pytest.mark.parametrize(
    ("text", "total", "available"),
    [
        ("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:    600 kB\n", 1024000, 614400),
        ("MemTotal:  1000 kB\n", 1024000, None),
        ("MemTotal: lots kB\nMemAvailable: 600 MB\n", None, None),
        ("", None, None),
    ],
)
def test_meminfo_counts_in_kib(text: str, total: int | None, available: int | None) -> None:
    assert _kernel_files.parse_meminfo(text) == _kernel_files.SystemMemory(total, available)


def test_the_memory_of_this_machine_is_known() -> None:
    memory = _kernel_files.system_memory()
    assert memory.total_bytes is not None
    assert memory.available_bytes is not None
    assert 0 < memory.available_bytes <= memory.total_bytes
