# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages are drawn anew from what lies in the folder, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.action.report_redraw import ActionModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._page import benchmark_report
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import HostData
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import fleet_report
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT
from ansible_collections.gpufleet.ollama.tests.unit.plugins.filter.test_benchmark import made as measured

TEMPLATES = {
    "template": str(CHECKOUT / "roles/ollama_report/templates/report.html.j2"),
    "benchmark_template": str(CHECKOUT / "roles/ollama_benchmark/templates/benchmark.html.j2"),
}
MADE_AT = "2026-01-01T00:00:00Z"
REPORT = json.dumps(fleet_report([HostData("gpu01", failure="<b>no model</b>")], MADE_AT))
BENCHMARKS = json.dumps(benchmark_report({"gpu02": measured()}, MADE_AT))
WITHOUT_A_COLUMN = REPORT.replace('"max_loaded_models"', '"another"')
PLACEMENT = json.dumps({"is_met": True, "demand": [], "hosts": [], "notes": ["all is well"], "remedies": []})


@pytest.fixture
def redraw(action_of, tmp_path):
    """`redraw(file=text, ...)` gives the result of the action on a folder with these files."""

    def run(files: dict[str, str], **options: str) -> dict[str, Any]:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        return action_of(ActionModule, "report_redraw", {"dir": str(tmp_path), **TEMPLATES, **options}).run(task_vars={})

    return run


def text(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("files", "drawn"),
    [
        ({"report.json": REPORT}, ["report.html", "report.csv"]),
        ({"placement.json": PLACEMENT}, ["report.html", "report.csv"]),
        ({"benchmark.json": BENCHMARKS}, ["benchmark.html"]),
        ({"report.json": REPORT, "benchmark.json": BENCHMARKS}, ["benchmark.html", "report.html", "report.csv"]),
    ],
)
def test_what_there_are_data_for_is_drawn(redraw, tmp_path, files, drawn):
    result = redraw(files)
    assert (result["changed"], result["files"], result["dir"]) == (False, drawn, str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {*files, *drawn}


def test_the_page_goes_on_saying_when_its_data_were_made(redraw, tmp_path):
    redraw({"report.json": REPORT, "placement.json": PLACEMENT})
    page = text(tmp_path, "report.html")
    for told in (MADE_AT, "&lt;b&gt;no model&lt;/b&gt;", "The demand is met", "all is well"):
        assert told in page


def test_a_placement_alone_says_that_no_host_was_looked_at(redraw, tmp_path):
    redraw({"placement.json": PLACEMENT})
    assert "No host was looked at yet" in text(tmp_path, "report.html")


def test_the_pages_are_linked(redraw, tmp_path):
    redraw({"report.json": REPORT, "benchmark.json": BENCHMARKS})
    assert 'href="report.html"' in text(tmp_path, "benchmark.html")
    redraw({})
    assert 'href="benchmark.html"' in text(tmp_path, "report.html")


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {}, "there is nothing to draw in"),
        ({"report.json": "{"}, {}, "report.json cannot be read"),
        ({"report.json": "[]"}, {}, "is not what a run of this collection has written"),
        ({"report.json": "{}"}, {}, "has the format None, and this version draws 1"),
        ({"report.json": REPORT}, {"template": "/nowhere"}, "the template /nowhere of the page cannot be read"),
        ({"report.json": '{"format": 1}'}, {}, "the page cannot be made from this report"),
        *(
            ({"report.json": json.dumps({**json.loads(REPORT), part: value})}, {}, "the page cannot be made from this report")
            for part, value in (("hosts", [5]), ("hosts", [{}]), ("summary", 5), ("generated_at", None), ("made", []))
        ),
        ({"report.json": WITHOUT_A_COLUMN}, {}, "has written (KeyError: 'max_loaded_models')"),
        ({"benchmark.json": "{}"}, {}, "the page cannot be made from this report"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_sentence(redraw, files, options, message):
    result = redraw(files, **options)
    assert result["failed"]
    assert message in result["msg"]


@pytest.mark.parametrize(
    "other",
    [
        "[" * 5000,
        "[]",
        '{"is_met": true}',
        *(
            json.dumps({**json.loads(PLACEMENT), part: value})
            for part, value in (("demand", 5), ("demand", [5]), ("demand", [{"name": []}]), ("notes", 5), ("remedies", None))
        ),
        json.dumps({**json.loads(PLACEMENT), "hosts": [{"name": "a", "slots": 5}]}),
    ],
)
def test_a_placement_that_somebody_else_wrote_costs_no_report(redraw, tmp_path, other):
    assert redraw({"report.json": REPORT, "placement.json": other})["files"] == ["report.html", "report.csv"]
    assert "Demand and supply" not in text(tmp_path, "report.html")
