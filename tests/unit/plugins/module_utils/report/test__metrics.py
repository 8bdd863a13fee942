# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report in numbers is in Prometheus' format, whatever its hosts are called and whatever they say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._history import StateChange, with_history
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._host_data import HostData
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._metrics import (
    METRICS,
    escaped,
    metrics,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import fleet_report
from ansible_collections.gpufleet.ollama.tests.report.exposition import Told, read_metrics
from ansible_collections.gpufleet.ollama.tests.report.fleet import fleet
from hypothesis import given
from hypothesis import strategies as st

NOW = "2026-11-23T05:47:29Z"
NOW_SECONDS = 1795412849
SINCE = "2026-11-22T00:00:00Z"
SINCE_SECONDS = 1795305600
PLANS = [known["ollama_plan"] for known in fleet(200).values() if "ollama_plan" in known]
PLAN = next(plan for plan in PLANS if len(plan["gpus"]) == 2 and plan["models"])
IN_SYNC = {"differences": [], "conflicts": [], "problems": [], "overrides": []}
LOAD = {
    "model": "gemma3:4b",
    "kind": "kv_cache",
    "gpu": 0,
    "basis": "exact",
    "parallel": 2,
    "context_length": 4096,
    "predicted_bytes": 100,
    "seen_bytes": 90,
    "difference_bytes": -10,
    "when": "2026-11-22T10:00:00",
    "is_beyond": True,
    "is_absurd": False,
}
HISTORY = {
    "model": "gemma3:4b",
    "loads": 9,
    "evicted": 4,
    "spilled": 0,
    "failed": 1,
    "error": "",
    "at_least": False,
}


def told(*hosts: HostData, changes: tuple[StateChange, ...] = ()) -> dict[str, Told]:
    return read_metrics("".join(metrics(with_history(fleet_report(hosts, NOW), changes))))


def difference(layer: str, found: str | None, variable: str = "OLLAMA_NUM_PARALLEL") -> dict[str, Any]:
    return {"layer": layer, "variable": variable, "found": found, "wanted": "3", "message": "m"}


def compared(*differences: dict[str, Any], **more: Any) -> HostData:
    return HostData("a", plan=PLAN, verified={**IN_SYNC, "differences": list(differences)}, **more)


def test_a_host_is_in_one_state_since_a_moment() -> None:
    found = told(compared(), changes=(StateChange(SINCE, "a", "in sync"),))
    states = {
        one["state"]: found["gpufleet_host_state"].value(**one)
        for one in found["gpufleet_host_state"].labels()
    }
    assert {state for state, value in states.items() if value} == {"in sync"}
    assert set(states.values()) == {0, 1}
    assert found["gpufleet_host_state_since_timestamp_seconds"].value(host="a") == SINCE_SECONDS
    assert found["gpufleet_host_report_timestamp_seconds"].value(host="a") == NOW_SECONDS
    assert found["gpufleet_plan_timestamp_seconds"].value(host="a") == NOW_SECONDS


@pytest.mark.parametrize(
    ("host", "layers"),
    [
        (compared(), {"file": 1, "unit": 1, "process": 1, "server": 1, "model": 1}),
        (
            compared(difference("process", "1"), difference("server", "1")),
            {"file": 1, "unit": 1, "process": 0, "server": 0, "model": 1},
        ),
        (compared(unseen=("run as root",)), {}),
        (compared(unreachable="timed out"), {}),
        (HostData("a", plan=PLAN), {}),
    ],
)
def test_layers_are_told_of_where_they_were_looked_at(host: HostData, layers: dict[str, int]) -> None:
    found = told(host).get("gpufleet_host_layer_in_sync", Told("", ""))
    assert {one["layer"]: found.value(**one) for one in found.labels()} == layers


PLANNED = PLAN["num_parallel"]


@pytest.mark.parametrize(
    ("host", "running"),
    [
        (compared(), PLANNED),
        (compared(difference("file", "7")), PLANNED),
        (compared(difference("process", "1")), 1),
        (compared(difference("process", "1"), difference("server", "2")), 2),
        (compared(difference("process", None)), None),
        (compared(difference("process", "+1")), None),
        (compared(difference("process", "9" * 11)), None),
        (compared(difference("process", "9" * 10)), 9999999999),
        (compared(difference("process", "inactive", variable="")), None),
        (compared(difference("server", "1", variable="OLLAMA_CONTEXT_LENGTH")), PLANNED),
        (compared(unreachable="timed out"), None),
        (HostData("a", plan=PLAN), None),
        (HostData("a", plan={**PLAN, "environment": {}}, verified=IN_SYNC), None),
    ],
)
def test_what_runs_is_told_where_somebody_has_seen_it(host: HostData, running: int | None) -> None:
    found = told(host)
    assert found.get("gpufleet_running_num_parallel", Told("", "")).value(host="a") == running
    assert found["gpufleet_planned_num_parallel"].value(host="a") == PLANNED


def test_drift_is_counted_by_cause() -> None:
    host = compared(
        difference("process", "1"),
        difference("process", "1", "OLLAMA_KEEP_ALIVE"),
        difference("file", "1", "X"),
    )
    found = told(host)["gpufleet_host_drifts"]
    assert (found.value(host="a", cause="stale process"), found.value(host="a", cause="file edited")) == (
        2,
        1,
    )


def test_the_parts_of_a_gpu_add_up_to_its_size() -> None:
    found = told(compared())
    parts = ("planned", "others", "headroom", "free")
    sizes = found["gpufleet_gpu_memory_size_bytes"]
    assert len(sizes.samples) == 2
    for labels in sizes.labels():
        assert sum(
            found[f"gpufleet_gpu_memory_{part}_bytes"].value(**labels) or 0 for part in parts
        ) == sizes.value(**labels)


def test_a_model_has_its_slots_and_bytes() -> None:
    found = told(compared())
    model = next(one for one in PLAN["models"] if one["planned"])
    assert found["gpufleet_model_planned_slots"].value(host="a", model=model["name"]) == model["num_parallel"]
    size = sum(share["total_bytes"] for share in model["gpus"])
    assert found["gpufleet_model_planned_gpu_memory_bytes"].value(host="a", model=model["name"]) == size


def test_of_the_loads_of_a_model_the_last_is_told_and_none_that_cannot_be() -> None:
    older = {**LOAD, "when": "2026-11-21T10:00:00", "seen_bytes": 1}
    absurd = {**LOAD, "when": "2026-11-23T00:00:00", "seen_bytes": 1 << 60, "is_absurd": True}
    found = told(HostData("a", plan={**PLAN, "seen": [LOAD, older, absurd]}))
    where = {"host": "a", "model": "gemma3:4b", "kind": "kv_cache", "position": "0"}
    names = ("seen_bytes", "predicted_bytes", "prediction_error_bytes", "beyond_prediction")
    assert [found[f"gpufleet_load_{name}"].value(**where) for name in names] == [90, 100, -10, 1]


def test_what_became_of_a_model_is_counted_under_its_name() -> None:
    found = told(HostData("a", plan={**PLAN, "history": [HISTORY, {**HISTORY, "evicted": 3}]}))
    evictions = found["gpufleet_model_evictions_total"]
    assert (evictions.kind, evictions.value(host="a", model="gemma3:4b")) == ("counter", 7)
    assert found["gpufleet_model_load_failures_total"].value(host="a", model="gemma3:4b") == 2


def test_gpus_of_one_name_are_told_of_once() -> None:
    twice = {"devices": [{"index": 0, "uuid": "GPU-0", "memory_total_bytes": size} for size in (24, 48)]}
    found = told(HostData("a", gpu=twice, failure="no model"))
    assert found["gpufleet_gpu_memory_size_bytes"].value(host="a", gpu="0", uuid="GPU-0") == 24
    assert "gpufleet_gpu_memory_planned_bytes" not in found


def test_every_sample_names_its_host_first_so_that_two_fleets_can_be_told_on_one_node() -> None:
    full = HostData(
        "a",
        plan={**PLAN, "seen": [LOAD], "history": [HISTORY]},
        verified={**IN_SYNC, "differences": [difference("file", "1")]},
    )
    found = told(full)
    assert set(found) == {one.name for one in METRICS}
    assert all(one["host"] == "a" for metric in found.values() for one in metric.labels())


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_are_by_the_conventions_of_prometheus(metric: Any) -> None:
    assert re.fullmatch(r"gpufleet(_[a-z]+)+", metric.name)
    assert metric.help.endswith(".")
    assert not re.search(r"(_kib|_mib|_gib|_kb|_ms|_minutes|_hours|_count|_info)(_|$)", metric.name)


def test_an_empty_fleet_has_no_metrics() -> None:
    assert told() == {}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a", "a"),
        ('a"b', 'a\\"b'),
        ("a\\b", "a\\\\b"),
        ("a\nb", "a\\nb"),
        ("ü", "ü"),
        ("a\0\rb\x7f", r"a\\x00\\rb\\x7f"),
    ],
)
def test_labels_are_escaped(value: str, written: str) -> None:
    assert escaped(value) == written


