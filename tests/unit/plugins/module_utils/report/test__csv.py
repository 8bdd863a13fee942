# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as a table for spreadsheets: a line for each host, and nothing in it is a formula."""

from __future__ import annotations

import csv
import io

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._csv import COLUMNS, as_csv
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._history import with_history
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import HostData
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import fleet_report
from ansible_collections.gpufleet.ollama.tests.report.fleet import fleet
from hypothesis import given
from hypothesis import strategies as st

NOW = "2026-01-01T00:00:00Z"


def read(hosts):
    report = with_history(fleet_report(hosts, NOW), ())
    return list(csv.DictReader(io.StringIO("".join(as_csv(report)))))


def test_it_has_a_line_for_each_host_the_worst_first():
    data = [
        HostData(
            name,
            plan=known.get("ollama_plan"),
            verified=known.get("ollama_verify_result"),
            failure=known.get("ollama_report_failure", ""),
        )
        for name, known in fleet(60).items()
        if "ollama_report_unreachable" not in known
    ]
    report = fleet_report(data, NOW)
    rows = read(data)
    assert [row["host"] for row in rows] == [host["name"] for host in report["hosts"]]
    (drifted, *_more) = (row for row in rows if row["state"] == "drifted")
    assert drifted["causes"]
    assert drifted["causes"] in drifted["why"]
    assert "gpufleet.ollama.site" in drifted["command"]
    gpus = {host["name"]: host["gpus"] for host in report["hosts"]}
    for row in rows:
        total = sum(gpu["memory_total_bytes"] for gpu in gpus[row["host"]]) / 2**30
        assert float(row["gpu_memory_gib"]) == pytest.approx(total, abs=0.051)
        assert row["since"] == NOW


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t=", "\r@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_what_a_spreadsheet_would_compute_is_text(begins):
    (row,) = read([HostData("a", failure=f"{begins}cmd|'/C calc'!A0")])
    assert row["why"] == f"'{begins.strip()}cmd|'/C calc'!A0"


@pytest.mark.parametrize("text", ["x;=1+1", "x, y;=1+1", "x; @A1", 'x";-1', "=1;=2"])
def test_nor_does_it_where_semicolons_part_cells(text):
    (row,) = read([HostData("a", failure=text)])
    cells = [cell.strip() for cell in row["why"].split(";")]
    assert len(cells) == text.count(";") + 1
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=";")))
def test_whatever_a_host_says_stays_in_its_cell(text):
    (row,) = read([HostData("a", failure=f"x{text}")])
    assert list(row) == list(COLUMNS)
    assert row["host"] == "a"
    assert row["why"] == " ".join(f"x{text}".split())
