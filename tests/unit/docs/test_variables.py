# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of all variables is what the argument specs say, and says of every default what it costs."""

from __future__ import annotations

import importlib.util
import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import PLAYBOOK_SPEC, SPECS
from ansible_collections.gpufleet.ollama.tests.unit.data import TESTS

SPEC = importlib.util.spec_from_file_location("gate_variables", TESTS / "gates" / "variables.py")
page = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(page)
OPTIONS = dict(page.options())
COSTS = page.read(page.COSTS)


def test_it_is_what_the_argument_specs_say_today():
    assert page.PAGE.read_text(encoding="utf-8") == page.text(), "run make variables"


def test_every_variable_has_one_row():
    known = set(PLAYBOOK_SPEC) | {
        name for specs in SPECS.values() for spec in specs.values() for name in spec
    }
    assert set(OPTIONS) == known
    text = page.text()
    rows = [len(re.findall(rf"(?m)^\| `{name}`(?:<br>| \|)", text)) for name in OPTIONS]
    assert rows == [1] * len(OPTIONS)


def test_of_every_default_it_is_said_what_it_costs_and_of_nothing_else():
    assert set(COSTS) == {name for name, option in OPTIONS.items() if option.get("default") is not None}
    assert [name for name, cost in COSTS.items() if not cost.strip().endswith(".")] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("V(user\\)s) of E(OLLAMA_HOST)", "`user)s` of `OLLAMA_HOST`"),
        ("as C(ansible_facts['a'].b(c\\)) has", "as `ansible_facts['a'].b(c)` has"),
        (
            "P(gpufleet.ollama.planned_models#filter), M(gpufleet.ollama.gpu_facts)",
            "`planned_models`, `gpu_facts`",
        ),
        ("O(gpufleet.ollama.ollama_plan#module:gpu) or O(ollama_plan_gpu)", "`gpu` or `ollama_plan_gpu`"),
    ],
)
def test_markup(text, shown):
    assert page.markdown(text) == shown


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ({}, ""),
        ({"default": ""}, '`""`'),
        ({"default": False}, "`false`"),
        ({"default": [1, "25%"]}, '`[1, "25%"]`'),
    ],
)
def test_defaults(option, shown):
    assert page.default_of(option) == shown


def test_a_bar_does_not_end_a_cell():
    shown = page.row("a", {"description": "b | c", "default": "{{ a | b }}", "choices": ["x"]}, "d")
    assert shown == "| `a`<br>`{{ a \\| b }}` | b \\| c One of `x`. | d |\n"