@pytest.mark.parametrize(
    "odd",
    [
        {"history": [{"model": "m"}]},
        {"history": [{**HISTORY, "loads": "many"}]},
        {"history": [{**HISTORY, "loads": 10**400}]},
        {"history": [{**HISTORY, "loads": True}]},
        {"seen": [{**LOAD, "model": ["x"]}]},
        {"environment": {"A": 1}},
        {"num_parallel": "three"},
        {"num_parallel": 1 << 64},
    ],
)
def test_what_is_no_number_of_one_host_is_left_out_and_costs_the_others_nothing(odd: dict[str, Any]) -> None:
    found = told(HostData("odd", plan={**PLAN, **odd}, verified=IN_SYNC), compared())
    assert found["gpufleet_planned_num_parallel"].value(host="a") == PLANNED
    assert found["gpufleet_host_state"].value(host="odd", state="in sync") == 1
    odd_values = [
        metric.value(**one) for metric in found.values() for one in metric.labels() if one["host"] == "odd"
    ]
    assert all(abs(value or 0) <= 1 << 63 for value in odd_values)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted({*LOAD, *HISTORY})), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.text(), st.sampled_from(sorted(PLAN)), ANYTHING, st.lists(st.text(), max_size=2))
def test_whatever_a_host_says_the_metrics_are_in_the_format(
    name: str, key: str, value: Any, causes: list[str]
) -> None:
    differences = [{**difference("process", cause), "cause": cause} for cause in causes]
    host = HostData(name, plan={**PLAN, key: value}, verified={**IN_SYNC, "differences": differences})
    found = told(host, compared())
    assert found["gpufleet_host_state"].value(host="a", state="in sync") == 1
