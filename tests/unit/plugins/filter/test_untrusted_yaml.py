# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data of a host in a file of variables: Ansible reads what was written and evaluates none of it."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.gpufleet.ollama.plugins.filter.untrusted_yaml import FilterModule, untrusted_yaml
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.text() | st.sampled_from(["{{ 7 * 7 }}", "{% raw %}", "!vault |", "---\n", "570", "null", "'"])
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def read_back(tmp_path_factory):
    """`read_back(data)` is what a play sees of it, through a file of variables and an expression."""
    path = tmp_path_factory.mktemp("host_vars") / "found.yml"

    def read(data):
        path.write_text(f"# A comment\n---\nfound: {untrusted_yaml(data)}\n", encoding="utf-8")
        loader = DataLoader()
        variables = loader.load_from_file(str(path), cache="none")
        return Templar(loader=loader, variables=variables).template(variables["found"])

    return read


@given(data=st.lists(DATA, max_size=3) | st.dictionaries(TEXTS, DATA, max_size=3))
def test_data_comes_back_as_it_was(read_back, data):
    assert json.loads(read_back(data)) == data


def test_a_template_in_a_gpus_name_is_not_run(read_back, tmp_path):
    name = "GPU {{ lookup('pipe', 'touch " + str(tmp_path / "run") + "') }}"
    assert json.loads(read_back({"name": name, name: [name]})) == {"name": name, name: [name]}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [object(), {"a": {1, 2}}, float("nan")])
def test_what_is_no_data_is_refused(data):
    with pytest.raises(AnsibleFilterError, match="untrusted_yaml takes data only"):
        FilterModule().filters()["untrusted_yaml"](data)
