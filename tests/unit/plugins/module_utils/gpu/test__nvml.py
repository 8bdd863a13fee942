# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _nvml
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SystemMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_binding import (
    NvmlError,
    RunningProcess,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_ctypes import CtypesNvml
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_pynvml import PynvmlNvml
from ansible_collections.gpufleet.ollama.tests.unit.data import PROFILES
from hypothesis import given
from hypothesis import strategies as st

MIB = 1 << 20
SYSTEM = SystemMemory(total_bytes=128 << 30, available_bytes=100 << 30)
# These hang or end the process: they are tried in child processes, in the module's own test.
IN_CHILDREN_ONLY = ("fault_init_hangs", "fault_memory_hangs", "fault_library_crashes")
ALL = sorted(path.stem for path in PROFILES.glob("*.json") if path.stem not in IN_CHILDREN_ONLY)

Describe = Callable[[Any], Path]


@pytest.fixture(params=[PynvmlNvml, CtypesNvml], ids=["pynvml", "ctypes"])
def binding(request: pytest.FixtureRequest) -> Any:
    return request.param


def outcome(binding: Any) -> Any:
    """What NVML says through a binding, without the binding's own name."""
    try:
        return dataclasses.replace(_nvml.read_nvml(binding(), SYSTEM), description="")
    except NvmlError as error:
        return error.code


@pytest.mark.parametrize("profile", ALL)
def test_both_bindings_say_the_same_of_every_machine(nvml: Describe, profile: str) -> None:
    nvml(profile)
    assert outcome(PynvmlNvml) == outcome(CtypesNvml)


@pytest.mark.parametrize("profile", ALL)
def test_every_gpu_is_found_with_the_memory_it_was_described_with(
    nvml: Describe, binding: Any, profile: str
) -> None:
    nvml(profile)
    described = json.loads((PROFILES / f"{profile}.json").read_text())
    facts = outcome(binding)
    if isinstance(facts, int):
        assert "nvmlInit" in described["faults"]
        return
    gpus = [device for device in facts.devices if device.mig_parent_uuid is None]
    assert len(gpus) == len(described["devices"])
    assert facts.driver_version == described["driver_version"]
    for gpu, device in zip(gpus, described["devices"]):
        if gpu.problems and not gpu.memory_total_bytes:
            continue
        assert (gpu.uuid, gpu.name) == (device["uuid"], device["name"])
        assert gpu.compute_capability == device["compute_capability"]
        total = device["memory"]["total_bytes"] if "memory" in device else SYSTEM.total_bytes
        assert gpu.memory_total_bytes == total


def test_a_consumer_card_with_a_desktop(nvml: Describe, binding: Any) -> None:
    nvml("rtx4090_desktop")
    facts = outcome(binding)
    (gpu,) = facts.devices
    assert (facts.nvml_version, facts.cuda_driver_version) == ("12.570.133.20", "12.8")
    assert (gpu.pci_bus_id, gpu.architecture, gpu.display_attached) == ("0000:01:00.0", "Ada", True)
    assert (gpu.mig_mode, gpu.ecc_enabled, gpu.problems) == (None, None, ())
    assert [process.pid for process in gpu.processes] == [1834, 2071, 4410]
    assert gpu.memory_used_bytes == (1 + 412 + 186 + 274) * MIB
    assert gpu.memory_reserved_bytes == 430 * MIB
    assert gpu.memory_total_bytes == (
        gpu.memory_free_bytes + gpu.memory_used_bytes + gpu.memory_reserved_bytes
    )


def test_mig_instances_are_devices_of_their_own(nvml: Describe, binding: Any) -> None:
    folder = nvml("h100_mig_7")
    (folder / str(os.getpid())).write_text(f"0:2 {3000 * MIB}\n")
    parent, *instances = outcome(binding).devices
    assert parent.mig_mode is True
    assert len(instances) == 7
    assert [device.index for device in instances] == list(range(7))
    assert {device.mig_parent_uuid for device in instances} == {parent.uuid}
    assert {device.mig_profile for device in instances} == {"1g.10gb"}
    assert {device.pci_bus_id for device in instances} == {"0000:1b:00.0"}
    assert [len(device.processes) for device in instances] == [0, 0, 1, 0, 0, 0, 0]
    assert [process.pid for process in parent.processes] == [os.getpid()]
    assert instances[2].memory_used_bytes == 3013 * MIB


def test_a_gpu_without_memory_of_its_own_has_the_systems(nvml: Describe, binding: Any) -> None:
    nvml("gb10")
    (gpu,) = outcome(binding).devices
    assert gpu.unified_memory
    assert gpu.integrated
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes) == (128 << 30, 100 << 30)
    assert gpu.memory_used_bytes == 28 << 30
    assert gpu.pci_bus_id == "000f:01:00.0"
    assert gpu.problems == ()


