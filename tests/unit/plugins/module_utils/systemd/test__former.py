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


def keep(directory, *texts, most=5, rollout=""):
    for text in texts:
        number = max(map(_former.number_of, _former.changes(directory)), default=0) + 1
        _former.keep(directory, _former.change_name(number, rollout), text, most)


def test_the_versions_come_oldest_first_and_none_is_one_of_them(directory):
    keep(directory, None, "one\n", "two\n")
    assert texts(directory) == [None, "one\n", "two\n"]
    assert _former.newest(directory).change == _former.changes(directory)[-1]


def test_the_oldest_go_first_and_the_newest_never(directory):
    keep(directory, "0", "1", "2", "3", most=2)
    assert texts(directory) == ["2", "3"]
    keep(directory, "4", most=0)
    assert texts(directory) == ["4"]


def test_versions_named_for_a_moment_that_has_not_come_are_older_than_numbered_ones(directory, tmp_path):
    (tmp_path / "former").mkdir()
    for year in (2031, 2030):
        (tmp_path / "former" / f"{year}0101T000000.000000Z.conf").write_text(str(year))
    keep(directory, "first", "second", most=3)
    assert texts(directory) == ["2031", "first", "second"]


@pytest.mark.parametrize(
    "name", ["readme.conf", "zzz.conf", ".change-00000009.conf", "change-9.conf", "change-00000009.conf.bak"]
)
def test_what_somebody_else_put_there_is_no_version(directory, tmp_path, name):
    keep(directory, "ours")
    (tmp_path / "former" / name).write_text("theirs")
    (tmp_path / "former" / "change-00000008.conf").mkdir()
    (tmp_path / "former" / "change-00000007.conf").symlink_to("/etc/hostname")
    assert texts(directory) == ["ours"]
    assert _former.newest(directory).text == "ours"


@pytest.mark.parametrize(
    ("change", "number", "rollout"),
    [
        ("change-00000012+20260101T000000Z-4f2a", 12, "20260101T000000Z-4f2a"),
        ("change-00000012", 12, "change-00000012"),
        ("20260101T000000.000000Z", 0, "20260101T000000.000000Z"),
        ("20260101T000000Z-4f2a", 0, "20260101T000000Z-4f2a"),
    ],
)
def test_a_change_tells_its_number_and_the_rollout_that_made_it(change, number, rollout):
    assert (_former.number_of(change), _former.rollout_of(change)) == (number, rollout)


def test_a_version_can_be_forgotten(directory):
    keep(directory, "one", None)
    _former.forget(directory, _former.changes(directory)[-1])
    assert texts(directory) == ["one"]


def test_a_version_that_was_just_kept_stays_however_old_it_is(directory):
    keep(directory, "1", "2", "3")
    _former.forget(directory, _former.change_name(1, ""))
    _former.keep(directory, _former.change_name(1, ""), "1 again", 1)
    assert texts(directory) == ["1 again", "3"]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("r-1", True), ("R", True), ("", False), ("-r", False), ("a" * 64, True), ("a" * 65, False)],
)
def test_which_names_a_rollout_may_have(name, is_one):
    assert _former.is_rollout(name) is is_one


@pytest.mark.parametrize(("name", "is_one"), [("change-00000001", True), ("20260101T000000.000000Z", True), ("r-1", False)])
def test_which_names_are_those_of_changes(name, is_one):
    assert _former.is_change(name) is is_one


@pytest.mark.parametrize("mine_wrote", ["mine\n", None])
@pytest.mark.parametrize("replaced", [None, "before\n"])
def test_a_change_hands_over_what_it_replaced_to_the_next(directory, replaced, mine_wrote):
    keep(directory, replaced, mine_wrote, "theirs\n")
    mine, theirs, last = _former.changes(directory)
    _former.hand_over(_former.former(directory, mine), _former.former(directory, theirs))
    assert _former.changes(directory) == [theirs, last]
    assert texts(directory) == [replaced, "theirs\n"]
