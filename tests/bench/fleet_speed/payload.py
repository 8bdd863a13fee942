# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-core 2.19 sends to run a module with pipelining on: a program that holds the module's name and options."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from typing import Any

_NAME = re.compile(rb"^module_fqn='([\w.]+)',$", re.MULTILINE)
_OPTIONS = re.compile(rb"^params=(['\"].*['\"]),$", re.MULTILINE)


def module_name(sent: bytes) -> str:
    """The module's name without its path. Raises: ValueError where the program is none that runs a module."""
    found = _NAME.search(sent)
    if found is None:
        raise ValueError(f"no module of this form: {sent[:80]!r}")
    return found[1].decode().rpartition(".")[2]


def options(sent: bytes) -> dict[str, Any]:
    """The options that the task gave the module. Raises: ValueError as above."""
    found = _OPTIONS.search(sent)
    if found is None:
        raise ValueError(f"no options of this form: {sent[-200:]!r}")
    given = json.loads(ast.literal_eval(found[1].decode()))["ANSIBLE_MODULE_ARGS"]
    return {name: value for name, value in given.items() if not name.startswith("_ansible_")}


def key(sent: bytes) -> str:
    """The same for the same module with the same options, whatever the host."""
    asked = json.dumps([module_name(sent), options(sent)], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()
