# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would close a gap is offered only where the planner has proven that it does."""

from __future__ import annotations

import re

from ansible_collections.gpufleet.ollama.plugins.module_utils.placement import _remedies
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._remedies import (
    MOST_SECONDS,
    remedies,
)
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._highs import solver

from .conftest import LIMITS
from .test__place import GEMMA, LLAMA, PHI, TINY


def offers(placement):
    return remedies(placement, solver(), LIMITS)


def test_as_many_more_hosts_of_a_kind_as_close_the_gap(placed) -> None:
    demand = [{"name": LLAMA, "requests": 30, "context_length": 8192}]
    hosts = {"small": [12], "large": [24]}
    offered = offers(placed(hosts, demand))
    for kind, label in (("small", "GPU of 12 GiB"), ("large", "GPU of 24 GiB")):
        found = next(one for one in offered if f"like {kind} ({label})" in one)
        count = 1 if found.startswith("one more host") else int(re.match(r"(\d+) more hosts", found).group(1))
        more = {**hosts, **{f"more{one}": hosts[kind] for one in range(count)}}
        assert placed(more, demand).is_met
        del more["more0"]
        assert not placed(more, demand).is_met


def test_a_kind_that_cannot_hold_the_model_is_not_offered(placed) -> None:
    offered = offers(placed({"small": [8], "large": [24]}, [{"name": PHI, "requests": 30}]))
    assert not any("like small" in one for one in offered)
    assert any("like large" in one for one in offered)


def test_a_new_host_may_stand_in_another_rack(placed) -> None:
    hosts = {"a": {"gpus": [24], "values": {"rack": "1"}}}
    demand = [{"name": TINY, "requests": 2, "replicas": 2, "spread": "rack"}]
    assert offers(placed(hosts, demand))[0] == "one more host like a (GPU of 24 GiB)"


def test_a_smaller_cache_where_it_suffices(placed) -> None:
    demand = [{"name": LLAMA, "requests": 5, "context_length": 32768}]
    placement = placed({"a": [24]}, demand)
    assert not placement.is_met
    assert "a q8_0 KV cache (ollama_plan_kv_cache_types: [f16, q8_0])" in offers(placement)
    assert placed({"a": {"gpus": [24], "kv_cache_types": ["f16", "q8_0"]}}, demand).is_met


def test_the_longest_context_that_suffices(placed) -> None:
    demand = [{"name": LLAMA, "requests": 8, "context_length": 65536}, {"name": GEMMA, "requests": 1}]
    placement = placed({"a": [24]}, demand)
    (offered,) = [one for one in offers(placement) if one.startswith("a context of")]
    length = int(re.search(r"a context of (\d+) tokens for llama3.1:8b$", offered).group(1))
    demand[0]["context_length"] = length
    assert placed({"a": [24]}, demand).is_met
    demand[0]["context_length"] = 2 * length
    assert not placed({"a": [24]}, demand).is_met


def test_what_does_not_suffice_is_not_offered(placed) -> None:
    offered = offers(placed({"a": [8]}, [{"name": LLAMA, "requests": 99}]))
    assert not any("q8_0" in one or "context" in one for one in offered)


def test_where_there_is_no_time_nothing_is_offered(placed, monkeypatch) -> None:
    placement = placed({"a": [24]}, [{"name": LLAMA, "requests": 99}])
    monkeypatch.setattr(_remedies, "MOST_SECONDS", -1.0)
    assert offers(placement) == []
    assert MOST_SECONDS == 60.0
