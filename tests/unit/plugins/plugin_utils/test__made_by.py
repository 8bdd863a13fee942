# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which run a report was made, told without anything that a host or a secret could stand in."""

from __future__ import annotations

import getpass
import re

import pytest
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._made_by import collection_version, made_by
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT


def test_the_version_is_that_of_the_collection():
    assert f"version: {collection_version()}\n" in (CHECKOUT / "galaxy.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{here}/inventories/prod.yml", "inventories/prod.yml"),
        ("/etc/ansible/hosts", "/etc/ansible/hosts"),
        ("gpu01,gpu02,", "gpu01,gpu02,"),
    ],
)
def test_an_inventory_is_named_as_one_would_from_here(monkeypatch, tmp_path, source, told):
    monkeypatch.chdir(tmp_path)
    made = made_by({"ansible_inventory_sources": [source.format(here=tmp_path)]})
    assert made.inventory == (told,)


@pytest.mark.parametrize(
    ("variables", "user"),
    [
        ({}, None),
        ({"awx_user_name": "alice"}, "alice"),
        ({"tower_user_name": "{{ lookup('env', 'X') }}"}, None),
    ],
)
def test_the_user_is_whose_job_it_is(variables, user):
    told = made_by(variables).user
    assert told == user if user else re.fullmatch(rf"{re.escape(getpass.getuser())} on \S+", told)


def test_a_user_without_a_name_has_a_number(monkeypatch):
    def nobody():
        raise OSError("no such user")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert re.fullmatch(r"user \d+ on \S+", made_by({}).user)


def test_limit_and_pattern_are_told_where_they_are_texts():
    made = made_by({"ansible_limit": "gpu*", "gpufleet_hosts": "{{ x }}"})
    assert (made.limit, made.pattern) == ("gpu*", "")
