# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each change replaced is kept under the name of the change."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _former


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path / "former")


def texts(directory):
    return [_former.former(directory, change).text for change in _former.changes(directory)]


def test_where_nothing_was_kept_nothing_is_known(directory):
    assert (_former.changes(directory), _former.newest(directory)) == ([], None)
    assert _former.former(directory, "20260101T000000.000000Z") is None


def test_the_versions_come_oldest_first_and_none_is_one_of_them(directory):
    for text in (None, "one\n", "two\n"):
        _former.keep(directory, text, most=5)
    assert texts(directory) == [None, "one\n", "two\n"]
    assert _former.newest(directory).change == _former.changes(directory)[-1]


def test_the_oldest_go_first(directory):
    for number in range(4):
        _former.keep(directory, str(number), most=2)
    assert texts(directory) == ["2", "3"]


def test_a_version_can_be_forgotten(directory):
    for text in ("one", "two"):
        _former.keep(directory, text, most=5)
    _former.forget(_former.newest(directory))
    assert texts(directory) == ["one"]


@pytest.mark.parametrize("replaced", [None, "before\n"])
def test_a_change_hands_over_what_it_replaced_to_the_next(directory, replaced):
    for text in (replaced, "mine\n", "theirs\n"):
        _former.keep(directory, text, most=5)
    mine, theirs, last = _former.changes(directory)
    _former.hand_over(_former.former(directory, mine), _former.former(directory, theirs))
    assert _former.changes(directory) == [theirs, last]
    assert texts(directory) == [replaced, "theirs\n"]
