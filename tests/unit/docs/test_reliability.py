# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every finding has its row in the table of faults, and every row a test that exists."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

PAGE = CHECKOUT / "docs/reliability.md"
HEAD = ["Finding", "Fault", "What you see", "What is left", "What repairs", "Test"]
# The trial with a real Ollama has no sixth and no eighth finding.
FINDINGS = {
    *(f"A{number}" for number in range(1, 11)),
    *(f"B{number}" for number in range(1, 13)),
    *(f"C{number}" for number in range(1, 9)),
    *(f"S{number}" for number in range(1, 19)),
    *(f"F{number}" for number in (1, 2, 3, 4, 5, 7, 9, 10, 11, 12)),
    *("F", "G"),
    *(f"R{number}" for number in range(1, 10)),
}
TEST = re.compile(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/.]+\.py)\)")


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


FAULTS = [row for row in rows() if row != HEAD]


def test_every_finding_has_a_row():
    named = {finding for row in FAULTS for finding in row[0].split(", ")}
    assert named == FINDINGS | {"-"}


@pytest.mark.parametrize("row", FAULTS, ids=lambda row: f"{row[0]}: {row[1]}"[:60])
def test_a_row_says_all_and_names_tests_that_exist(row):
    assert len(row) == len(HEAD)
    assert all(row)
    tests = TEST.findall(row[-1])
    assert ", ".join(f"[`{name}`](../{file})" for name, file in tests) == row[-1]
    assert [name for name, file in tests if f"def {name}(" not in (CHECKOUT / file).read_text(encoding="utf-8")] == []