def test_a_gpu_that_says_zero_bytes_has_the_systems_memory(nvml: Describe, binding: Any) -> None:
    description = json.loads((PROFILES / "gb10.json").read_text())
    description["devices"][0]["memory"] = {"total_bytes": 0}
    nvml(description)
    assert outcome(binding).devices[0].unified_memory


def test_unified_memory_of_a_host_without_meminfo_is_a_problem(nvml: Describe, binding: Any) -> None:
    nvml("gb10")
    (gpu,) = _nvml.read_nvml(binding(), SystemMemory()).devices
    assert gpu.memory_total_bytes is None
    assert gpu.problems == ("GPU 0 does not tell its memory",)


def test_a_living_process_that_announces_memory_is_seen(nvml: Describe, binding: Any) -> None:
    folder = nvml("rtx3090_x2")
    (folder / str(os.getpid())).write_text(f"0 {100 * MIB}\n1 {200 * MIB}\n")
    (folder / "4194305").write_text(f"0 {5000 * MIB}\n")
    (folder / "notes.txt").write_text("0 1\n")
    first, second = outcome(binding).devices
    assert [(p.pid, p.used_bytes) for p in first.processes] == [(os.getpid(), 100 * MIB)]
    assert [(p.pid, p.used_bytes) for p in second.processes] == [(os.getpid(), 200 * MIB)]


def test_one_lost_gpu_of_eight_leaves_seven(nvml: Describe, binding: Any) -> None:
    nvml("fault_one_of_eight_lost")
    devices = outcome(binding).devices
    assert [device.index for device in devices] == list(range(8))
    assert [device.index for device in devices if device.is_usable] == [0, 1, 2, 3, 4, 6, 7]
    (problem,) = devices[5].problems
    assert problem.startswith("GPU 5 is lost")
    assert "power-cycle" in problem


def test_a_gpu_that_is_lost_midway_has_no_memory_to_plan_with(nvml: Describe, binding: Any) -> None:
    nvml("fault_lost_midway")
    healthy, lost = outcome(binding).devices
    assert healthy.problems == ()
    assert (lost.memory_total_bytes, lost.name) == (None, "NVIDIA GeForce RTX 3090")
    assert len(lost.problems) == 1


def test_a_gpu_that_is_lost_after_its_memory_was_read_is_not_planned_with(
    nvml: Describe, binding: Any
) -> None:
    description = json.loads((PROFILES / "rtx3060_12gb.json").read_text())
    description["devices"][0]["faults"] = {"nvmlDeviceGetDisplayActive": "GPU_IS_LOST"}
    nvml(description)
    (gpu,) = outcome(binding).devices
    assert not gpu.is_usable
    assert gpu.problems[0].startswith("GPU 0 is lost")


@pytest.mark.parametrize(
    ("profile", "gpu", "words"),
    [
        ("fault_ecc_pending", 1, ["waits for a reset", "2 uncorrected ECC errors"]),
        ("fault_row_remapping_failed", 0, ["have the card exchanged"]),
        ("fault_retired_pages_pending", 0, ["retire pages", "reboot the host"]),
        ("fault_reset_required", 1, ["nvidia-smi -r -i 1"]),
        ("fault_process_list_refused", 0, ["does not show its processes", "become"]),
        ("fault_mig_without_instances", 0, ["MIG mode without an instance", "-mig 0"]),
    ],
)
def test_a_problem_is_a_sentence_with_the_next_step(
    nvml: Describe, binding: Any, profile: str, gpu: int, words: list[str]
) -> None:
    nvml(profile)
    device = outcome(binding).devices[gpu]
    problems = " ".join(device.problems)
    assert all(word in problems for word in words), problems
    assert all(problem.startswith(f"GPU {gpu} ") for problem in device.problems)


def test_a_driver_that_knows_only_old_calls_is_read_through_them(nvml: Describe, binding: Any) -> None:
    nvml("fault_old_driver")
    (gpu,) = outcome(binding).devices
    assert gpu.memory_reserved_bytes is None
    assert gpu.memory_used_bytes == (90 + 1 + 100) * MIB
    assert [(p.pid, p.used_bytes) for p in gpu.processes] == [(900, 100 * MIB)]
    assert gpu.problems == ()


def test_memory_that_a_driver_does_not_know_stays_unknown(nvml: Describe, binding: Any) -> None:
    description = json.loads((PROFILES / "rtx3060_12gb.json").read_text())
    description["devices"][0]["processes"] = [{"pid": 5, "used_bytes": None, "type": "compute"}]
    nvml(description)
    assert outcome(binding).devices[0].processes[0].used_bytes is None


def test_thousands_of_processes_are_read(nvml: Describe, binding: Any) -> None:
    description = json.loads((PROFILES / "rtx3060_12gb.json").read_text())
    description["devices"][0]["processes"] = [
        {"pid": pid, "used_bytes": 1000, "type": "compute"} for pid in range(1, 5001)
    ]
    nvml(description)
    assert len(outcome(binding).devices[0].processes) == 5000


