# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was observed raises the figures of the same load, and no other's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import GIB, MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._engine import MemoryEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import Launch
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._observed_engine import ObservedEngine
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._seen import Observed
from ansible_collections.gpufleet.ollama.plugins.module_utils.scheduler._model import scheduler_model
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

MODEL = scheduler_model(shape("llama3.1:8b"))
LAUNCH = Launch(8192, 4, 512, "f16", "auto", -1, True, (GIB,), False, "0.33.0")
SEEN = Observed(MODEL.key, "0.33.0", 10488, 8192, 4, 512, "f16", "auto", ((1 * MIB, 2 * MIB, 3 * MIB),))


def test_the_same_load_takes_as_much_as_was_seen():
    plain = MemoryEngine().start(MODEL, LAUNCH, (24 * GIB,))
    raised = ObservedEngine([SEEN]).start(MODEL, LAUNCH, (24 * GIB,))
    (before,), (after,) = plain.memory.gpus, raised.memory.gpus
    assert after.weights_bytes - before.weights_bytes == MIB
    assert after.kv_cache.total_bytes - before.kv_cache.total_bytes == 2 * MIB
    assert after.compute_bytes - before.compute_bytes == 3 * MIB
    assert raised.logged_bytes[0] - plain.logged_bytes[0] == raised.whole_bytes - plain.whole_bytes == 6 * MIB
    assert (plain.memory.basis, raised.memory.basis) == ("exact", "observed")


@pytest.mark.parametrize(
    "other",
    [
        replace(SEEN, blob="sha256-other"),
        replace(SEEN, version="0.33.1"),
        replace(SEEN, context_length=4096),
        replace(SEEN, parallel=2),
        replace(SEEN, batch=1024),
        replace(SEEN, kv_cache_type="q8_0"),
        replace(SEEN, flash_attention="on"),
        replace(SEEN, more_bytes=((0, 0, 1), (0, 0, 1))),
    ],
    ids=["file", "version", "context", "slots", "batch", "cache", "flash attention", "more GPUs"],
)
def test_another_load_takes_what_is_foretold(other):
    free = (24 * GIB,)
    assert ObservedEngine([other]).start(MODEL, LAUNCH, free) == MemoryEngine().start(MODEL, LAUNCH, free)


def test_a_load_without_details_takes_nothing_from_one_with_them():
    """Where the usual split does not fit, they tell of different memory."""
    free, plain, engine = (4 * GIB, 4 * GIB), MemoryEngine(), ObservedEngine([SEEN])
    launch = replace(LAUNCH, fit_targets_bytes=(GIB, GIB))
    for one in (replace(launch, details=False), launch):
        before, after = (each.start(MODEL, one, free).memory for each in (plain, engine))
        assert sum(gpu.total_bytes for gpu in after.gpus) - sum(gpu.total_bytes for gpu in before.gpus) == 6 * MIB


def test_over_two_gpus_each_takes_what_was_seen_of_it():
    launch, free = replace(LAUNCH, fit_targets_bytes=(GIB, GIB)), (6 * GIB, 6 * GIB)
    plain = MemoryEngine().start(MODEL, launch, free)
    for more in (((0, 0, MIB),), ((0, 0, MIB), (0, 0, 3 * MIB))):
        raised = ObservedEngine([replace(SEEN, more_bytes=more)]).start(MODEL, launch, free)
        sizes = [sum(one) for one in more] + [0] * (2 - len(more))
        gained = [after.total_bytes - before.total_bytes for before, after in zip(plain.memory.gpus, raised.memory.gpus)]
        assert gained == sizes
        assert [after - before for before, after in zip(plain.logged_bytes, raised.logged_bytes)] == sizes
        assert raised.whole_bytes - plain.whole_bytes == sum(sizes)


def test_what_does_not_start_takes_no_more_than_nothing():
    launch = replace(LAUNCH, kv_cache_type="q8_0", flash_attention="off")
    seen = replace(SEEN, kv_cache_type="q8_0", flash_attention="off")
    refused = ObservedEngine([seen]).start(MODEL, launch, (24 * GIB,))
    assert refused.failure
    assert refused == MemoryEngine().start(MODEL, launch, (24 * GIB,))
