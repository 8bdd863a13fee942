# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan of a unit was applied for, remembered in the unit's state folder: GPUs, version, engine, what was seen."""

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
# Loads that took more than foretold.
MAX_OBSERVED = 64


class RecordError(Exception):
    """What is remembered cannot be read or written; the sentence names the file and the reason."""


def path_in(state_directory: str) -> str:
    """Where it is remembered for a unit."""
    return os.path.join(state_directory, FILE_NAME)


def record_of(
    gpus: Iterable[Mapping[str, Any]],
    version: Any = "",
    engine_build: Any = None,
    observed: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What is remembered: `uuid` and `name` of each GPU, Ollama's version, its build of the engine, and what loads took.

    Raises: KeyError, TypeError or ValueError where it is of another form.
    """
    return {
        "gpus": [{"uuid": str(gpu["uuid"]), "name": str(gpu["name"])} for gpu in gpus],
        "version": str(version or ""),
        "engine_build": None if engine_build is None else int(engine_build),
        "observed": [dict(one) for one in observed][:MAX_OBSERVED],
    }


def remembered(path: str) -> dict[str, Any] | None:
    """What is remembered, in the form of `record_of`; None where nothing is, as before the first plan was applied.

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
        kept = json.loads(content)
        return record_of(kept["gpus"], kept.get("version"), kept.get("engine_build"), kept.get("observed") or ())
    except (AttributeError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordError(f"{path} was not written by this collection: remove it") from error


def remember(path: str, record: Mapping[str, Any]) -> None:
    """Replaces what is remembered with a record in the form of `record_of`.

    Raises: RecordError; what stood there is unchanged.
    """
    try:
        make_state_folder(os.path.dirname(path))
        replace_file(path, json.dumps(record, indent=1) + "\n", 0o600)
    except OSError as error:
        raise RecordError(
            f"{path} cannot be written: {error.strerror}; what stood there is unchanged"
        ) from error
