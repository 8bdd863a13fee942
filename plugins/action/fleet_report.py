# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what a run knows of its hosts on the control node, and hands on only the counts and the table."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._changes import closing_lines
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._earlier import with_earlier
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._history import (
    Recorded,
    read_lines,
    recorded,
    with_history,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import HostData
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._known import (
    Known,
    known,
    refusals_of,
    services_with_two_names,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._metrics import metrics
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._next_command import pattern_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import (
    MOST_OF_A_PROBLEM,
    fleet_report,
    state_lines,
    warning_lines,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import Text
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import shown
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._fleet_pages import (
    DATA,
    now,
    pages,
    read_template,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._made_by import made_by
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._report_folder import (
    read_end,
    write_files,
    write_metrics,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._settings_by_fact import settings_by_fact

ARGUMENT_SPEC = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "dir": {"type": "path", "required": True},
    "template": {"type": "path", "required": True},
    "title": {"type": "str", "default": "Ollama GPU fleet"},
    "lost": {"type": "list", "elements": "str", "default": []},
    "changing": {"type": "list", "elements": "str", "default": []},
    "metrics_file": {"type": "path", "default": ""},
}
# What reproduces loads that were not as foretold, a file for each host.
EVIDENCE = "evidence"
HISTORY = "history.jsonl"
HISTORY_PUT_ASIDE = "history.1.jsonl"
MOST_OF_A_HISTORY_BYTES = 8 << 20


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
        report = fleet_report([one.data for one in known], now(), made_by(task_vars or {}))
        result.update(
            changed=False,
            dir=str(Path(options["dir"]).resolve()),
            summary=report["summary"],
            table=state_lines(report),
            closing=closing_lines(report),
            plan_warnings=warning_lines(report),
            refusals=[*refusals_of(report, known), *twins],
            to_pull=[pattern_of(one.data.name) for one in known if one.has_to_pull],
        )
        if twins:
            result["warnings"] = twins
        failures = _written(report, options, hostvars)
        # What there is to tell is told all the same.
        return {**result, "failed": True, "msg": "; ".join(failures)} if failures else result


def _written(report: Mapping[str, Any], options: Mapping[str, Any], fleet: Container[str]) -> list[str]:
    """Writes everything that can be written; why something could not be, one sentence each.

    fleet: the hosts of the inventory.
    """
    folder = Path(options["dir"]).resolve()
    evidence = [(str(host["name"]), host.pop("evidence")) for host in report["hosts"]]
    past = read_lines(read_end(folder / HISTORY, MOST_OF_A_HISTORY_BYTES))
    # What is said of hosts whose change begins now is true only if the run ends here.
    record = Recorded(past, ()) if options["changing"] else recorded(past, report)
    told = with_history(report, past)
    whole = with_earlier(report, _earlier(folder / DATA), fleet)
    failures = []
    try:
        _write(with_history(whole, past), record, folder, options)
        _write_evidence(evidence, folder)
    except ValueError as error:
        failures.append(str(error))
    try:
        if options["metrics_file"]:
            write_metrics(Path(options["metrics_file"]).resolve(), metrics(told))
    except ValueError as error:
        failures.append(str(error))
    return failures


def _earlier(path: Path) -> Any:
    """The report that lies there, None for none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _write_evidence(evidence: Sequence[tuple[str, Any]], folder: Path) -> None:
    files = [
        (f"{name}.json", json.dumps({"loads": loads}) + "\n")
        for name, loads in evidence
        if loads and name == os.path.basename(name)
    ]
    if files:
        write_files(folder / EVIDENCE, files)


def _write(report: Mapping[str, Any], record: Recorded, folder: Path, options: Mapping[str, Any]) -> None:
    template = read_template(Path(options["template"]))
    # In parts, because it is large where there are many hosts.
    data = json.JSONEncoder().iterencode(report)
    files: list[tuple[str, Text]] = [(DATA, data), *pages(report, folder, template, options["title"])]
    if record.put_aside:
        files.append((HISTORY_PUT_ASIDE, (one.line for one in record.put_aside)))
    if record.added:
        files.append((HISTORY, (one.line for one in record.changes)))
    write_files(folder, files)


def _known(name: str, hostvars: Mapping[str, Any], is_lost: bool, is_changing: bool) -> Known:
    try:
        told = known(name, hostvars[name], is_lost, is_changing)
        # What a connection says comes from the host past the rule for answers.
        data = replace(told.data, failure=shown(told.data.failure), unreachable=shown(told.data.unreachable))
        return replace(told, data=data)
    except Exception as error:  # whatever it is, it costs one host its row and no other
        problem = f"its variables cannot be read ({type(error).__name__}: {error})"[:MOST_OF_A_PROBLEM]
        return Known(HostData(str(name), failure=problem))
