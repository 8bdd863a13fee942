# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables as the Environment= lines of a unit file."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.filter.systemd_environment import FilterModule

systemd_environment = FilterModule().filters()["systemd_environment"]


def test_lines_are_sorted_and_quoted():
    assert systemd_environment({"B": 'say "%"', "A": 3}) == 'Environment="A=3"\nEnvironment="B=say \\"%%\\""'


def test_no_variables_are_no_lines():
    assert systemd_environment({}) == ""


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"A": "x\ny"}, "A: the value holds a newline"),
        ({"A": None}, "A: an environment value"),
        (["A"], "takes names and values"),
    ],
)
def test_what_cannot_be_carried_is_an_error_of_the_filter(environment, sentence):
    with pytest.raises(AnsibleFilterError, match=sentence):
        systemd_environment(environment)
