# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of ollama_plan, held against what planning itself takes for granted."""

from __future__ import annotations

from dataclasses import fields

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import (
    APPLYING,
    ARGUMENT_SPEC,
    CHECKS,
    INPUTS,
    POLICY,
    READING,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._policy import Policy, policy_from_dict


def test_the_options_of_a_policy_are_its_fields_with_the_same_defaults():
    assert set(POLICY) == {one.name for one in fields(Policy)}
    given = {name: option["default"] for name, option in POLICY.items() if "default" in option}
    assert policy_from_dict(given) == Policy()


@pytest.mark.parametrize(
    ("name", "refused"),
    [("kv_cache_types", ["q5_1"]), ("spread", "often"), ("on_misfit", "ask"), ("on_gpu_fault", "ask")],
)
def test_every_choice_is_one_that_a_policy_takes_and_no_other_is(name, refused):
    choices = POLICY[name]["choices"]
    for choice in choices:
        policy_from_dict({name: [choice] if name == "kv_cache_types" else choice})
    with pytest.raises(ValueError, match=", ".join(choices)):
        policy_from_dict({name: refused})


def test_no_option_stands_in_two_parts_and_nothing_is_required():
    parts = (CHECKS, READING, APPLYING, INPUTS, POLICY)
    assert len(ARGUMENT_SPEC) == sum(map(len, parts))
    assert not any(option.get("required") for option in ARGUMENT_SPEC.values())
    # What is on or off is off unless somebody asks for it.
    switches = [option for option in ARGUMENT_SPEC.values() if option["type"] == "bool"]
    assert len(switches) == 10
    assert not any(option["default"] for option in switches)
