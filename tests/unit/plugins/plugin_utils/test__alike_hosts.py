# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alike hosts get one plan, each with its own GPUs in it; what a plan depends on makes hosts unlike."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._answer import plan_of
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._alike_hosts import planned_once
from ansible_collections.gpufleet.ollama.tests.unit.data import shape

GIB = 1 << 30
OBSERVED = {
    "blob": shape("gemma3:4b").digest,
    "version": "0.33.0",
    "engine_build": 10488,
    "kv_cache_type": "f16",
    "flash_attention": "auto",
    "context_length": 4096,
    "parallel": 4,
    "batch": 512,
    "more_bytes": [[0, 0, 1 << 20]],
}
SAID = {"version": "0.33.0", "devices": [], "drops": ["no GPU works"]}
MODELS = [shape(name).to_dict() for name in ("gemma3:4b", "llama3.1:8b")]


def device(host: str, index: int) -> dict[str, Any]:
    return {
        "index": index,
        "uuid": f"GPU-{host}-0000-4000-8000-{index:012}",
        "pci_bus_id": f"0000:0{index}:00.0",
        "name": "RTX",
        "vendor": "nvidia",
        "compute_capability": "8.6",
        "memory_total_bytes": 24 * GIB,
        "memory_free_bytes": 23 * GIB,
        "memory_ours_bytes": 0,
        "problems": [],
        "processes": [],
    }


def host(name: str = "aaaaaaaa", count: int = 2) -> dict[str, Any]:
    """The inputs of a plan for a host with GPUs of its own."""
    devices = [device(name, index) for index in range(count)]
    facts = {
        "gathered_at": name,
        "devices": devices,
        "visible_devices": [one["uuid"] for one in devices],
        "problems": [],
        "system_memory_total_bytes": 64 * GIB,
        "system_memory_available_bytes": 60 * GIB,
    }
    return {
        "gpu": facts,
        "models": MODELS,
        "wanted": [],
        "policy": {"on_gpu_fault": "exclude"},
        "version": "0.33.0",
        "loaded": {},
        "service": {"running": {"INVOCATION_ID": name}, "managed": {}, "foreign": {}, "places": {}},
        "server": {},
        "observed": [],
        "unplannable": {},
        "measured": {},
    }


