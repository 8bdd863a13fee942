# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says on the control node what a host that is only thought of could take; no host is contacted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible import context
from ansible.utils.vars import load_extra_vars
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._cards import cards_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import (
    DEFAULT_REQUESTS,
    MOST_CONTEXT_LENGTH,
    policy_from_dict,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._what_if import what_if
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._what_if_lines import what_if_lines
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._fleet_module import FleetModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._known_models import models_named

ARGUMENT_SPEC = {
    "gpu": {"type": "raw"},
    "models": {"type": "raw"},
    "requests": {"type": "raw", "default": DEFAULT_REQUESTS},
    "context_length": {"type": "raw"},
    "kv_cache_types": {"type": "list", "elements": "str", "default": ["f16"]},
    "version": {"type": "raw"},
    "command_line": {"type": "bool", "default": False},
}
_PAIR = re.compile(r"(?:^|\s)(\w+)=(.*?)(?=\s+\w+=|$)", re.DOTALL)
# What the variables of plan.yml begin with, where many are named as those of this playbook.
PLAN_PREFIX = "ollama_plan_"
# The variables of the playbook.
VARIABLES = tuple(name for name in ARGUMENT_SPEC if name != "command_line")


class ActionModule(FleetModule):
    """The work of the module `what_if`."""

    argument_spec = ARGUMENT_SPEC

    def answer(self, options: Mapping[str, Any], _variables: Mapping[str, Any]) -> dict[str, Any]:
        if not options["command_line"]:
            return answered(options)
        check_names(load_extra_vars(self._loader))
        whole_values = values_with_spaces(context.CLIARGS.get("extra_vars") or ())
        return answered(
            {**options, **{name: value for name, value in whole_values.items() if name in VARIABLES}}
        )


def values_with_spaces(arguments: Iterable[str]) -> dict[str, str]:
    """The values of `-e name=value` with the words behind the first, which Ansible drops: a shell has taken the quotes.

    Source: ansible-core 2.21 lib/ansible/utils/vars.py (load_extra_vars), lib/ansible/parsing/splitter.py (parse_kv).
    """
    found = {}
    for argument in arguments:
        if argument.lstrip()[:1] in ("@", "{", "["):
            continue
        for name, value in _PAIR.findall(argument):
            words = value.strip()
            if " " in words and words[0] not in "'\"":
                found[name] = words
    return found


def check_names(given: Iterable[str]) -> None:
    """Raises: ValueError for a name of the command line that is nearly one of the playbook's, or a setting of the other ones."""
    for name in sorted(given):
        bare = name.lower().removeprefix(PLAN_PREFIX)
        near = difflib.get_close_matches(bare, VARIABLES, n=1, cutoff=0.6)
        meant = f"did you mean {near[0]}?" if near else "describe the host (docs/planning_before_buying.md)"
        if name not in VARIABLES and (near or name.startswith(PLAN_PREFIX)):
            raise ValueError(f"{name}: what_if knows no such variable, so it would be ignored; {meant}")


def answered(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the module returns.

    Raises: ValueError in one sentence, where the options name nothing that can be planned.
    """
    cards = cards_of(options["gpu"])
    models = models_named(options["models"])
    version = options["version"]
    found = what_if(
        cards=cards,
        models=models.descriptions,
        requests=whole("requests", options["requests"], 256) or DEFAULT_REQUESTS,
        context_length=whole("context_length", options["context_length"], MOST_CONTEXT_LENGTH),
        kv_cache_types=policy_from_dict({"kv_cache_types": options["kv_cache_types"]}).kv_cache_types,
        version=None if version in (None, "") else str(version),
    )
    return {**found.to_dict(), "table": what_if_lines(found, models.notes)}


def whole(name: str, value: Any, most: int) -> int | None:
    """A number as the command line gives it, None where it gives none.

    Raises: ValueError where it is no whole number from 1 to `most`.
    """
    if value is None or value == "":
        return None
    text = str(value).strip()
    if not text.isdecimal() or not 1 <= len(text) <= len(str(most)) or not 1 <= int(text) <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}, found {value!r:.80}")
    return int(text)
