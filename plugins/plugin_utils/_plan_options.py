# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the module `ollama_plan` from the variables of the role of that name.

Written as templates in the role's task, Ansible would compile each of them anew for every host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import ARGUMENT_SPEC
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import (
    unfit_values,
    unknown_variables,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._settings_by_fact import settings_by_fact

ROLE = "ollama_plan"
PREFIX = f"{ROLE}_"
# Made before Ansible forks a process for each host.
OPTIONS = ArgumentSpecValidator(ARGUMENT_SPEC)
# What the entry points of the role and the playbooks set, which is nobody's setting.
PRIVATE = tuple(f"__{PREFIX}{name}" for name in ("only_inputs", "compare", "apply", "start_stopped", "refusals"))
# Named otherwise than the option.
_RENAMED = {"models": "model_descriptions"}
_DESCRIPTIONS = "models (ollama_plan_model_descriptions) must be a list of mappings, or JSON text of such a list"


def plan_options(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of the options `names` that the role's variables give, of which `values` are resolved."""
    given = {name: f"{PREFIX}{_RENAMED.get(name, name)}" for name in names}
    options = {name: values[variable] for name, variable in given.items() if variable in values}
    options.update({name[len(PREFIX) + 2 :]: values[name] for name in PRIVATE if name in values})
    if not _is_on(values, "use_measured", True):
        options.pop("measured", None)
    return {**options, "gather": _gathered(values)}


def refusals_of(variables: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Why a host with these variables, of which the role's have these values, is not planned, one sentence each."""
    return settings_by_fact(variables) + unknown_variables(variables) + unfit_values(ROLE, values)


def validated(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options with their types and defaults.

    Raises: AnsibleActionFail where one does not fit.
    """
    found = OPTIONS.validate(dict(given))
    if found.error_messages:
        raise AnsibleActionFail("; ".join(found.error_messages))
    try:
        models = described_models(found.validated_parameters["models"])
    except ValueError as error:
        raise AnsibleActionFail(str(error)) from error
    return {**given, **found.validated_parameters, "models": models}


def described_models(value: Any) -> list[dict[str, Any]]:
    """The models of a description: a list of mappings, or JSON text of one, which no template is looked for in.

    Raises: ValueError where it is neither.
    """
    found = value
    if isinstance(value, str):
        try:
            found = json.loads(value) if value.strip() else []
        except ValueError as error:
            raise ValueError(f"{_DESCRIPTIONS}, and the text is no JSON: {error}") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"{_DESCRIPTIONS}, found {found!r:.80}")
    return found


def _gathered(values: Mapping[str, Any]) -> list[str]:
    """What is read on the host: what nobody describes."""
    is_host_read = not values.get(f"{PREFIX}gpu")
    is_measured_read = _is_on(values, "use_measured", True) and not values.get(f"{PREFIX}measured")
    asked = {
        "gpu": is_host_read,
        "models": _is_on(values, "gather_models", not values.get(f"{PREFIX}model_descriptions")),
        "service": _is_on(values, "gather_environment", is_host_read),
        "server": is_host_read,
        "measured": is_host_read and is_measured_read,
    }
    return [part for part, is_asked in asked.items() if is_asked]


def _is_on(values: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    return bool(boolean(values.get(f"{PREFIX}{name}", otherwise), strict=False))
