# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a slice may take; what it does is tested with the steps that it is given, in test__upkeep.py."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import MARGIN_SECONDS
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._pulling import CHECK_SECONDS
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._upkeep import (
    CREATE,
    PULL,
    ModelStep,
    Wish,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._upkeep_slice import (
    limit_seconds,
    seconds_for,
)


@pytest.mark.parametrize(("size_bytes", "seconds"), [(0, 60.0), (20_000_000, 61.0), (40_000_000_000, 2060.0)])
def test_reading_a_file_may_take_what_the_slowest_disk_takes(size_bytes, seconds):
    assert seconds_for(size_bytes) == seconds


@pytest.mark.parametrize(("action", "files_seconds"), [(PULL, 60.0), (CREATE, 2060.0)])
def test_a_slice_may_go_on_for_its_checks_and_for_files_that_are_read_and_copied(action, files_seconds):
    step = ModelStep(Wish("m"), action, size_bytes=40_000_000_000)
    assert limit_seconds([step], 12) == 12 + 2 * CHECK_SECONDS + 2 * files_seconds + MARGIN_SECONDS
