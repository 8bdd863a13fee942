# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole numbers are ASCII digits, and not too many of them."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._numbers import whole_number
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("11434", 11434), ("9" * 19, 10**19 - 1)])
def test_is_read(text, number):
    assert whole_number(text) == number


@pytest.mark.parametrize(
    "text", [None, "", "²", "٣", "-1", "+1", " 1", "1\n", "1_0", "0x1", "1.0", "9" * 20, "9" * 5000]
)
def test_everything_else_is_none(text):
    assert whole_number(text) is None


@given(st.text())
def test_no_text_raises(text):
    assert whole_number(text) in (None, *([int(text)] if text.isascii() and text.isdigit() else []))
