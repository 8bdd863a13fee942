# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs the plan of a unit was applied for, remembered in the unit's state folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._files import open_regular
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import (
    make_state_folder,
    replace_file,
)

FILE_NAME = "planned_gpus.json"
MAX_FILE_BYTES = 256 * 1024


class RecordError(Exception):
    """What is remembered cannot be read or written; the sentence names the file and the reason."""


def path_in(state_directory: str) -> str:
    """Where it is remembered for a unit."""
    return os.path.join(state_directory, FILE_NAME)


def remembered(path: str) -> list[dict[str, str]] | None:
    """`uuid` and `name` of each GPU; None where nothing is remembered, as before the first plan was applied.

    Raises: RecordError.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(
            f"{path} cannot be read: {error.strerror or error}; run as root (become)"
        ) from error
    try:
        if len(content) > MAX_FILE_BYTES:
            raise ValueError("too long")
        return [{"uuid": str(gpu["uuid"]), "name": str(gpu["name"])} for gpu in json.loads(content)["gpus"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordError(f"{path} was not written by this collection: remove it") from error


def remember(path: str, gpus: Iterable[Mapping[str, Any]]) -> None:
    """Replaces what is remembered.

    Raises: RecordError; what stood there is unchanged.
    """
    kept = [{"uuid": str(gpu["uuid"]), "name": str(gpu["name"])} for gpu in gpus]
    try:
        make_state_folder(os.path.dirname(path))
        replace_file(path, json.dumps({"gpus": kept}, indent=1) + "\n", 0o600)
    except OSError as error:
        raise RecordError(
            f"{path} cannot be written: {error.strerror}; what stood there is unchanged"
        ) from error
