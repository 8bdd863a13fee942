# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host behind --limit, and the command that a benchmark tells an operator to type."""

from __future__ import annotations

import json
import re
import shlex

import pytest
import yaml
from ansible_collections.gpufleet.ollama.plugins.filter.host_pattern import FilterModule
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT
from jinja2.nativetypes import NativeEnvironment

host_pattern = FilterModule().filters()["host_pattern"]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("gpu01.example.com", "gpu01.example.com"), ("gpu*", r"~^gpu\U0000002a\Z"), ("-e", r"~^\U0000002de\Z")],
)
def test_a_name_that_means_others_becomes_a_pattern_of_its_letters(name, pattern):
    assert host_pattern(name) == pattern


@pytest.mark.parametrize(
    ("variables", "more"),
    [
        ({}, []),
        ({"gpufleet_hosts": "ollama"}, []),
        ({"gpufleet_hosts": "gpu nodes"}, ["-e", '{"gpufleet_hosts": "gpu nodes"}']),
    ],
)
@pytest.mark.parametrize("name", ["gpu01", "a,b", "$(id)"])
def test_the_command_that_ends_a_benchmark_is_for_its_host_alone(name, variables, more):
    given = yaml.safe_load((CHECKOUT / "roles" / "ollama_benchmark" / "vars" / "main.yml").read_text())
    known = {"inventory_hostname": name, "ansible_inventory_sources": ["/srv/my fleet/i.yml"], **variables}
    environment = NativeEnvironment()
    environment.filters.update(
        {
            "gpufleet.ollama.host_pattern": host_pattern,
            "quote": shlex.quote,
            "regex_replace": lambda text, pattern, by: re.sub(pattern, by, text),
            "to_json": json.dumps,
        }
    )
    words = shlex.split(environment.from_string(given["__ollama_benchmark_repair"]).render(known))
    assert words[:4] == ["ansible-playbook", "-i", "/srv/my fleet/i.yml", "gpufleet.ollama.benchmark"]
    assert words[4:] == ["-e", "gpufleet_benchmark_restore=true", "--limit", host_pattern(name), *more]
