# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what a run knows of its hosts on the control node, and hands on only the counts and the table."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Mapping

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import (
    HostData,
    fleet_report,
    table,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._facts import settings_by_fact
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._page import fill_page
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._report_folder import write_files

ARGUMENT_SPEC = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "dir": {"type": "path", "required": True},
    "template": {"type": "path", "required": True},
    "title": {"type": "str", "default": "Ollama GPU fleet"},
}
BENCHMARKS = "benchmark.html"
NOTHING_KNOWN = "this run has learnt nothing of the host: it failed or was lost, see the messages of the run"


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
        folder = Path(options["dir"]).resolve()
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            template = _template(Path(options["template"]))
            report = fleet_report(
                (HostData(**known_of(name, hostvars[name])) for name in options["hosts"]), now
            )
            link = BENCHMARKS if (folder / BENCHMARKS).exists() else ""
            # Both in parts, because each is large where there are many hosts.
            data = json.JSONEncoder().iterencode(report)
            page = fill_page(report, template, options["title"], link)
            write_files(folder, (("report.json", data), ("report.html", page)))
        except ValueError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {
            **result,
            "changed": False,
            "dir": str(folder),
            "summary": report["summary"],
            "table": table(report),
        }


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
    if verified and (verified.get("unreachable") or verified.get("failed")):
        reason = str(verified.get("msg") or "the service could not be looked at").removeprefix(
            "Task failed: "
        )
        if verified.get("unreachable"):
            unreachable = unreachable or reason
        failure = failure or reason
        verified = None
    if not (plan or verified or failure or unreachable):
        failure = NOTHING_KNOWN
    return {
        "name": str(name),
        "plan": plan,
        "verified": verified,
        "gpu": variables.get("ollama_report_gpu") or variables.get("ansible_facts", {}).get("gpufleet_gpu"),
        "failure": failure,
        "unreachable": unreachable,
    }