def test_a_mig_instance_that_fails_leaves_the_others(nvml: Describe, binding: Any) -> None:
    description = json.loads((PROFILES / "h100_mig_7.json").read_text())
    instances = description["devices"][0]["mig"]["instances"]
    instances[3]["faults"] = {"nvmlDeviceGetMemoryInfo": "NOT_SUPPORTED"}
    nvml(description)
    devices = outcome(binding).devices
    assert [device.is_usable for device in devices[1:]] == [True, True, True, False, True, True, True]
    assert devices[4].problems == ("MIG instance 0:3 does not tell its memory",)


def test_an_instance_that_gives_no_handle_is_a_problem_of_its_gpu(nvml: Describe, binding: Any) -> None:
    description = json.loads((PROFILES / "h100_mig_7.json").read_text())
    description["devices"][0]["faults"] = {
        "nvmlDeviceGetMigDeviceHandleByIndex": {"after_calls": 2, "result": "UNKNOWN"}
    }
    nvml(description)
    parent, *instances = outcome(binding).devices
    assert len(instances) == 2
    assert "does not give its MIG instance 2" in parent.problems[0]


def test_a_handle_that_is_not_supported_is_a_problem(nvml: Describe, binding: Any) -> None:
    description = json.loads((PROFILES / "rtx3060_12gb.json").read_text())
    description["devices"][0]["faults"] = {"nvmlDeviceGetHandleByIndex": "NOT_SUPPORTED"}
    nvml(description)
    assert outcome(binding).devices[0].problems == ("GPU 0 gives no handle, so that nothing is known of it",)


def test_a_property_that_fails_is_told_and_the_rest_is_read(nvml: Describe, binding: Any) -> None:
    description = json.loads((PROFILES / "rtx3060_12gb.json").read_text())
    description["devices"][0]["faults"] = {"nvmlDeviceGetName": "UNKNOWN"}
    nvml(description)
    (gpu,) = outcome(binding).devices
    assert gpu.problems == ("GPU 0 does not tell its name: Unknown Error",)
    assert gpu.memory_total_bytes == 12288 * MIB


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("fault_driver_not_loaded", "modprobe nvidia"),
        ("fault_version_mismatch", "reboot the host"),
        ("fault_no_permission", "with become"),
    ],
)
def test_a_library_that_does_not_start_says_why_and_what_to_do(
    nvml: Describe, binding: Any, profile: str, words: str
) -> None:
    nvml(profile)
    with pytest.raises(NvmlError) as failed:
        _nvml.read_nvml(binding(), SYSTEM)
    assert words in _nvml.explain(failed.value)


def test_a_version_that_is_not_told_is_unknown(nvml: Describe, binding: Any) -> None:
    description = json.loads((PROFILES / "rtx3060_12gb.json").read_text())
    description["faults"] = {"nvmlSystemGetNVMLVersion": "UNKNOWN"}
    nvml(description)
    facts = outcome(binding)
    assert (facts.nvml_version, len(facts.devices)) == (None, 1)


def test_an_error_without_a_known_remedy_is_told_with_its_number() -> None:
    assert "nvmlReturn_t 999" in _nvml.explain(NvmlError(999, "Unknown Error"))


@pytest.mark.parametrize(
    ("bus_id", "expected"),
    [
        ("00000000:01:00.0", "0000:01:00.0"),
        ("0000000F:01:00.0", "000f:01:00.0"),
        ("00010000:C3:00.0", "10000:c3:00.0"),
        ("0000:65:00.0", "0000:65:00.0"),
        ("", ""),
        ("Nonsense", "nonsense"),
    ],
)
def test_pci_addresses_are_written_as_sysfs_does(bus_id: str, expected: str) -> None:
    assert _nvml.sysfs_bus_id(bus_id) == expected


@pytest.mark.parametrize(("number", "version"), [(12080, "12.8"), (13000, "13.0"), (11020, "11.2")])
def test_cuda_versions(number: int, version: str) -> None:
    assert _nvml.cuda_version(number) == version


ENTRIES = st.lists(
    st.builds(RunningProcess, st.integers(1, 50), st.none() | st.integers(0, 1 << 40)), max_size=40
)


@given(ENTRIES, ENTRIES)
def test_a_process_in_both_lists_is_counted_once(
    compute: list[RunningProcess], graphics: list[RunningProcess]
) -> None:
    merged = _nvml.merge_processes([compute, graphics])
    assert [process.pid for process in merged] == sorted({entry.pid for entry in compute + graphics})
    for process in merged:
        known = [entry.used_bytes for entry in compute + graphics if entry.pid == process.pid]
        assert process.used_bytes in known
        assert all(value is None or value <= (process.used_bytes or 0) for value in known)
