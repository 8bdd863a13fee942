# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program is run only where nobody else can change it, nor where the way to it leads."""

from __future__ import annotations

import os

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _programs
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._programs import (
    changeable_part,
    program,
)

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
NOBODY = 65534


@pytest.fixture
def way(tmp_path):
    """a/b/tool, and link -> a/b in a folder beside it."""
    (tmp_path / "a" / "b").mkdir(parents=True, mode=0o755)
    tool = tmp_path / "a" / "b" / "tool"
    tool.write_text("#!/bin/sh\necho it ran\n")
    tool.chmod(0o755)
    (tmp_path / "links").mkdir(mode=0o755)
    (tmp_path / "links" / "link").symlink_to("../a/./b")
    return tmp_path


def test_what_only_we_can_change_has_no_such_part(way):
    assert changeable_part(str(way / "a/b/tool")) is None
    assert changeable_part(str(way / "links/link/../b/tool")) is None
    assert changeable_part("/bin/sh") is None


def test_a_user_trusts_root(monkeypatch):
    monkeypatch.setattr(_programs.os, "geteuid", lambda: 12345)
    assert changeable_part("/bin/sh") is None


def test_a_sticky_file_is_changed_by_whoever_may_write_it(way):
    (way / "a/b/tool").chmod(0o1777)
    assert changeable_part(str(way / "a/b/tool")) == str(way / "a/b/tool")


def test_a_sticky_folder_in_which_all_may_write_is_none(way):
    (way / "a").chmod(0o1777)
    assert changeable_part(str(way / "a/b/tool")) is None


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
@pytest.mark.parametrize("part", ["a/b/tool", "a/b", "a", "links"])
def test_others_can_change_what_they_may_write(way, part, mode):
    (way / part).chmod(mode)
    assert changeable_part(str(way / "links/link/tool")) == str(way / part)


@AS_ROOT
@pytest.mark.parametrize("part", ["a/b/tool", "a/b", "a", "links", "links/link"])
def test_others_can_change_what_is_theirs(way, part):
    os.chown(way / part, NOBODY, 0, follow_symlinks=False)
    assert changeable_part(str(way / "links/link/tool")) == str(way / part)


@AS_ROOT
def test_a_link_in_a_folder_of_others_is_theirs_wherever_it_leads(way):
    (way / "theirs").mkdir()
    (way / "theirs" / "tool").symlink_to("/bin/sh")
    os.chown(way / "theirs", NOBODY, 0)
    (way / "links" / "far").symlink_to(way / "theirs" / "tool")
    assert changeable_part(str(way / "links" / "far")) == str(way / "theirs")


def test_what_is_not_there_and_links_in_a_circle_are_errors(way):
    with pytest.raises(FileNotFoundError):
        changeable_part(str(way / "a/none"))
    (way / "links" / "one").symlink_to("two")
    (way / "links" / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        changeable_part(str(way / "links" / "one"))


@pytest.mark.parametrize(("count", "is_followed"), [(40, True), (41, False)])
def test_40_links_are_followed_as_by_linux(way, count, is_followed):
    """path_resolution(7): "a maximum limit of 40"."""
    (way / "links" / "0").write_text("")
    (way / "links" / "0").chmod(0o755)
    for number in range(count):
        (way / "links" / str(number + 1)).symlink_to(str(number))
    if is_followed:
        assert changeable_part(str(way / "links" / str(count))) is None
    else:
        with pytest.raises(OSError, match="symbolic links"):
            changeable_part(str(way / "links" / str(count)))


def test_a_program_is_looked_for_in_path_past_those_that_others_can_change(way, monkeypatch):
    (way / "none").mkdir()
    (way / "none" / "tool").write_text("not to be run")
    (way / "folder" / "tool").mkdir(parents=True)
    monkeypatch.chdir(way / "a")
    monkeypatch.setenv("PATH", f"b::{way}/absent:{way}/none:{way}/folder:{way}/a/b:{way}/links/link")
    assert program("tool") == f"{way}/a/b/tool"
    (way / "a" / "b").chmod(0o777)
    with pytest.raises(FileNotFoundError, match="others than root can change") as refused:
        program("tool")
    assert f"{way}/a/b/tool is not run" in str(refused.value)
    with pytest.raises(FileNotFoundError, match="there is no program none in PATH"):
        program("none")
