# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder on the control node into which reports are written."""

from __future__ import annotations

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
