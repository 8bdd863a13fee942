# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tests `make check` runs for a change."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import TESTS


@pytest.fixture(scope="module")
def check():
    sys.path.insert(0, str(TESTS / "gates"))
    try:
        spec = importlib.util.spec_from_file_location("gate_check", TESTS / "gates" / "check.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TESTS / "gates"))
    return module


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ("plugins/module_utils/planning/_goal.py", ["plugins/module_utils/planning/test__goal.py"]),
        ("plugins/action/what_if.py", ["plugins/action/test_what_if.py"]),
        ("tests/unit/plugins/action/test_what_if.py", ["plugins/action/test_what_if.py"]),
        ("roles/ollama_plan/tasks/main.yml", ["roles"]),
        ("playbooks/site.yml", ["roles"]),
        ("docs/arithmetic.md", ["docs"]),
        ("README.md", ["docs"]),
        ("tests/bench/peers.py", []),
    ],
)
def test_a_change_brings_the_tests_beside_it(check, changed, tests):
    assert set(check.tests_of([changed])) == {*check.ALWAYS, *(f"tests/unit/{name}" for name in tests)}


def test_a_test_is_not_named_beside_its_folder(check):
    found = check.tests_of(["docs/arithmetic.md", "tests/unit/docs/test_variables.py"])
    assert found == sorted({*check.ALWAYS, "tests/unit/docs"})
