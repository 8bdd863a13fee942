# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as its files for people: the page, and a table for spreadsheets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.report._csv import as_csv
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._history import TIME_FORMAT
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import Text
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._html_page import fill_page

DATA = "report.json"
PAGE = "report.html"
SHEET = "report.csv"
BENCHMARKS = "benchmark.html"
PLACEMENT = "placement.json"
# What the page tells of a model that is demanded.
_OF_A_MODEL = ("requests", "slots", "short_slots", "short_hosts", "slots_without_one", "context_length")


def now() -> str:
    """This moment as reports tell it."""
    return datetime.now(timezone.utc).strftime(TIME_FORMAT)


def pages(report: Mapping[str, Any], folder: Path, template: str, title: str) -> list[tuple[str, Text]]:
    """Names and texts of the files that people read; the page also tells of what lies beside it in the folder.

    Raises: ValueError in one sentence, while the texts are read, where the template is none or lacks a value.
    """
    link = BENCHMARKS if (folder / BENCHMARKS).exists() else ""
    # In parts, because each is large where there are many hosts.
    return [(PAGE, fill_page({**report, **placed(folder)}, template, title, link)), (SHEET, as_csv(report))]


def read_template(path: Path) -> str:
    """The text of a template. Raises: ValueError in one sentence where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the template {path} of the page cannot be read: {error}") from error


def placed(folder: Path) -> dict[str, Any]:
    """The last placement of the fleet, which place.yml has left in the report's folder; nothing where there is none.

    Where somebody else wrote it the page does without.
    """
    path = folder / PLACEMENT
    try:
        placement = json.loads(path.read_text(encoding="utf-8"))
        made = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).strftime(TIME_FORMAT)
        told = {
            "is_met": placement["is_met"],
            "demand": [
                {"name": str(one["name"]), **{name: one[name] for name in _OF_A_MODEL}} for one in placement["demand"]
            ],
            "hosts": [{"name": str(host["name"]), "slots": dict(host["slots"])} for host in placement["hosts"]],
            **{name: list(map(str, placement[name])) for name in ("notes", "remedies")},
        }
        return {"placement": {**told, "made_at": made}}
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return {}
