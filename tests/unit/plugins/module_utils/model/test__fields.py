# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._fields import (
    check_all,
    check_fields,
    shown,
)


@dataclass
class Record:
    count: int = 1
    limit: int | None = None
    label: str = ""
    flag: bool = False
    numbers: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[int, ...] = ()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"count": 0, "limit": 8192},
        {"count": 2**50, "numbers": {"a": 1}, "options": {"b": None}},
        {"parts": ("of no concern",)},
    ],
)
def test_what_is_declared_passes(values: dict[str, Any]) -> None:
    check_fields(Record(**values), "it")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"count": -1}, "count of it is -1, expected a whole number from 0 to"),
        ({"count": 2**50 + 1}, "count of it is 1125899906842625, expected"),
        ({"count": True}, "count of it is True"),
        ({"count": 1.0}, r"count of it is 1\.0"),
        ({"count": float("inf")}, "count of it is inf"),
        ({"limit": "many"}, "limit of it is 'many', expected a whole number"),
        ({"label": None}, "label of it is None, expected a text"),
        ({"flag": 0}, "flag of it is 0, expected true or false"),
        ({"numbers": {"a": "x"}}, "numbers of it is .* expected a mapping of whole numbers"),
        ({"options": None}, "options of it is None, expected a mapping"),
    ],
)
def test_what_is_of_another_kind_is_named(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_fields(Record(**values), "it")


PLAIN = Record(count=3, limit=4, label="x", flag=True)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"count": -1}, "count of record 2 is -1"),
        ({"count": 2**50 + 1}, "count of record 2 is 1125899906842625"),
        ({"count": True}, "count of record 2 is True"),
        ({"count": 3.0}, r"count of record 2 is 3\.0"),
        ({"limit": "many"}, "limit of record 2 is 'many'"),
        ({"label": None}, "label of record 2 is None"),
        ({"flag": 1}, "flag of record 2 is 1"),
        ({"numbers": {"a": "x"}}, "numbers of record 2 is"),
    ],
)
def test_of_many_records_the_first_that_is_of_another_kind_is_named(values: dict[str, Any], sentence: str) -> None:
    check_all([PLAIN, Record()], "record {}".format)
    with pytest.raises(ValueError, match=sentence):
        check_all([PLAIN, Record(), Record(**values), Record(count=-5)], "record {}".format)


def test_a_long_value_is_cut() -> None:
    assert shown("x" * 5000) == "'" + "x" * 39 + "..."
