# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of GGUF files, kept in the unit's state folder, so that a store of many models is read once.

A header has to be walked through string by string, some 20 ms for each model; what was read of it is a few KiB. A kept
header counts only for the very file that it was read from: of this name, size, inode and device, not changed since. The time
of the last change of the inode is part of that, which nobody can set, and whoever writes a blob may set all else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pkgutil
from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._files import open_regular
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import read_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import (
    make_state_folder,
    replace_file,
)

FILE_NAME = "headers.jsonl"
# A header of a thousand tensors takes some 60 KB. No more models are read of a host than these.
MAX_HEADERS = 512
MAX_HEADER_BYTES = 512 * 1024
MAX_FILE_BYTES = 16 * 1024 * 1024
# A digest in hexadecimal, and the end of the line.
_LINE_OF_READER = 65
# What reads a header; kept by another version of it, none counts.
_READERS = (("ollama", "_gguf.py"), ("model", "_tensor_types.py"), ("ollama", "_kept_headers.py"))
_ROOMS = __name__.rpartition(".")[0].rpartition(".")[0]


def path_in(state_directory: str) -> str:
    """Where headers are kept for a unit."""
    return os.path.join(state_directory, FILE_NAME)


class KeptHeaders:
    """The headers that were kept, and those that one reading of a store has added."""

    def __init__(self, path: str, read: Callable[[str], dict[str, Any]] = read_header) -> None:
        self._path = path
        self._read = read
        self._kept: dict[str, str] | None = None
        self._used: dict[str, str] = {}
        self._used_bytes = 0
        self._is_new = False

    def header_of(self, path: str) -> dict[str, Any]:
        """The header of a GGUF file, as `_gguf.read_header` returns it.

        Raises: GgufError.
        """
        if self._kept is None:
            self._kept = _kept_at(self._path)
        key = _key(path)
        text = self._kept.get(key)
        if text is not None:
            header = _header_in(text)
            if header is not None:
                self._use(key, text)
                return header
        header = self._read(path)
        # Of one that lies in several files, others may change.
        if key and key == _key(path) and "split.count" not in header["metadata"]:
            text = json.dumps(header, separators=(",", ":"))
            if len(text) <= MAX_HEADER_BYTES:
                self._is_new = self._use(key, text) or self._is_new
        return header

    def _use(self, key: str, text: str) -> bool:
        """Holds a text until it is kept, where there will be room for it: a store may have as many as it likes."""
        size = self._used_bytes + len(key) + len(text) + 2
        if key not in self._used and len(self._used) < MAX_HEADERS and size <= MAX_FILE_BYTES - _LINE_OF_READER:
            self._used[key], self._used_bytes = text, size
        return key in self._used

    def keep(self) -> None:
        """Keeps the headers of this reading, in place of those before, where one of them was not kept.

        What cannot be kept is read anew by the next.
        """
        if not self._is_new:
            return
        lines = [f"{_reader()}\n", *(f"{key}\t{text}\n" for key, text in self._used.items())]
        with contextlib.suppress(OSError):
            make_state_folder(os.path.dirname(self._path))
            replace_file(self._path, lines, 0o600)


def _kept_at(path: str) -> dict[str, str]:
    """The headers that are kept in a file of this user's alone, as text; none where it is another's, or of another reader."""
    kept: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError), open_regular(path) as stream:
        status = os.fstat(stream.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o022 or status.st_size > MAX_FILE_BYTES:
            return {}
        if stream.readline(MAX_HEADER_BYTES).decode("ascii") != f"{_reader()}\n":
            return {}
        for line in stream:
            key, tab, text = line.decode("ascii").rstrip("\n").partition("\t")
            if tab and len(text) <= MAX_HEADER_BYTES and len(kept) < MAX_HEADERS:
                kept[key] = text
    return kept


def _header_in(text: str) -> dict[str, Any] | None:
    """A kept header; None where the text is none, as of a file that was torn."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_one = isinstance(header, dict) and isinstance(header.get("metadata"), dict) and "tensors" in header
    return header if is_one else None


def _key(path: str) -> str:
    """What tells a file from every other, and from what it was before it was changed; empty where that cannot be told."""
    name = os.path.basename(path)
    try:
        status = os.stat(path)
    except OSError:
        return ""
    numbers = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
    return " ".join([name, *map(str, numbers)]) if name.isascii() and name.isprintable() else ""


def _reader() -> str:
    """Names the very program that reads headers."""
    digest = hashlib.sha256()
    for room, name in _READERS:
        digest.update(pkgutil.get_data(f"{_ROOMS}.{room}", name) or b"")
    return digest.hexdigest()
