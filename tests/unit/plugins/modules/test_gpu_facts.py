# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The unmodified module as a process of its own, and other NVML clients, on every simulated machine."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT, PROFILES

MODULE = CHECKOUT / "plugins/modules/gpu_facts.py"
ALL = sorted(path.stem for path in PROFILES.glob("*.json"))
HANGING = ("fault_init_hangs", "fault_memory_hangs")
HEALTHY = [name for name in ALL if not name.startswith("fault_")]
MIB = 1 << 20

Machine = Callable[[Any], dict[str, str]]
Answer = Callable[[str, str], dict[str, Any]]


def run_module(surroundings: dict[str, str], **options: Any) -> dict[str, Any]:
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": options})
    collections = str(CHECKOUT / ".build/collections")
    finished = subprocess.run(
        [sys.executable, str(MODULE)],
        input=arguments,
        env={**surroundings, "PYTHONPATH": collections},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.stderr == ""
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def facts(surroundings: dict[str, str], **options: Any) -> dict[str, Any]:
    result = run_module(surroundings, **options)
    assert result["changed"] is False
    gpu: dict[str, Any] = result["ansible_facts"]["gpufleet_gpu"]
    return gpu


@pytest.fixture(scope="module")
def answer(
    simulated_nvml: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], dict[str, Any]]:
    """The facts of a profile from a source; each is gathered once for all tests."""
    nobody = tmp_path_factory.mktemp("announced")

    @functools.lru_cache(maxsize=None)
    def gather(profile: str, source: str) -> dict[str, Any]:
        surroundings = {
            **os.environ,
            "LD_LIBRARY_PATH": str(simulated_nvml),
            "SIMULATED_NVML": str(PROFILES / f"{profile}.json"),
            "SIMULATED_NVML_PROCESSES": str(nobody),
        }
        deadline = 1.0 if profile in HANGING else 30.0
        return facts(surroundings, sources=[source], deadline=deadline)

    return gather


def lasting(host: dict[str, Any]) -> dict[str, Any]:
    """The facts without the sources' names and what changes from second to second."""
    moving = ("memory_free_bytes", "memory_used_bytes", "memory_available_bytes")
    devices = [
        {key: value for key, value in device.items() if not (device["unified_memory"] and key in moving)}
        for device in host["devices"]
    ]
    left_out = ("sources", "gathered_at", "system_memory_available_bytes", "problems")
    return {**{key: value for key, value in host.items() if key not in left_out}, "devices": devices}


@pytest.mark.parametrize("profile", ALL)
def test_pynvml_and_ctypes_give_the_same_facts_of_every_machine(answer: Answer, profile: str) -> None:
    by_pynvml, by_ctypes = answer(profile, "pynvml"), answer(profile, "ctypes")
    assert lasting(by_pynvml) == lasting(by_ctypes)
    assert len(by_pynvml["problems"]) == len(by_ctypes["problems"])


@pytest.mark.parametrize("profile", HEALTHY)
def test_a_healthy_machine_has_no_problems(answer: Answer, profile: str) -> None:
    host = answer(profile, "ctypes")
    assert host["problems"] == []
    assert all(device["problems"] == [] for device in host["devices"])


@pytest.mark.parametrize("profile", [name for name in ALL if name.startswith("fault_")])
def test_a_failure_is_an_answer_with_the_next_step(answer: Answer, profile: str) -> None:
    host = answer(profile, "ctypes")
    problems = host["problems"] + [text for device in host["devices"] for text in device["problems"]]
    if profile == "fault_old_driver":
        assert problems == []
        return
    assert problems
    steps = (
        "reboot", "modprobe", "become", "deadline", "reinstall", "power-cycle", "reset", "exchanged", "-mig 0"
    )  # fmt: skip
    assert all(any(step in problem for step in steps) for problem in problems), problems


