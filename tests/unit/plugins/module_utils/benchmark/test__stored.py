# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file in the state folder: whole or not at all, bounded, and never guessed at."""

from __future__ import annotations

import os

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._stored import (
    MAX_FILE_BYTES,
    StoredError,
    path_in,
    read,
    remove,
    write,
)


@pytest.fixture
def path(tmp_path):
    return path_in(str(tmp_path / "state"))


def test_what_is_written_is_read_by_its_owner_only(path):
    write(path, {"format": 1})
    write(path, {"format": 2})
    assert read(path) == {"format": 2}
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(os.path.dirname(path)) == ["benchmark.json"]


def test_what_is_not_there_is_no_error(path):
    assert read(path) is None
    remove(path)


def test_removed_is_gone(path):
    write(path, {})
    remove(path)
    assert read(path) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_other_content_is_named(path, content):
    write(path, {})
    with open(path, "wb") as stream:
        stream.write(content)
    with pytest.raises(StoredError, match="holds no JSON mapping"):
        read(path)


def test_a_file_without_end_is_not_read_whole(path):
    write(path, {})
    with open(path, "wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(StoredError, match="larger than"):
        read(path)


def test_a_folder_in_its_place_is_named(path):
    os.makedirs(path)
    with pytest.raises(StoredError, match="cannot be read"):
        read(path)
    with pytest.raises(StoredError, match="cannot be written"):
        write(path, {})
    with pytest.raises(StoredError, match="cannot be removed"):
        remove(path)
    assert os.listdir(os.path.dirname(path)) == ["benchmark.json"]


def test_a_pipe_in_place_of_the_result_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "benchmark.json")
    with pytest.raises(StoredError, match="cannot be read: not a regular file"):
        read(str(tmp_path / "benchmark.json"))
