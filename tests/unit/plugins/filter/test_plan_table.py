# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters that show plans, and what they say to something that is none."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.filter import plan_table, plans_table
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._planner import plan_host

PLAN = plan_host(gpu={"devices": [{"memory_total_bytes": 12 << 30}]}, models=[], version="0.33.0").to_dict()


def test_a_plan_is_shown_under_the_name_of_its_host():
    filters = plan_table.FilterModule().filters()
    assert filters["plan_table"](PLAN, "gpu01")[0].startswith("gpu01: safe on the GPU")


def test_plans_are_shown_host_by_host():
    filters = plans_table.FilterModule().filters()
    lines = filters["plans_table"]({"b": PLAN, "a": {**PLAN, "safe": False}})
    assert [line.partition("  ")[0] for line in lines[:3]] == ["HOST", "a", "b"]
    assert len(filters["plans_table"]({"b": PLAN, "a": PLAN}, details=True)) > len(lines)


@pytest.mark.parametrize("plan", [{}, {"environment": {}}, 3, None])
def test_something_that_is_no_plan_is_refused(plan):
    with pytest.raises(AnsibleFilterError, match="plan_table takes a plan of ollama_plan"):
        plan_table.plan_table(plan, "gpu01")
    with pytest.raises(AnsibleFilterError, match="plans_table takes plans of ollama_plan"):
        plans_table.plans_table({"gpu01": plan})
