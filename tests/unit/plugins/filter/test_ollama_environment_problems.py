# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama or systemd would not take as meant."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.filter.ollama_environment_problems import FilterModule

problems = FilterModule().filters()["ollama_environment_problems"]


def test_values_from_yaml_are_checked_as_text():
    assert problems({"OLLAMA_NUM_PARALLEL": 3, "OLLAMA_FLASH_ATTENTION": True}) == []


def test_every_problem_is_told_those_of_systemd_first():
    found = problems({"OLLAMA_DEBUG": "x", "BAD NAME": "1", "A": "x\n", "B": ["list"]})
    assert len(found) == 4
    assert "is not a name that systemd accepts" in found[0]
    assert found[-1].startswith("OLLAMA_DEBUG=x")


def test_version_and_further_names_are_passed_on():
    assert "does not read it yet" in problems({"LLAMA_ARG_FIT": "on"}, "0.24.0")[0]
    assert problems({"OLLAMA_NEW": "1"}, None, ["OLLAMA_NEW"]) == []


@pytest.mark.parametrize(("environment", "version"), [({}, "newest"), ("A=1", "")])
def test_misuse_is_an_error_of_the_filter(environment, version):
    with pytest.raises(AnsibleFilterError):
        problems(environment, version)
