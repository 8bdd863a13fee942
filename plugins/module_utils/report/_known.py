# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a host from the variables that the roles have left, and whether it may be changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Dict

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._changes import change_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._drift_causes import GPU_GONE
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import (
    AFTER_CHANGE,
    BEFORE_CHANGE,
    HostData,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._states import NOT_SEEN

NOTHING_KNOWN = "this run has learnt nothing of the host: it failed or was lost, see the messages of the run"
LOST = "this run has lost the host{}, see its message above; what the host has now is not known"
BEGUN = (
    "the run ended while it was changing the host: the host was lost, or the run was interrupted; "
    "what the host has now is not known"
)
# What the playbooks set on a host that they change, as ollama_report_phase.
CHANGING = "changing"
CHANGED = "changed"
REMEMBERED = "remembered"
COMPARED = {CHANGING: BEFORE_CHANGE, CHANGED: AFTER_CHANGE}


@dataclass(frozen=True)
class Known:
    """What the report says of a host, and what decides whether it may be changed."""

    data: HostData
    service_id: str = ""
    gone_is_accepted: bool = False
    has_to_pull: bool = False


def plan_in(variables: Mapping[str, Any]) -> Any:
    """The plan that a host's variables carry: what its task returned in this run, else what the inventory says."""
    result = variables.get("ollama_plan_result")
    text = result.get("plan_json") if isinstance(result, Mapping) else None
    return json.loads(text) if text else variables.get("ollama_plan")


def verified_in(variables: Mapping[str, Any]) -> Any:
    """What the last comparison of a host in this run came to: after a change, else with its plan; None where there was none."""
    result = variables.get("ollama_plan_result")
    compared = result.get("compared") if isinstance(result, Mapping) else None
    return variables.get("ollama_verify_result") or compared


def known_of(name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """What the roles have left in a host's variables, as the fields of `HostData`."""
    result = variables.get("ollama_plan_result") or {}
    plan = plan_in(variables)
    verified = verified_in(variables)
    failure, unreachable = (
        str(variables.get(f"ollama_report_{reason}") or "") for reason in ("failure", "unreachable")
    )
    phase = variables.get("ollama_report_phase")
    # Not a failure of the task, which has made a plan.
    failure = failure or "; ".join(map(str, result.get("refused") or ()))
    for task, otherwise in (
        (result, "the host was not reached"),
        (verified or {}, "the service could not be looked at"),
    ):
        if task.get("unreachable") or (task.get("failed") and task is verified):
            reason = str(task.get("msg") or otherwise).removeprefix("Task failed: ")
            if task.get("unreachable"):
                unreachable = unreachable or reason
            failure = failure or reason
    if verified and any(verified.get(word) for word in ("unreachable", "failed", "skipped")):
        verified = None
    if not (plan or verified or failure or unreachable):
        failure = NOTHING_KNOWN
    if failure and phase == CHANGING:
        # What was compared is no longer what the host has, since it was changed and returned.
        verified, phase = None, ""
    hardware = result.get("hardware") or {}
    unseen = [*(verified or {}).get("unseen", ()), *filter(None, [hardware.get("problem")])]
    return {
        "name": str(name),
        "plan": plan,
        "verified": verified,
        "gpu": variables.get("ollama_report_gpu") or variables.get("ansible_facts", {}).get("gpufleet_gpu"),
        "failure": failure,
        "unreachable": unreachable,
        "unseen": tuple(str(sentence) for sentence in unseen),
        # What was changed goes by the GPUs that are there.
        "gpus_gone": () if phase in (CHANGED, REMEMBERED) else tuple(map(str, hardware.get("gone") or ())),
        "changes": () if phase in (CHANGED, REMEMBERED) else tuple(map(str, hardware.get("changes") or ())),
        "compared": COMPARED.get(str(phase), ""),
        "change": _change(variables),
    }


def _change(variables: Mapping[str, Any]) -> dict[str, Any] | None:
    before, phase = variables.get("ollama_report_before"), variables.get("ollama_report_phase")
    if not before or phase not in (CHANGING, CHANGED):
        return None
    ended_at = variables.get("ollama_report_changed_at") if phase == CHANGED else None
    seconds = None if ended_at is None else float(ended_at) - float(before["at"])
    return change_of(before["differences"], variables.get("ollama_override_restarted"), seconds)


class _ReadOnce(Dict[str, Any]):
    """Variables of a host, each of which Ansible makes anew, with all that is in it, whenever it is asked for."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        super().__init__()
        self._variables = variables

    def get(self, name: str, default: Any = None) -> Any:
        """As of the variables."""
        if name not in self:
            self[name] = self._variables.get(name, default)
        return self[name]


def known(name: str, variables: Mapping[str, Any], is_lost: bool, is_changing: bool) -> Known:
    """What is known of a host, which the play may have lost since, or may just begin to change."""
    variables = _ReadOnce(variables)
    data = HostData(**known_of(name, variables))
    if not (data.failure or data.unreachable):
        verified = data.verified or {}
        if is_lost:
            begun = " after its change had begun" if variables.get("ollama_report_phase") == CHANGING else ""
            data = replace(data, unreachable=LOST.format(begun))
        elif is_changing and not verified.get("as_planned"):
            data = replace(data, unreachable=BEGUN, compared=BEFORE_CHANGE)
    result = variables.get("ollama_plan_result") or {}
    return Known(
        data,
        service_id=str((data.verified or result).get("service_id") or ""),
        gone_is_accepted=bool((result.get("hardware") or {}).get("gone_is_accepted")),
        has_to_pull=bool(result.get("pulls")),
    )


def services_with_two_names(known: Iterable[Known]) -> list[str]:
    """One sentence for each service that several hosts of the inventory manage."""
    names: dict[str, list[str]] = {}
    for one in known:
        if one.service_id:
            names.setdefault(one.service_id, []).append(one.data.name)
    return [
        f"{' and '.join(sorted(group))} are names of one service of one machine, and each run would undo what it did under "
        "the other name: give each its own ollama_override_unit or address, or leave only one in the inventory"
        for group in names.values()
        if len(group) > 1
    ]


def refusals_of(report: Mapping[str, Any], known: Iterable[Known]) -> list[str]:
    """Why a host may not be changed, one sentence each that begins with its name."""
    accepted = {one.data.name for one in known if one.gone_is_accepted}
    sentences = []
    for host in report["hosts"]:
        if host["state"] in NOT_SEEN:
            sentences.append(f"{host['name']}: {host['problem']}")
        elif host["name"] not in accepted:
            gone = [drift["message"] for drift in host["drift"] if drift["cause"] == GPU_GONE]
            sentences += [f"{host['name']}: {message}" for message in gone]
    return sentences
