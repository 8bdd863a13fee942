# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed models of a unit's server, as `ollama_model_info` returns them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import read_header
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._inventory import DISK, gather
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._location import locate
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._service import server_api
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import Run

AUTO = "auto"
TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class ModelsRequest:
    """Of which service, from where, and for which models.

    `names`: only these; empty for all. `first`: those that are read before others. `models_path` and `api_url`: None for the
    service's own.
    """

    scope: str
    unit: str
    source: str = AUTO
    names: Sequence[str] = ()
    first: Sequence[str] = ()
    models_path: str | None = None
    api_url: str | None = None
    timeout_seconds: int = TIMEOUT_SECONDS


def read_models(
    run: Run,
    warn: Callable[[str], None],
    asked: ModelsRequest,
    header_of: Callable[[str], dict[str, Any]] = read_header,
) -> tuple[dict[str, Any], list[str]]:
    """What is known of the models, and a sentence for each that is damaged.

    `warn` is told what the operator must know although the models can be read. `header_of`: reads the header of a file.

    Raises: InventoryError where no source can tell the models.
    """
    server = locate(run, asked.scope, asked.unit)
    path = asked.models_path or server.models_path
    # A server that was named is asked, whoever it is.
    api = (
        Api(asked.api_url, asked.timeout_seconds)
        if asked.api_url
        else server_api(asked.unit, server.main_pid, server.api_url, asked.timeout_seconds)
    )
    if api.refused:
        warn(api.refused)
    inventory = gather(path, api, asked.source, asked.names, asked.first, header_of)
    problems = inventory.damaged + inventory.unseen + inventory.problems
    if not server.exists and asked.models_path is None and inventory.source == DISK:
        problems.append(f"systemd knows no {asked.unit}: {path} is where the installer puts models")
    version = inventory.version
    if version is None and server.executable is not None:
        # Where a server answers, which it does on most hosts, that need not be loaded.
        from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._program import (
            ProgramError,
            program_version,
        )

        try:
            version = program_version(server.executable, server.user)
        except ProgramError as error:
            problems.append(str(error))
            warn(str(error))
    known = {
        "models": [shape.to_dict() for shape in inventory.models],
        "unplannable": [{"name": name, "reason": why} for name, why in inventory.unplannable.items()],
        "missing": inventory.missing,
        "ids": inventory.ids,
        "loaded": inventory.loaded,
        "version": version,
        "models_path": path,
        "api_url": api.url,
        "source": inventory.source,
        "sources": [vars(report) for report in inventory.sources],
        "unseen": [*(f"{sentence}; left out of the plan" for sentence in inventory.damaged), *inventory.unseen],
        "problems": problems,
    }
    return known, inventory.damaged
