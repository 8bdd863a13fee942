# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host does not choose the settings of this collection by its facts."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._role_variables import FACTS
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._settings_by_fact import (
    PREFIXES,
    settings_by_fact,
)


@pytest.mark.parametrize(
    "name",
    ["gpufleet_report_dir", "ollama_plan_json_path", "ollama_override_pre_restart_tasks", "__gpufleet_plan", "ollama_plan"],
)
def test_a_setting_among_the_facts_is_named(name):
    (sentence,) = settings_by_fact({"ansible_facts": {name: "/tmp", "distribution": "Debian"}})
    assert sentence.startswith(f"{name} is set by a fact of the host")


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"ansible_facts": None},
        {"ansible_facts": {"gpufleet_gpu": {}, "distribution": "Debian", "ollama": "theirs"}},
        {"ollama_plan_json_path": "/srv/plans.json"},
    ],
)
def test_facts_of_others_and_variables_are_let_be(variables):
    assert settings_by_fact(variables) == []


def test_every_role_is_known():
    assert {f"{role}_" for role in FACTS} <= set(PREFIXES)
