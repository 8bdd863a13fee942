# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our drop-in as it lies on a host; what becomes of it when it is changed is tried with `_dropin`."""

from __future__ import annotations

import os

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import (
    DropinError,
    check_names,
    current,
    is_exposed,
    is_unproven,
    place,
    read_record,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secret_file import MARKER, parted

UNIT, NAME = "ollama.service", "zz-gpufleet.conf"
TEXT = f'{MARKER}\n[Service]\nEnvironment="A=1"\nEnvironment="HF_TOKEN=hunter2"\n'


@pytest.fixture
def where(tmp_path):
    found = place(UNIT, "system", NAME, str(tmp_path / "etc"), str(tmp_path / "state"))
    os.makedirs(os.path.dirname(found.path))
    os.makedirs(os.path.dirname(found.record_path))
    return found


def write(path, text, mode=0o600):
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(path, mode)


@pytest.mark.parametrize(
    ("unit", "name"), [(UNIT, "../x.conf"), (UNIT, "x"), (UNIT, ".conf"), ("../x.service", NAME), ("x", NAME)]
)
def test_names_that_lead_elsewhere_are_refused(unit, name):
    with pytest.raises(DropinError, match="is not"):
        check_names(unit, name)


def test_both_files_are_one_text_and_none_is_none(where):
    assert current(where) is None
    whole = parted(TEXT, where.path)
    dropin, _boundary, secrets = whole.partition("# Secret values, in a file that its owner alone may read:\n")
    write(where.path, dropin)
    write(where.path.replace(".conf", ".env"), secrets)
    assert current(where) == whole


def test_somebody_elses_file_is_named(where):
    write(where.path, "[Service]\n")
    with pytest.raises(DropinError, match=f"{where.path} was not written by gpufleet.ollama"):
        current(where)


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_secrets_that_others_can_read_are_exposed(where, mode, exposed):
    assert not is_exposed(where)
    write(where.path.replace(".conf", ".env"), "", mode)
    assert is_exposed(where) is exposed


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"change": "x"}', '{"change": "", "digests": 3, "proven": true}'])
def test_a_record_that_is_none_says_nothing(where, text):
    write(where.record_path, text)
    assert read_record(where) is None
    assert not is_unproven(where)


def test_a_way_back_that_nobody_has_seen_to_work_is_unproven(where):
    write(where.record_path, '{"change": "", "digests": ["a"], "proven": false}')
    assert is_unproven(where)
