# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON is counted before it is read."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._json import (
    TooManyItems,
    json_bytes,
    read_json,
)
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def items(value):
    """How many values a value is made of, itself included."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(items, inner))


@given(VALUES)
def test_never_more_items_are_read_than_may_be(value):
    content = json.dumps(value).encode()
    if items(value) > 20 + 1:
        with pytest.raises(TooManyItems):
            read_json(content, 20)
    assert read_json(content, len(content)) == value


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_as_json_refuses_them(content):
    try:
        expected = json.loads(content)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            read_json(content)
    else:
        assert repr(read_json(content)) == repr(expected)


def test_deep_nesting_is_a_value_error():
    with pytest.raises(ValueError, match="nested too deep"):
        read_json(b"[" * 100_000)


def test_a_value_is_as_long_as_what_travels():
    assert json_bytes({"a": "ä"}) == len(b'{"a": "\\u00e4"}')
