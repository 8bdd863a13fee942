# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files beside a model, counted by their size on disk."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._side_files import (
    draft_bytes,
    side_files_note,
    with_side_files,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

PLAIN = shape("llama3.2:1b")
MIB = 1 << 20


@pytest.mark.parametrize(
    ("draft", "size"),
    [(5, 5), (0, 0), (-5, 0), (True, 0), ("5", 0), (5.0, 0), (None, 0)],
)
def test_a_draft_model_has_a_whole_number_of_bytes(draft, size):
    assert draft_bytes(replace(PLAIN, parameters={"draft_bytes": draft})) == size


@pytest.mark.parametrize(("adapter", "draft"), [(300, 0), (0, 20), (300, 20)])
def test_they_count_on_every_gpu_and_once_among_the_weights(adapter, draft):
    found = with_side_files(replace(PLAIN, adapter_bytes=adapter, parameters={"draft_bytes": draft}))
    assert found.per_device_bytes == PLAIN.per_device_bytes + adapter + draft
    assert found.text_bytes == PLAIN.text_bytes + adapter + draft
    assert found.layers == PLAIN.layers


def test_a_model_without_any_stays_as_it_is():
    assert with_side_files(PLAIN) is PLAIN
    assert side_files_note(PLAIN) == ""


ADAPTERS = "its adapters are counted by their size on disk, 2 MiB on every GPU"
DRAFT = "its draft model is counted by its size on disk, 3 MiB on every GPU"


@pytest.mark.parametrize(
    ("adapter", "draft", "note"),
    [(2 * MIB, 0, ADAPTERS), (0, 3 * MIB, DRAFT), (MIB + 1, 2 * MIB + 1, f"{ADAPTERS}; {DRAFT}")],
)
def test_they_make_the_memory_an_estimate(adapter, draft, note):
    assert side_files_note(replace(PLAIN, adapter_bytes=adapter, parameters={"draft_bytes": draft})) == note
