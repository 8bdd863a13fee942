# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what a run knows of its hosts on the control node, and hands on only the counts and the table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._drift import GPU_GONE
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import (
    AFTER_CHANGE,
    BEFORE_CHANGE,
    HostData,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import (
    MOST_OF_A_PROBLEM,
    fleet_report,
    table,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._states import NOT_SEEN
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import shown
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._facts import settings_by_fact
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._page import fill_page
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._report_folder import write_files

ARGUMENT_SPEC = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "dir": {"type": "path", "required": True},
    "template": {"type": "path", "required": True},
    "title": {"type": "str", "default": "Ollama GPU fleet"},
    "lost": {"type": "list", "elements": "str", "default": []},
    "changing": {"type": "list", "elements": "str", "default": []},
}
BENCHMARKS = "benchmark.html"
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


class ActionModule(ActionBase):
    """The work of the module `fleet_report`."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        refusals = settings_by_fact(task_vars or {})
        if refusals:
            return {**result, "failed": True, "msg": "; ".join(refusals)}
        _unused, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        hostvars = (task_vars or {})["hostvars"]
        known = [
            _known(name, hostvars, name in options["lost"], name in options["changing"])
            for name in options["hosts"]
        ]
        twins = services_with_two_names(known)
        report = fleet_report(
            [one.data for one in known], datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        )
        result.update(
            changed=False,
            dir=str(Path(options["dir"]).resolve()),
            summary=report["summary"],
            table=table(report),
            refusals=[*refusals_of(report, known), *twins],
        )
        if twins:
            result["warnings"] = twins
        try:
            _write(report, options)
        except ValueError as error:
            # What there is to tell is told all the same.
            return {**result, "failed": True, "msg": str(error)}
        return result


def _write(report: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    folder = Path(options["dir"]).resolve()
    template = _template(Path(options["template"]))
    link = BENCHMARKS if (folder / BENCHMARKS).exists() else ""
    # Both in parts, because each is large where there are many hosts.
    data = json.JSONEncoder().iterencode(report)
    page = fill_page(report, template, options["title"], link)
    write_files(folder, (("report.json", data), ("report.html", page)))


@dataclass(frozen=True)
class Known:
    """What the report says of a host, and what decides whether it may be changed."""

    data: HostData
    service_id: str = ""
    gone_is_accepted: bool = False


def _known(name: str, hostvars: Mapping[str, Any], is_lost: bool, is_changing: bool) -> Known:
    try:
        return known(name, hostvars[name], is_lost, is_changing)
    except Exception as error:  # whatever it is, it costs one host its row and no other
        told = f"its variables cannot be read ({type(error).__name__}: {error})"[:MOST_OF_A_PROBLEM]
        return Known(HostData(str(name), failure=told))


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


def _template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the template {path} of the page cannot be read: {error}") from error


def known_of(name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """What the roles have left in a host's variables, as the fields of `HostData`."""
    result = variables.get("ollama_plan_result") or {}
    plan = json.loads(result["plan_json"]) if "plan_json" in result else variables.get("ollama_plan")
    verified = variables.get("ollama_verify_result")
    failure, unreachable = (
        str(variables.get(f"ollama_report_{reason}") or "") for reason in ("failure", "unreachable")
    )
    phase = variables.get("ollama_report_phase")
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
        "compared": COMPARED.get(str(phase), ""),
    }


def known(name: str, variables: Mapping[str, Any], is_lost: bool, is_changing: bool) -> Known:
    """What is known of a host, which the play may have lost since, or may just begin to change."""
    data = HostData(**known_of(name, variables))
    # What a connection says comes from the host past the rule for answers.
    data = replace(data, failure=shown(data.failure), unreachable=shown(data.unreachable))
    if not (data.failure or data.unreachable):
        verified = data.verified or {}
        if is_lost:
            begun = " after its change had begun" if variables.get("ollama_report_phase") == CHANGING else ""
            data = replace(data, unreachable=LOST.format(begun))
        elif is_changing and not (verified.get("in_sync") and not verified.get("conflicts")):
            data = replace(data, unreachable=BEGUN, compared=BEFORE_CHANGE)
    result = variables.get("ollama_plan_result") or {}
    return Known(
        data,
        service_id=str((data.verified or result).get("service_id") or ""),
        gone_is_accepted=bool((result.get("hardware") or {}).get("gone_is_accepted")),
    )
