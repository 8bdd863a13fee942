# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs a plan was applied for is remembered on the host."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._planned import (
    MAX_FILE_BYTES,
    RecordError,
    record_of,
    remember,
    remembered,
)
from hypothesis import given
from hypothesis import strategies as st

A, B = ({"uuid": f"GPU-{name}", "name": "RTX"} for name in "ab")


def test_what_is_remembered_is_what_was_applied(tmp_path):
    path = str(tmp_path / "state" / "planned_gpus.json")
    assert remembered(path) is None
    for gpus in ([A, B], [A], []):
        record = record_of(gpus, "0.33.0", 10488, [{"blob": "sha256-a"}])
        remember(path, record)
        assert remembered(path) == record
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0


@given(st.one_of(st.binary(max_size=60), st.sampled_from([b"{}", b'{"gpus": 5}', b'{"gpus": [{}]}', b"[" * 9999])))
def test_a_file_of_anybody_is_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("state") / "planned_gpus.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"was not written by this collection: remove it"):
        remembered(str(path))


def test_what_cannot_be_read_or_is_too_long_is_one_sentence(tmp_path):
    with pytest.raises(RecordError, match=r"cannot be read: .*; run as root"):
        remembered(str(tmp_path))
    long = tmp_path / "long"
    long.write_text('{"gpus": []}' + " " * MAX_FILE_BYTES)
    with pytest.raises(RecordError, match="was not written by this collection"):
        remembered(str(long))
    with pytest.raises(RecordError, match=r"cannot be written: .*; what stood there is unchanged"):
        remember(str(long / "x"), record_of([A]))


def test_a_record_of_a_former_release_has_no_version(tmp_path):
    path = tmp_path / "planned_gpus.json"
    path.write_text('{"gpus": [{"uuid": "GPU-a", "name": "RTX"}]}')
    assert remembered(str(path)) == record_of([A])


def test_of_many_observed_loads_some_are_kept():
    assert len(record_of([], observed=[{}] * 1000)["observed"]) == 64
