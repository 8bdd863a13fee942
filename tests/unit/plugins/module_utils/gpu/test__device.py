# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import (
    GpuDevice,
    GpuProcess,
    HostGpus,
    Source,
    UnmeasuredGpu,
    bounded,
)
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.none() | st.integers(0, 1 << 60)
WORDS = st.text(max_size=20)
PROCESSES = st.builds(
    GpuProcess,
    pid=st.integers(0, 1 << 31),
    used_bytes=SIZES,
    command=st.none() | WORDS,
    systemd_unit=st.none() | WORDS,
    is_ours=st.booleans(),
)
DEVICES = st.builds(
    GpuDevice,
    index=st.integers(0, 255),
    uuid=WORDS,
    pci_bus_id=WORDS,
    vendor=WORDS,
    name=WORDS,
    memory_total_bytes=SIZES,
    memory_free_bytes=SIZES,
    memory_ours_bytes=st.integers(0, 1 << 60),
    mig_mode=st.none() | st.booleans(),
    problems=st.lists(WORDS, max_size=3).map(tuple),
    processes=st.lists(PROCESSES, max_size=3).map(tuple),
)
HOSTS = st.builds(
    HostGpus,
    gathered_at=WORDS,
    source=st.none() | WORDS,
    sources=st.lists(st.builds(Source, WORDS, st.booleans(), WORDS), max_size=2).map(tuple),
    visibility=st.dictionaries(WORDS, WORDS, max_size=2),
    devices=st.lists(DEVICES, max_size=3).map(tuple),
    visible_devices=st.lists(WORDS, max_size=3).map(tuple),
    unmeasured=st.lists(st.builds(UnmeasuredGpu, WORDS, WORDS, WORDS, WORDS), max_size=2).map(tuple),
    problems=st.lists(WORDS, max_size=2).map(tuple),
)


@given(HOSTS)
def test_facts_survive_the_way_through_json(host: HostGpus) -> None:
    assert HostGpus.from_dict(json.loads(json.dumps(host.to_dict()))) == host


@pytest.mark.parametrize(
    ("free", "ours", "available"),
    [(1000, 0, 1000), (1000, 500, 1500), (None, 500, None)],
)
def test_what_ollama_holds_is_available_to_a_plan(free: int | None, ours: int, available: int | None) -> None:
    device = GpuDevice(0, "GPU-1", "", "nvidia", "", memory_free_bytes=free, memory_ours_bytes=ours)
    assert device.memory_available_bytes == available


@pytest.mark.parametrize(
    ("total", "mig_mode", "usable"),
    [(1000, None, True), (1000, False, True), (1000, True, False), (None, None, False)],
)
def test_a_gpu_without_known_memory_or_cut_into_instances_is_not_usable(
    total: int | None, mig_mode: bool | None, usable: bool
) -> None:
    assert GpuDevice(0, "", "", "", "", memory_total_bytes=total, mig_mode=mig_mode).is_usable is usable


DEVICE = GpuDevice(0, "GPU-1", "0000:01:00.0", "nvidia", "A GPU").to_dict()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "a GPU must be a mapping, found list"),
        ({}, "a GPU lacks the key 'index'"),
        ({**DEVICE, "index": "0"}, "a GPU has '0' as 'index', expected an integer"),
        ({**DEVICE, "index": True}, "a GPU has True as 'index', expected an integer"),
        ({**DEVICE, "memory_total_bytes": 1.5}, "as 'memory_total_bytes', expected an integer or null"),
        ({**DEVICE, "uuid": None}, "a GPU has None as 'uuid', expected text"),
        ({**DEVICE, "mig_mode": 1}, "as 'mig_mode', expected true, false or null"),
        ({**DEVICE, "problems": "bad"}, "as 'problems', expected a list"),
        ({**DEVICE, "processes": [{"pid": "x"}]}, "a GPU process has 'x' as 'pid'"),
        ({**DEVICE, "processes": ["x"]}, "a GPU process must be a mapping, found str"),
    ],
)
def test_what_is_no_gpu_is_refused_with_its_key(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^a GPU") as refused:
        GpuDevice.from_dict(data)
    assert message in str(refused.value)


def test_facts_need_the_time_of_gathering() -> None:
    with pytest.raises(ValueError, match="GPU facts lacks the key 'gathered_at'"):
        HostGpus.from_dict({})


def test_keys_that_are_not_known_are_left_alone() -> None:
    assert GpuDevice.from_dict({**DEVICE, "temperature": 40}).index == 0


def test_faults_are_those_of_the_host_and_of_gpus_that_are_seen_or_lost() -> None:
    seen = GpuDevice(0, "GPU-0", "", "nvidia", "", memory_total_bytes=1000, problems=("seen",))
    hidden = GpuDevice(1, "GPU-1", "", "nvidia", "", memory_total_bytes=1000, problems=("hidden",))
    lost = GpuDevice(2, "", "", "nvidia", "", problems=("lost",))
    healthy = GpuDevice(3, "GPU-3", "", "nvidia", "", memory_total_bytes=1000)
    host = HostGpus(
        gathered_at="",
        devices=(seen, hidden, lost, healthy),
        visible_devices=("GPU-0", "GPU-3"),
        problems=("driver",),
    )
    assert host.faults == ("driver", "seen", "lost")


def test_of_more_devices_than_are_told_those_that_are_seen_are_kept() -> None:
    devices = tuple(GpuDevice(i, f"GPU-{i}", "", "nvidia", "A GPU") for i in range(100))
    seen = tuple(f"GPU-{i}" for i in range(90, 100))
    told = bounded(HostGpus("now", devices=devices, visible_devices=seen))
    assert [device.index for device in told.devices] == [*range(54), *range(90, 100)]
    assert (told.visible_devices, told.devices_left_out) == (seen, 36)
    assert told.notes == ("36 GPUs are left out: at most 64 are told of a host",)


def test_of_many_processes_those_that_hold_most_are_told_in_their_order() -> None:
    processes = tuple(GpuProcess(pid, used_bytes=pid % 100, command="x" * 60_000) for pid in range(200))
    device = GpuDevice(0, "GPU-0", "", "nvidia", "A GPU", processes=processes)
    (told,) = bounded(HostGpus("now", devices=(device,))).devices
    assert [process.pid for process in told.processes] == [*range(68, 100), *range(168, 200)]
    assert {process.command for process in told.processes} == {"x" * 256}


@given(HOSTS)
def test_a_host_of_few_devices_is_told_as_it_is(host: HostGpus) -> None:
    assert {device.uuid for device in bounded(host).devices} == {device.uuid for device in host.devices}
    assert bounded(host).devices_left_out == 0
