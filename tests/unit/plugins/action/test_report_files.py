# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a report are written on the control node, also in check mode, and never outside their folder."""

from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.gpufleet.ollama.plugins.action.report_files import ActionModule


@pytest.fixture
def write(action_of):
    """`write(folder, files)` gives the action's result."""
    return lambda folder, files: action_of(
        ActionModule, "report_files", {"dir": str(folder), "files": files}
    ).run()


def test_folder_and_files_are_made_and_count_as_no_change(write, tmp_path):
    folder = tmp_path / "new" / "report"
    result = write(folder, {"report.json": "{}", "report.html": "<p>ü</p>"})
    assert (result["changed"], result["dir"]) == (False, str(folder))
    assert (folder / "report.html").read_text(encoding="utf-8") == "<p>ü</p>"
    assert stat.S_IMODE((folder / "report.json").stat().st_mode) == 0o644


def test_others_may_read_them_whatever_the_umask(write, tmp_path):
    before = os.umask(0o077)
    try:
        write(tmp_path / "www" / "report", {"report.html": "x"})
    finally:
        os.umask(before)
    made = [tmp_path / "www", tmp_path / "www/report", tmp_path / "www/report/report.html"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o755, 0o755, 0o644]


def test_the_folder_is_told_without_detours(write, tmp_path):
    assert write(tmp_path / "a" / ".." / "report", {})["dir"] == str(tmp_path / "report")


def test_a_report_is_replaced_and_what_lies_beside_it_stays(write, tmp_path):
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, {"report.html": "new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "report.html": "new",
        "notes.txt": "mine",
    }


@pytest.mark.parametrize("name", ["../report.html", "/etc/report.html", "a/b", "", ".."])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_written(write, tmp_path, name):
    result = write(tmp_path / "report", {"report.json": "{}", name: "text"})
    assert result["failed"]
    assert f"{name!r} is no name of a file in {tmp_path / 'report'}" in result["msg"]
    assert not (tmp_path / "report").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(write, tmp_path):
    (tmp_path / "taken").write_text("a file")
    result = write(tmp_path / "taken" / "report", {"report.json": "{}"})
    assert result["failed"]
    assert (
        f"the report cannot be written into {tmp_path / 'taken' / 'report'} on the control node"
        in result["msg"]
    )