def test_a_host_without_the_library_or_a_gpu_is_an_answer(machine: Machine) -> None:
    environment = {**machine("no_gpu"), "LD_LIBRARY_PATH": "", "PATH": "/usr/bin:/bin"}
    host = facts(environment, sources=["pynvml", "ctypes"])
    assert host["devices"] == []
    assert host["source"] is None
    assert [source["ok"] for source in host["sources"]] == [False, False]
    assert "libnvidia-ml.so.1 cannot be loaded" in host["sources"][1]["message"]


def test_the_service_would_see_what_its_environment_names(machine: Machine) -> None:
    host = facts(machine("rtx3090_x2"), environment={"CUDA_VISIBLE_DEVICES": "1"})
    assert host["visibility"] == {"CUDA_VISIBLE_DEVICES": "1"}
    assert host["visible_devices"] == [host["devices"][1]["uuid"]]


def test_a_deadline_that_makes_no_sense_is_refused(machine: Machine) -> None:
    result = run_module(machine("no_gpu"), deadline=0)
    assert result["failed"] is True
    assert result["msg"] == "deadline is 0, expected seconds above 0"


def documented(contents: dict[str, Any]) -> dict[str, Any]:
    """The keys that RETURN describes, as a tree."""
    return {key: documented(entry.get("contains", {})) for key, entry in contents.items()}


def returned(value: Any) -> dict[str, Any]:
    """The keys of a result, as a tree; of lists those of the first entry."""
    if isinstance(value, list):
        return returned(value[0]) if value else {}
    if isinstance(value, dict):
        return {key: returned(item) for key, item in value.items()}
    return {}


def test_every_field_is_documented_and_every_documented_field_is_there(machine: Machine) -> None:
    text = MODULE.read_text().partition('RETURN = r"""')[2].partition('"""')[0]
    contents = yaml.safe_load(text)["ansible_facts"]["contains"]["gpufleet_gpu"]["contains"]
    environment = machine("rtx4090_desktop")
    host = facts(environment, sources=["ctypes"], environment={"CUDA_VISIBLE_DEVICES": "0"})
    tree, found = documented(contents), returned(host)
    # This machine may have a GPU of its own on the bus, or none.
    for side in (tree, found):
        side.pop("unmeasured")
        side.pop("visibility")
    assert found == tree


