# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kept header is the one that would be read, or it is read anew."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama import _kept_headers
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import GgufError
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._kept_headers import KeptHeaders
from ansible_collections.gpufleet.ollama.tests.unit.data import TESTS

HEADERS = sorted((TESTS / "data" / "headers").glob("*.json"))


class Store:
    """Files whose header is what they hold, and how often one was read."""

    def __init__(self, root):
        self.root, self.kept, self.reads = root, root / "state" / "headers.jsonl", []

    def write(self, name, header):
        path = self.root / name
        path.write_text(json.dumps(header))
        return str(path)

    def read(self, path):
        self.reads.append(os.path.basename(path))
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)

    def reading(self, *paths, keep=True):
        """One reading of these files: their headers, and the names of those that were read anew."""
        self.reads.clear()
        headers = KeptHeaders(str(self.kept), self.read)
        found = [headers.header_of(path) for path in paths]
        if keep:
            headers.keep()
        return found, list(self.reads)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def header(**metadata):
    return {"file_bytes": 1, "quantization": "", "metadata": metadata, "tensors": []}


def test_every_published_header_comes_back_as_it_was_read(store):
    paths = [store.write(path.stem, json.loads(path.read_text())) for path in HEADERS]
    first, read = store.reading(*paths)
    assert (len(read), len(paths)) == (len(HEADERS), len(HEADERS))
    assert store.reading(*paths) == (first, [])
    assert store.kept.stat().st_mode & 0o777 == 0o600
    assert store.kept.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("value", [float("inf"), 1.5, -3, "a\tb\nc\u2028", True, {"array_length": 7}])
def test_every_kind_of_value_comes_back(store, value):
    path = store.write("a", header(x=value))
    assert store.reading(path)[0] == store.reading(path)[0] == [header(x=value)]
    assert store.reading(path)[1] == []


def test_a_reading_that_keeps_nothing_leaves_nothing(store):
    path = store.write("a", header())
    store.reading(path, keep=False)
    assert not store.kept.parent.exists()
    assert store.reading(path)[1] == ["a"]


def change_content(path):
    """Of the same length, and with the time that it had before."""
    before = os.stat(path)
    with open(path, "r+", encoding="utf-8") as stream:
        text = stream.read()
        stream.seek(0)
        stream.write(text.replace("1", "2"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_file(path):
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    os.rename(path, f"{path}.old")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


@pytest.mark.parametrize("change", [change_content, replace_file])
def test_a_file_that_was_changed_is_read_anew(store, change):
    path, other = store.write("a", header(x=1)), store.write("b", header(x=3))
    store.reading(path, other)
    change(path)
    found, read = store.reading(path, other)
    assert read == ["a"]
    assert found == [store.read(path), header(x=3)]
    assert store.reading(path, other)[1] == []


def test_a_name_of_another_file_is_read_anew(store):
    path = store.write("a", header())
    store.reading(path)
    os.rename(path, store.root / "b")
    assert store.reading(str(store.root / "b"))[1] == ["b"]


def test_what_is_gone_from_the_store_goes(store):
    path, other = store.write("a", header()), store.write("b", header())
    store.reading(path, other)
    store.reading(path, store.write("c", header()))
    assert len(store.kept.read_text().splitlines()) == 3
    assert store.reading(other)[1] == ["b"]


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_what_others_can_write_is_not_believed(store, mode):
    path = store.write("a", header())
    store.reading(path)
    store.kept.chmod(mode)
    assert store.reading(path)[1] == ["a"]


def test_what_another_user_owns_is_not_believed(store, monkeypatch):
    path = store.write("a", header())
    store.reading(path)
    monkeypatch.setattr(_kept_headers.os, "geteuid", lambda: os.getuid() + 1)
    assert store.reading(path, keep=False)[1] == ["a"]


def test_a_link_is_not_followed(store):
    path = store.write("a", header())
    store.reading(path)
    os.rename(store.kept, f"{store.kept}.old")
    store.kept.symlink_to(f"{store.kept}.old")
    assert store.reading(path, keep=False)[1] == ["a"]


def test_what_another_reader_kept_is_not_believed(store):
    path = store.write("a", header())
    store.reading(path)
    store.kept.write_text("0" * 64 + store.kept.read_text()[64:])
    assert store.reading(path)[1] == ["a"]


@pytest.mark.parametrize("torn", [lambda text: text[:-9] + "\n", lambda text: text.replace("{", "\xff"), lambda text: text[:80]])
def test_a_torn_file_is_read_anew(store, torn):
    path = store.write("a", header())
    found = store.reading(path)[0]
    store.kept.write_text(torn(store.kept.read_text()), encoding="latin-1")
    assert store.reading(path) == (found, ["a"])
    assert store.reading(path) == (found, [])


def test_a_model_in_several_files_is_not_kept(store):
    path = store.write("a", header(**{"split.count": 2}))
    store.reading(path)
    assert store.reading(path)[1] == ["a"]


def test_a_file_that_cannot_be_read_is_an_error_each_time(store):
    def refuse(path):
        raise GgufError(f"{path}: truncated")

    headers = KeptHeaders(str(store.kept), refuse)
    with pytest.raises(GgufError, match="truncated"):
        headers.header_of(store.write("a", header()))
    headers.keep()
    assert not store.kept.exists()


@pytest.mark.parametrize(
    ("bound", "most"), [("MAX_HEADERS", 2), ("MAX_FILE_BYTES", 600), ("MAX_HEADER_BYTES", 80)]
)
def test_what_is_kept_is_bounded(store, monkeypatch, bound, most):
    paths = [store.write(f"m{number}", header(x="y" * 20 * number)) for number in range(6)]
    monkeypatch.setattr(_kept_headers, bound, most)
    found, _read = store.reading(*paths)
    assert store.kept.stat().st_size <= 1200
    again, read = store.reading(*paths)
    assert again == found
    assert 0 < len(read) < 6


def test_the_bounds():
    bounds = _kept_headers.MAX_HEADERS, _kept_headers.MAX_HEADER_BYTES, _kept_headers.MAX_FILE_BYTES
    assert bounds == (512, 512 << 10, 16 << 20)


@pytest.mark.parametrize(("bound", "most"), [("MAX_HEADERS", 2), ("MAX_FILE_BYTES", 600)])
def test_while_a_store_is_read_no_more_is_held_than_can_be_kept(store, monkeypatch, bound, most):
    monkeypatch.setattr(_kept_headers, bound, most)
    paths = [store.write(f"sha256-{number}", header(a="b" * 100)) for number in range(9)]
    headers = KeptHeaders(str(store.kept), store.read)
    for path in paths:
        headers.header_of(path)
    assert 0 < len(headers._used) <= 3
    headers.keep()
    assert store.kept.stat().st_size <= max(most, 600)
    before = store.kept.stat().st_mtime_ns
    store.reading(*paths)
    assert store.kept.stat().st_mtime_ns == before
