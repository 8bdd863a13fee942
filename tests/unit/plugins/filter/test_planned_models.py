# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of a plan in the order in which to load them."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.filter.planned_models import FilterModule

planned_models = FilterModule().filters()["planned_models"]
PLAN = {
    "load_order": ["b", "a"],
    "placement": "gpu",
    "models": [
        {"name": "a", "context_length": 4096, "num_parallel": 4, "batch": 512, "planned": True},
        {"name": "b", "context_length": 8192, "num_parallel": 1, "batch": 512, "planned": True},
        {"name": "unplanned", "context_length": 1, "num_parallel": 1, "planned": False},
    ],
}


def test_models_come_in_the_plans_order_with_what_is_planned():
    assert planned_models(PLAN) == [
        {"name": "b", "context_length": 8192, "num_parallel": 1, "placement": "gpu"},
        {"name": "a", "context_length": 4096, "num_parallel": 4, "placement": "gpu"},
    ]


def test_where_none_is_wanted_those_to_be_served_are_given_on_demand():
    unwanted = {**PLAN, "load_order": []}
    assert planned_models(unwanted) == []
    assert [model["name"] for model in planned_models(unwanted, served=True)] == ["a", "b"]
    assert planned_models(PLAN, served=True) == planned_models(PLAN)


@pytest.mark.parametrize("plan", [{}, {"models": None}, {**PLAN, "load_order": ["absent"]}])
def test_what_is_no_plan_is_an_error_of_the_filter(plan):
    with pytest.raises(AnsibleFilterError, match="planned_models takes a plan"):
        planned_models(plan)
