# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A benchmark's result in the state folder of its unit."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._files import open_regular
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import (
    make_state_folder,
    remove_file,
    replace_file,
)

FILE_NAME = "benchmark.json"
MAX_FILE_BYTES = 4 * 1024 * 1024


class StoredError(Exception):
    """The result cannot be read or written; the sentence names the file and the reason."""


def path_in(state_directory: str) -> str:
    """Where the result of a unit lies."""
    return os.path.join(state_directory, FILE_NAME)


def read(path: str) -> dict[str, Any] | None:
    """The stored result; None where there is none.

    Raises: StoredError.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoredError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise StoredError(
            f"{path} is larger than {MAX_FILE_BYTES} bytes: it was not written by this collection"
        )
    try:
        result = json.loads(content)
    except (ValueError, RecursionError):
        result = None
    if not isinstance(result, dict):
        raise StoredError(f"{path} holds no JSON mapping: remove it and run playbooks/benchmark.yml again")
    return result


def write(path: str, result: Mapping[str, Any]) -> None:
    """Replace the stored result; a reader finds the old or the new one, whole.

    Raises: StoredError; the old one is still in place.
    """
    try:
        make_state_folder(os.path.dirname(path))
        parts = json.JSONEncoder(indent=1, sort_keys=True).iterencode(dict(result))
        replace_file(path, itertools.chain(parts, "\n"), 0o600)
    except OSError as error:
        raise StoredError(
            f"{path} cannot be written: {error.strerror}; what stood there is unchanged"
        ) from error


def remove(path: str) -> None:
    """Remove the stored result, if there is one.

    Raises: StoredError.
    """
    try:
        remove_file(path)
    except OSError as error:
        raise StoredError(f"{path} cannot be removed: {error.strerror}") from error
