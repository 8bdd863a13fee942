# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the pages of a report's folder anew from the data that lie there, and contacts no host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import FORMAT, fleet_report
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._atomic_file import Text
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._fleet_module import FleetModule
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._fleet_pages import (
    BENCHMARKS,
    DATA,
    PAGE,
    now,
    pages,
    placed,
    read_template,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._html_page import fill_page
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._made_by import made_by
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._report_folder import write_files

ARGUMENT_SPEC = {
    "dir": {"type": "path", "required": True},
    "template": {"type": "path", "required": True},
    "title": {"type": "str", "default": "Ollama GPU fleet"},
    "benchmark_template": {"type": "path"},
    "benchmark_title": {"type": "str", "default": "Ollama benchmarks"},
}
BENCHMARK_DATA = "benchmark.json"


class ActionModule(FleetModule):
    """The work of the module `report_redraw`."""

    argument_spec = ARGUMENT_SPEC

    def answer(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        folder = Path(options["dir"]).resolve()
        files: list[tuple[str, Text]] = []
        measured = _kept(folder / BENCHMARK_DATA)
        if measured is not None and options["benchmark_template"]:
            template = read_template(Path(options["benchmark_template"]))
            link = PAGE if (folder / DATA).exists() else ""
            files.append((BENCHMARKS, fill_page(measured, template, options["benchmark_title"], link)))
        report = _kept(folder / DATA)
        if report is None and placed(folder):
            report = fleet_report([], now(), made_by(variables))
        if report is not None:
            if report.get("format") != FORMAT:
                raise ValueError(
                    f"{folder / DATA} has the format {report.get('format')!r:.20}, and this version draws {FORMAT}: run "
                    "gpufleet.ollama.drift, which writes it anew"
                )
            template = read_template(Path(options["template"]))
            files += pages(report, folder, template, options["title"])
        if not files:
            raise ValueError(
                f"there is nothing to draw in {folder}: neither {DATA}, which gpufleet.ollama.drift writes there, nor "
                f"placement.json nor {BENCHMARK_DATA}; set gpufleet_report_dir to the folder of the report"
            )
        try:
            write_files(folder, files)
        except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
            raise ValueError(
                f"{folder / DATA} is not what a run of this collection has written ({type(error).__name__}: {error})"
            ) from error
        return {"dir": str(folder), "files": [name for name, _text in files]}


def _kept(path: Path) -> dict[str, Any] | None:
    """What a run has left in a file; None where there is none.

    Raises: ValueError in one sentence where it is no JSON of a run.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(kept, dict):
        raise ValueError(f"{path} is not what a run of this collection has written")
    return kept
