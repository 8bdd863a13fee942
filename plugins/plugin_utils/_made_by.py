# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which run of Ansible a report is made, as the control node tells it."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.report._next_command import MadeBy

# AWX runs every job as one user, and tells whose job it is.
# Source: AWX, docs/docsite/rst/userguide/job_templates.rst, "extra variables".
_OF_A_CONTROLLER = ("awx_user_name", "tower_user_name")
_IS_TEMPLATE = re.compile(r"\{[{%#]")


def made_by(variables: Mapping[str, Any]) -> MadeBy:
    """The run that a task's variables belong to."""
    sources = variables.get("ansible_inventory_sources") or ()
    return MadeBy(
        version=collection_version(),
        inventory=tuple(_source(str(one)) for one in sources),
        user=_user(variables),
        limit=_text(variables, "ansible_limit"),
        pattern=_text(variables, "gpufleet_hosts"),
    )


@lru_cache(maxsize=1)
def collection_version() -> str:
    """The version of this collection; empty where neither its manifest nor its description tells."""
    root = Path(__file__).resolve().parents[2]
    try:
        manifest = json.loads((root / "MANIFEST.json").read_text(encoding="utf-8"))
        return str(manifest["collection_info"]["version"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    try:
        found = re.search(
            r"^version: *(\S+)", (root / "galaxy.yml").read_text(encoding="utf-8"), re.MULTILINE
        )
    except (OSError, ValueError):
        return ""
    return found[1] if found else ""


def _source(source: str) -> str:
    """A source of the inventory from where the run was started, as one would type it there."""
    if "," in source or not os.path.isabs(source):
        return source
    beside = os.path.relpath(source)
    return source if beside.startswith(os.pardir) else beside


def _user(variables: Mapping[str, Any]) -> str:
    for name in _OF_A_CONTROLLER:
        if _text(variables, name):
            return _text(variables, name)
    try:
        return f"{getpass.getuser()} on {socket.gethostname()}"
    except (OSError, KeyError):  # a container whose user has no name
        return f"user {os.getuid()} on {socket.gethostname()}"


def _text(variables: Mapping[str, Any], name: str) -> str:
    value = variables.get(name)
    return value if isinstance(value, str) and not _IS_TEMPLATE.search(value) else ""
