# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our drop-in as it lies on a host; what becomes of it when it is changed is tried with `_dropin`."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd import _former, _show
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._place import (
    BENCHMARK_DROPIN,
    DropinError,
    check_names,
    current,
    digest_of,
    is_benchmarks,
    is_edited,
    is_exposed,
    is_former_name,
    is_unproven,
    place,
    read_record,
    unproven_change,
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


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o601, True)])
def test_secrets_that_others_can_read_are_exposed(where, mode, exposed):
    assert not is_exposed(where)
    write(where.path.replace(".conf", ".env"), "", mode)
    assert is_exposed(where) is exposed


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", "[" * 100_000, '{"change": "x"}', '{"change": "", "digests": 3, "proven": true}']
)
def test_a_record_that_is_none_says_nothing(where, text):
    write(where.record_path, text)
    assert read_record(where) is None
    assert not is_unproven(where)


def test_a_way_back_that_nobody_has_seen_to_work_is_unproven(where):
    write(where.record_path, '{"change": "", "digests": ["a"], "proven": false}')
    assert is_unproven(where)


@pytest.mark.parametrize(
    ("folder", "name", "text", "is_former"),
    [
        ("", "zz-old.conf", TEXT, True),
        # The present one, one elsewhere, what systemd would not read, somebody else's and a benchmark's are none.
        ("", NAME, TEXT, False),
        ("/elsewhere", "zz-old.conf", TEXT, False),
        ("", "zz-old.txt", TEXT, False),
        ("", "zz-old.conf", "[Service]\n", False),
        ("", BENCHMARK_DROPIN, TEXT, False),
    ],
)
def test_a_dropin_of_ours_under_another_name_is_a_former_one(where, folder, name, text, is_former):
    path = os.path.join(folder or os.path.dirname(where.path), name)
    assert is_former_name(where, path, text) is is_former
    # Beside a benchmark's ours stays.
    assert not is_former_name(where.named(BENCHMARK_DROPIN), path, text)


@pytest.mark.parametrize("folder", ["former_directory", "withdrawn_directory"])
def test_a_dropin_is_a_benchmarks_by_its_name_or_by_who_changed_it(where, folder):
    assert is_benchmarks(where.named(BENCHMARK_DROPIN))
    _former.keep(getattr(where, folder), _former.change_name(1, "20260101T000000Z-4f2a"), None, 5)
    assert not is_benchmarks(where)
    _former.keep(getattr(where, folder), _former.change_name(2, "benchmark"), None, 5)
    assert is_benchmarks(where)


@pytest.mark.parametrize(
    ("written", "found", "edited"), [(TEXT, TEXT, False), (TEXT, f"{TEXT}#", True), (TEXT, None, True), (None, None, False)]
)
def test_a_dropin_is_edited_where_it_is_another_than_was_written(where, written, found, edited):
    assert is_edited(where, found) is None
    write(where.record_path, json.dumps({"change": "", "digests": [digest_of(written)], "proven": True}))
    assert is_edited(where, found) is edited


@pytest.mark.parametrize(
    ("change", "proven", "unproven"),
    [
        ("change-00000002", False, "change-00000002"),
        ("change-00000002", True, ""),
        # Only the last one is to be proven.
        ("change-00000001", False, ""),
        ("change-00000003", False, ""),
    ],
)
def test_the_last_change_is_unproven_until_the_service_was_seen_healthy_on_it(where, change, proven, unproven):
    assert (unproven_change(where), is_unproven(where)) == ("", False)
    for number in (1, 2):
        _former.keep(where.former_directory, _former.change_name(number, ""), TEXT, 5)
    write(where.record_path, json.dumps({"change": change, "digests": [], "proven": proven}))
    assert (unproven_change(where), is_unproven(where)) == (unproven, bool(unproven))


@pytest.mark.parametrize("suffix", [".conf", ".env"])
def test_a_file_that_cannot_be_read_is_named(where, monkeypatch, suffix):
    path = where.path.replace(".conf", suffix)
    os.mkdir(path)
    with pytest.raises(DropinError, match=f"{path} cannot be read: "):
        current(where)
    os.rmdir(path)
    monkeypatch.setattr(_show, "FILE_LIMIT_BYTES", 3)
    write(path, TEXT)
    with pytest.raises(DropinError, match=f"{path} cannot be read: .* is larger than 3 bytes"):
        current(where)