@pytest.fixture
def plans(tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], int]]:
    """`plans(host, ...)` plans hosts one after the other; gives the results and how many were planned."""

    def run(*hosts: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
        made = []

        def plan(inputs: dict[str, Any]) -> dict[str, Any]:
            made.append(inputs)
            return plan_of(inputs)

        return [planned_once(tmp_path / "plans", one, plan) for one in hosts], len(made)

    return run


def changed(path: str, value: object, name: str = "bbbbbbbb") -> dict[str, Any]:
    """Another host, with one value changed."""
    found = host(name)
    *parents, last = path.split("/")
    target = found
    for key in parents:
        target = target[int(key)] if isinstance(target, list) else target[key]
    target[last] = value
    return found


@pytest.mark.parametrize(
    ("other", "planned"),
    [
        (host("bbbbbbbb"), 1),
        # What a plan does not depend on.
        (changed("gpu/devices/0/processes", [{"pid": 7}]), 1),
        (changed("gpu/system_memory_total_bytes", 64 * GIB + 4096), 1),
        (changed("service/running", {"HOME": "/b"}), 1),
        # What it depends on.
        (changed("gpu/devices/0/memory_free_bytes", 23 * GIB - 1), 2),
        (changed("gpu/devices/1/compute_capability", "9.0"), 2),
        (changed("gpu/devices/1/memory_reserved_bytes", GIB), 2),
        (changed("gpu/devices/1/pci_bus_id", "0000:41:00.0"), 2),
        (changed("gpu/driver_version", "470.1"), 2),
        (changed("observed", [OBSERVED]), 2),
        (changed("server", SAID), 2),
        # Then its free memory depends on the system's.
        (changed("gpu/devices/1/unified_memory", True), 2),
        (changed("service/foreign", {"GGML_CUDA_ENABLE_UNIFIED_MEMORY": "1"}), 2),
        (changed("gpu/devices/1/problems", ["an uncorrectable ECC error is pending"]), 2),
        (changed("service/running", {"OLLAMA_NUM_PARALLEL": "1"}), 2),
        (changed("service/running", {}), 2),
        (changed("service/foreign", {"OLLAMA_GPU_OVERHEAD": "1"}), 2),
        (changed("policy", {"requests": 2}), 2),
        (changed("version", "0.32.0"), 2),
        (changed("models", MODELS[:1]), 2),
        (changed("wanted", ["gemma3:4b"]), 2),
        (changed("loaded", {"gemma3:4b": 4096}), 2),
        (host("bbbbbbbb", count=1), 2),
        # More system memory that is free changes nothing, less may.
        (changed("gpu/system_memory_available_bytes", 61 * GIB), 1),
        (changed("gpu/system_memory_available_bytes", 59 * GIB), 2),
        # What a benchmark measured belongs to one host.
        (changed("measured", {"problem": "it is damaged"}), 2),
    ],
)
def test_a_plan_is_made_once_for_all_hosts_that_differ_in_nothing_it_depends_on(plans, other, planned):
    results, made = plans(host(), copy.deepcopy(other))
    assert made == planned
    assert results == [plan_of(host()), plan_of(other)]


def test_what_ollama_gives_back_counts_as_free(plans):
    other = changed("gpu/devices/0/memory_free_bytes", 20 * GIB)
    other["gpu"]["devices"][0]["memory_ours_bytes"] = 3 * GIB
    results, made = plans(host(), other)
    assert (made, results[1]) == (1, plan_of(other))


def test_where_a_setting_names_a_gpu_by_the_beginning_of_its_identity_hosts_are_unlike(plans):
    visible = {"CUDA_VISIBLE_DEVICES": "GPU-aaaaaaaa"}
    one, other = (changed("service/foreign", visible, name) for name in ("aaaaaaaa", "bbbbbbbb"))
    results, made = plans(one, other, one)
    assert made == 2
    assert results == [plan_of(one), plan_of(other), plan_of(one)]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gpu/devices/0/name", "<identity of GPU 0>"),
        ("gpu/devices/1/uuid", r"GPU-\u001b[2J\u0007aaaaaaaaaaaa"),
        ("gpu/devices/1/uuid", 'GPU-aaaaaaaaaaaaaaaa", "total_bytes": 1, "x": "'),
        ("gpu/devices/1/uuid", "memory_total_bytes"),
    ],
)
def test_what_a_host_calls_its_gpus_is_never_more_than_a_name(plans, path, value):
    results, made = plans(changed(path, value), changed(path, value))
    assert made == 2
    assert results == [plan_of(changed(path, value))] * 2


def test_a_refusal_names_the_hosts_own_gpu(plans):
    fault = ["an uncorrectable ECC error is pending"]
    hosts = [changed("gpu/devices/1/problems", fault, name) for name in ("aaaaaaaa", "bbbbbbbb")]
    for one in hosts:
        one["policy"] = {"on_gpu_fault": "fail"}
    results, made = plans(*hosts)
    assert made == 1
    assert [one["gpu"]["devices"][1]["uuid"] in found["msg"] for one, found in zip(hosts, results)] == [True] * 2


def test_a_host_without_gpu_is_planned_by_its_own_memory(plans):
    hosts = [host(count=0), host("bbbbbbbb", count=0)]
    assert plans(*hosts) == ([plan_of(one) for one in hosts], 2)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"result": 1}'])
def test_what_was_kept_and_is_damaged_is_made_anew(plans, tmp_path, damage):
    plans(host())
    (kept,) = (tmp_path / "plans").iterdir()
    kept.write_text(damage)
    assert plans(host("bbbbbbbb"))[1] == 1
    assert json.loads(kept.read_text())["result"]["plan"]["safe"]
    assert plans(host("cccccccc"))[1] == 0


def test_where_nothing_can_be_kept_every_host_isplan_of(plans, tmp_path):
    (tmp_path / "plans").write_text("a file in the way")
    assert plans(host(), host("bbbbbbbb"))[1] == 2
