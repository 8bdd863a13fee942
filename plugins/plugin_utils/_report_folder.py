# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder on the control node into which reports are written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import (
    Text,
    make_folder,
    replace_file,
)


def write_files(folder: Path, files: Iterable[tuple[str, Text]]) -> None:
    """Writes texts under these names, each file replaced at once, into a folder that is made where it is missing.

    Raises: ValueError in one sentence where folder or file cannot be written.
    """
    try:
        # Whatever the umask: it is shown to others.
        make_folder(str(folder), 0o755)
        for name, text in files:
            replace_file(str(folder / name), text, 0o644)
    except OSError as error:
        raise ValueError(
            f"the report cannot be written into {folder} on the control node "
            f"({error.filename or folder}: {error.strerror}); choose another folder"
        ) from error


def write_metrics(path: Path, text: Text) -> None:
    """Writes metrics where node_exporter finds them, whole at every moment.

    Raises: ValueError in one sentence where it would not read the file, or the file cannot be written.
    Source: node_exporter, collector/textfile.go, which reads the `*.prom` of its folder.
    """
    if path.suffix != ".prom":
        raise ValueError(
            f"the metrics are not written to {path}, because node_exporter reads only files whose names end in .prom; "
            "choose such a name"
        )
    try:
        replace_file(str(path), text, 0o644)
    except OSError as error:
        raise ValueError(
            f"the metrics cannot be written to {path} on the control node ({error.strerror}); name a file in a folder that is "
            "there and that this user may write into, that of node_exporter's --collector.textfile.directory"
        ) from error


def read_end(path: Path, most_bytes: int) -> str:
    """The end of a text of at most so many bytes; nothing where there is none that can be read."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(stream.tell() - most_bytes, 0))
            return stream.read(most_bytes).decode("utf-8", "replace")
    except OSError:
        return ""
