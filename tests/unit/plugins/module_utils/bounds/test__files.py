# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only regular files are opened, and nothing is waited for."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._files import (
    NotRegular,
    open_below,
    open_regular,
)


def test_a_regular_file_is_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with open_regular(str(tmp_path / "file")) as file:
        assert file.read() == b"content"


def test_a_link_is_followed_only_where_that_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    os.symlink(tmp_path / "file", tmp_path / "link")
    with pytest.raises(NotRegular, match="it is a link, which is not followed here"):
        open_regular(str(tmp_path / "link"))
    with open_regular(str(tmp_path / "link"), follow_link=True) as file:
        assert file.read() == b"content"


def test_a_pipe_without_a_writer_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(str(tmp_path / "pipe"))


@pytest.mark.parametrize("path", ["/dev/zero", "/"])
def test_devices_and_folders_are_refused(path):
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(path)


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_regular(str(tmp_path / "absent"))


def test_what_is_exchanged_all_the_time_is_never_waited_for_and_never_another_file(tmp_path):
    places = {name: tmp_path / name for name in ("file", "pipe", "link", "secret", "new")}
    places["secret"].write_bytes(b"secret")
    ended = threading.Event()

    def exchange():
        while not ended.is_set():
            places["new"].write_bytes(b"content")
            os.replace(places["new"], places["file"])
            os.mkfifo(places["new"])
            os.replace(places["new"], places["file"])
            os.symlink(places["secret"], places["new"])
            os.replace(places["new"], places["file"])

    places["file"].write_bytes(b"content")
    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for _turn in range(500):
            with contextlib.suppress(NotRegular), open_below(str(tmp_path), ["file"]) as file:
                assert file.read() == b"content"
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("parts", [("a", "b", "file"), ("link", "b", "file"), ("a", "link", "file")])
def test_below_a_folder_no_link_leads_on(tmp_path, parts):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"content")
    os.symlink("a", tmp_path / "link")
    os.symlink("b", tmp_path / "a" / "link")
    if "link" not in parts:
        with open_below(str(tmp_path), parts) as file:
            assert file.read() == b"content"
        return
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        open_below(str(tmp_path), parts)


@pytest.mark.parametrize("name", ["a\0b", "a\udc80\ud800"])
def test_a_name_that_no_file_can_have_is_an_os_error(name):
    with pytest.raises(OSError, match="no file can have this name"):
        open_regular(name)


def test_no_descriptor_is_left_open(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    os.mkfifo(tmp_path / "a" / "b" / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for parts in (("a", "b", "pipe"), ("a", "b", "absent"), ("a", "absent", "x"), ("a", "b")):
        with pytest.raises(OSError, match=r"not a regular|No such"):
            open_below(str(tmp_path), parts)
    assert len(os.listdir("/proc/self/fd")) == before
