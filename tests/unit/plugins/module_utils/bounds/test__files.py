# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only regular files are opened, and nothing is waited for."""

from __future__ import annotations

import os

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._files import (
    NotRegular,
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
