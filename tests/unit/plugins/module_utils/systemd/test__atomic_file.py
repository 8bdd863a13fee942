# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file is replaced whole or not at all."""

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _atomic_file
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import (
    ABANDONED_AFTER_SECONDS,
    make_folder,
    make_state_folder,
    move_file,
    remove_file,
    replace_file,
    write_file,
)


def test_the_new_file_has_text_and_mode_whatever_the_umask(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    before = os.umask(0o077)
    try:
        replace_file(str(target), "n\u00e4w\n", 0o644)
    finally:
        os.umask(before)
    assert target.read_text(encoding="utf-8") == "n\u00e4w\n"
    assert target.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [target]


def test_the_folder_knows_of_the_file_before_anybody_is_told(tmp_path, monkeypatch):
    """A folder that was not synchronised may have the old file again after the power failed."""
    synchronised = []
    monkeypatch.setattr(_atomic_file, "sync_folder", synchronised.append)
    monkeypatch.chdir(tmp_path)
    replace_file(str(tmp_path / "file"), "a", 0o644)
    replace_file("file", "b", 0o644)
    assert synchronised == [str(tmp_path), "."]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    target = tmp_path / "file"
    target.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_atomic_file.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(str(target), "new", 0o644)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_text_may_come_in_parts(tmp_path):
    replace_file(str(tmp_path / "file"), (part for part in ("a", "", "ü\n")), 0o644)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "aü\n"


def test_a_part_that_cannot_be_made_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    def parts():
        yield "new"
        raise ValueError("no more")

    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(ValueError, match="no more"):
        replace_file(str(target), parts(), 0o644)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_first_file_has_its_mode_whatever_the_umask_and_stays_what_it_is(tmp_path):
    before = os.umask(0o077)
    try:
        write_file(str(tmp_path / "file"), "text", 0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    with pytest.raises(FileExistsError):
        write_file(str(tmp_path / "file"), "other", 0o644)
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("mode", [None, 0o755, 0o701, 0o710, 0o700])
def test_a_state_folder_is_private_and_so_is_the_one_above_it(tmp_path, mode):
    above = tmp_path / "collection"
    if mode is not None:
        above.mkdir()
        above.chmod(mode)
    make_state_folder(str(above / "unit"))
    assert [path.stat().st_mode & 0o777 for path in (above, above / "unit")] == [0o700, 0o700]


def test_a_symbolic_link_is_not_written_through(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_file(str(tmp_path / "link"), "x", 0o600)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("change", [lambda path: replace_file(path, "new", 0o600), remove_file])
def test_what_a_killed_run_left_unfinished_is_swept_by_the_next_change(tmp_path, monkeypatch, change):
    target = tmp_path / "file"
    target.write_text("old")

    def killed(*_paths):
        os.utime(next(tmp_path.glob(".gpufleet-*")), (then, then))
        raise SystemExit

    then = time.time() - ABANDONED_AFTER_SECONDS - 1
    with monkeypatch.context() as patched:
        patched.setattr(_atomic_file.os, "replace", killed)
        patched.setattr(_atomic_file.os, "unlink", lambda path: None)
        with pytest.raises(SystemExit):
            replace_file(str(target), "half", 0o600)
    assert len(list(tmp_path.iterdir())) == 2
    change(str(target))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("name", "age_s", "kind"),
    [
        (".gpufleet-zz-gpufleet.conf.abcd1234.new", ABANDONED_AFTER_SECONDS - 60, "file"),
        (".gpufleet-zz-gpufleet.conf.abcd1234.new", ABANDONED_AFTER_SECONDS + 60, "folder"),
        (".gpufleet-zz-gpufleet.conf.abcd1234.new", ABANDONED_AFTER_SECONDS + 60, "link"),
        (".zz.conf.abcd1234.new", ABANDONED_AFTER_SECONDS + 60, "file"),
        (".gpufleet-zz-gpufleet.conf", ABANDONED_AFTER_SECONDS + 60, "file"),
    ],
)
def test_what_may_still_be_written_and_what_is_not_ours_stays(tmp_path, name, age_s, kind):
    other = tmp_path / name
    if kind == "link":
        other.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        other.mkdir()
    else:
        other.write_text("x")
    then = time.time() - age_s
    os.utime(other, (then, then), follow_symlinks=False)
    replace_file(str(tmp_path / "file"), "new", 0o600)
    assert os.path.lexists(other)


@pytest.mark.parametrize("other", [1, -1])
def test_what_another_user_left_unfinished_stays(tmp_path, monkeypatch, other):
    left = tmp_path / ".gpufleet-zz-gpufleet.conf.abcd1234.new"
    left.write_text("x")
    then = time.time() - ABANDONED_AFTER_SECONDS - 60
    os.utime(left, (then, then))
    user = os.geteuid()
    with monkeypatch.context() as patched:
        patched.setattr(_atomic_file.os, "geteuid", lambda: user + other)
        replace_file(str(tmp_path / "file"), "new", 0o600)
        assert left.exists()
    replace_file(str(tmp_path / "file"), "new", 0o600)
    assert not left.exists()


def test_an_hour_is_long_enough_for_whoever_still_writes():
    assert ABANDONED_AFTER_SECONDS == 3600


@pytest.mark.parametrize(
    "change",
    [
        lambda file: replace_file(file, "new", 0o600),
        lambda file: move_file(file, f"{file}.moved"),
        remove_file,
        lambda file: make_folder(f"{file}.d", 0o700),
    ],
)
def test_a_folder_is_synced_after_every_change_in_it(tmp_path, monkeypatch, change):
    (tmp_path / "file").write_text("old")
    seen = []
    before = sorted(tmp_path.iterdir())
    sync = _atomic_file.sync_folder
    monkeypatch.setattr(
        _atomic_file, "sync_folder", lambda path: (sync(path), seen.append((path, sorted(tmp_path.iterdir()))))
    )
    change(str(tmp_path / "file"))
    (folder, then), *others = seen
    assert (folder, others) == (str(tmp_path), [])
    assert then != before or (tmp_path / "file").read_text() == "new"