def entries(contents: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, entry in contents.items():
        yield key, entry
        yield from entries(entry.get("contains", {}))


def test_every_documented_field_has_a_type_and_a_sample_or_contents() -> None:
    text = MODULE.read_text().partition('RETURN = r"""')[2].partition('"""')[0]
    for key, entry in entries(yaml.safe_load(text)):
        assert entry["type"], key
        assert "sample" in entry or "contains" in entry, key
        if key.endswith("_bytes"):
            assert "in bytes" in str(entry["description"]), key


# Other clients read every machine but these.
NOT_FOR_OTHERS = {
    "fault_init_hangs": "they set no deadline and hang with the library",
    "fault_memory_hangs": "they set no deadline and hang with the library",
    "fault_library_crashes": "they end with the library",
    "fault_old_driver": "nvidia-ml-py 13 takes only newer calls for them; our binding falls back to older ones",
}
FOR_OTHERS = [name for name in ALL if name not in NOT_FOR_OTHERS]
# Each imports its client once and reads each machine in a process of its own, because a library that has started
# does not read another description.
ONE_AFTER_THE_OTHER = """
import json, os, sys
for path in sys.argv[1:]:
    if os.fork() == 0:
        os.environ["SIMULATED_NVML"] = path
        print(json.dumps([path, read()]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, path
"""
NVITOP = """
import nvitop
def of(device):
    uuid = "" if device.uuid() == nvitop.NA else device.uuid()
    name = device.name() if uuid else ""  # an error in words, otherwise
    memory = device.memory_info()
    total, used = (None if size == nvitop.NA else int(size) for size in (memory.total, memory.used))
    held = {pid: process.gpu_memory() for pid, process in device.processes().items()}
    return {"uuid": uuid, "name": name, "total": total, "used": used, "processes": held}
def read():
    return [of(one) for gpu in nvitop.PhysicalDevice.all() for one in [gpu, *gpu.mig_devices()]]
"""
GPUSTAT = """
import gpustat, pynvml
def read():
    try:
        gpus = gpustat.new_query().gpus
    except pynvml.NVMLError:
        return []
    return [of(gpu) for gpu in gpus]
def of(gpu):
    if gpu.uuid == "?":
        return ["", "", None, None]
    return [gpu.uuid, gpu.name, gpu.entry["memory.total"], gpu.entry["memory.used"]]
"""


def read_by_others(surroundings: dict[str, str], client: str) -> dict[str, Any]:
    """What another client says of each machine."""
    paths = [str(PROFILES / f"{name}.json") for name in FOR_OTHERS]
    finished = subprocess.run(
        [sys.executable, "-c", client + ONE_AFTER_THE_OTHER, *paths],
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    answers = map(json.loads, finished.stdout.splitlines())
    return {Path(path).stem: found for path, found in answers}


def test_nvitop_says_the_same_of_every_machine_and_mig_instance(machine: Machine, answer: Answer) -> None:
    for profile, theirs in read_by_others(machine("no_gpu"), NVITOP).items():
        ours = answer(profile, "ctypes")["devices"]
        assert [device["uuid"] for device in ours] == [device["uuid"] for device in theirs], profile
        for device, other in zip(ours, theirs, strict=True):
            assert device["name"] == other["name"], profile
            held = {str(process["pid"]): process["used_bytes"] for process in device["processes"]}
            assert held == other["processes"], profile
            if not device["unified_memory"]:
                assert device["memory_total_bytes"] == other["total"], profile
                assert device["memory_used_bytes"] == other["used"], profile


def test_gpustat_says_the_same_of_every_machine(machine: Machine, answer: Answer) -> None:
    for profile, theirs in read_by_others(machine("no_gpu"), GPUSTAT).items():
        devices = answer(profile, "ctypes")["devices"]
        ours = {device["uuid"]: device for device in devices if device["mig_parent_uuid"] is None}
        assert list(ours) == [uuid for uuid, *_rest in theirs], profile
        for uuid, name, total, used in theirs:
            assert ours[uuid]["name"] == name, profile
            if not ours[uuid]["unified_memory"]:
                assert mib(ours[uuid]["memory_total_bytes"]) == total, profile
                assert mib(ours[uuid]["memory_used_bytes"]) == used, profile


def mib(size: int | None) -> int | None:
    return None if size is None else size // MIB


def test_memory_of_a_living_process_is_seen_by_all_clients(machine: Machine) -> None:
    environment = machine("rtx3060_12gb")
    announced = Path(environment["SIMULATED_NVML_PROCESSES"])
    (announced / str(os.getpid())).write_text(f"0 {2048 * MIB}\n")
    (device,) = facts(environment)["devices"]
    assert [(p["pid"], p["used_bytes"]) for p in device["processes"]] == [(os.getpid(), 2048 * MIB)]
    assert device["memory_used_bytes"] == 2049 * MIB


@pytest.mark.parametrize(
    "profile", ["rtx4090_desktop", "h100_mig_7", "gb10", "fault_ecc_pending", "fault_one_of_eight_lost"]
)
def test_a_recorded_machine_has_the_facts_of_the_machine_itself(machine: Machine, profile: str) -> None:
    recorder = CHECKOUT / "tests/simulated_nvml/record.py"
    finished = subprocess.run(
        [sys.executable, str(recorder), "--compare"],
        env=machine(profile),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_simulated_library_needs_no_newer_c_library_than_debian_11_has(simulated_nvml: Path) -> None:
    library = str(simulated_nvml / "libnvidia-ml.so.1")
    shown = subprocess.run(["objdump", "-T", library], capture_output=True, text=True, check=True).stdout
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", shown)}
    assert versions
    assert max(versions) <= (2, 31)
