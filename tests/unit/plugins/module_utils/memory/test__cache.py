# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cache takes, in sum."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._cache import KvCache, padded


def test_caches_add_up_by_kind():
    assert KvCache(1, 20, 300) + KvCache(4000, 50000, 600000) == KvCache(4001, 50020, 600300)
    assert KvCache(1, 20, 300).total_bytes == 321
    assert KvCache().total_bytes == 0


@pytest.mark.parametrize(
    ("count", "multiple", "result"), [(0, 256, 0), (1, 256, 256), (256, 256, 256), (257, 256, 512), (7, 1, 7)]
)
def test_a_count_is_rounded_up(count, multiple, result):
    assert padded(count, multiple) == result
