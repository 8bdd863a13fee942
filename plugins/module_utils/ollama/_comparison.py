# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a comparison of Ollama's service with what is wanted comes to, in every layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_config import (
    find_server_config,
    unparsed,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._service import who_has_the_port
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._settings import (
    problems as settings_problems,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._assignments import environment_lines
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._differences import (
    Difference,
    activity_differences,
    server_differences,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._inspection import (
    Inspection,
    UnitSight,
    as_planned,
    inspection,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import DropinError
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import (
    masked_environment,
    secrets_of,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    journal_is_closed,
    journal_of_invocation,
)

# What a comparison comes to.
COMPARED = (
    "exists",
    "service_id",
    "in_sync",
    "as_planned",
    "differences",
    "conflicts",
    "refusals",
    "stopped",
    "overrides",
    "unseen",
    "problems",
    "notes",
    "file_edited",
    "unproven",
)


def comparison(
    found: Inspection,
    *,
    expect_active: bool = True,
    server_config: bool = True,
    dropped: Sequence[Difference] = (),
    show_secrets: bool = False,
) -> dict[str, Any]:
    """What was found with how every layer differs from what is wanted, Ollama's own among them.

    `expect_active`: a service that is not active differs. `server_config`: how Ollama parsed its environment is read of
    the journal. `dropped`: what else differs of the server.
    """
    unit = found.state.unit
    result = found.to_dict(show_secrets)
    result["server_config"] = None
    unseen, notes = result["problems"], []
    if server_config and found.state.main_pid:
        parsed = find_server_config(journal_of_invocation(found.state.invocation_id))
        if parsed is None:
            if journal_is_closed(found.manager.scope):
                unseen.append(
                    f"the journal of {unit} may not be read, so that how Ollama parsed its environment is "
                    "not known: run as root (become), or put the user into the group systemd-journal"
                )
            else:
                notes.append(
                    f"the journal no longer holds the server config line of {unit}: "
                    "how Ollama parsed its environment is not checked"
                )
        else:
            result["server_config"] = parsed if show_secrets else masked_environment(parsed)
            if found.wanted:
                differing = unparsed(parsed, found.wanted.environment)
                asked = found.wanted.environment
                result["differences"] += [
                    difference.to_dict()
                    for difference in server_differences(
                        unit, differing, found.process, asked, misread(differing, asked)
                    )
                ]
    result["differences"] += [one.to_dict() for one in dropped]
    if expect_active:
        because = (
            "" if found.state.active_state == "active" else who_has_the_port(found.state) or found.stopped
        )
        missing = activity_differences(unit, found.state.active_state, result["refusals"], because)
        result["differences"] = [one.to_dict() for one in missing] + result["differences"]
    result.update(unseen=unseen, problems=unseen + notes)
    result["in_sync"] = not (result["differences"] or unseen)
    result["as_planned"] = as_planned(result)
    return result


def comparison_with_own(sight: UnitSight, secrets: Mapping[str, str]) -> dict[str, Any]:
    """What a comparison with the variables of our own drop-in, as it lies there, comes to; and these as `wanted`, masked.

    Whoever wants these variables needs no other comparison. `secrets`: those that are wanted; nothing is compared where
    our drop-in holds others, since they cannot be told by what is masked, nor where it cannot be read.
    """
    own = sight.own_environment
    if own is None or secrets_of(own) != secrets:
        return {}
    try:
        found = inspection(sight, "\n".join(["[Service]", *environment_lines(own), ""]))
    except (DropinError, ValueError):
        # Somebody has written there what we would not.
        return {}
    if found.wanted is None or found.wanted.environment != own:
        return {}
    result = comparison(found)
    return {name: result[name] for name in (*COMPARED, "wanted")}


def misread(names: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """How Ollama takes those of the variables that it does not parse."""
    found = {name: settings_problems({name: environment[name]}) for name in names if name in environment}
    return {name: sentences[0] for name, sentences in found.items() if sentences}
