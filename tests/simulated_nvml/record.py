# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes this machine's GPUs as the simulated library reads it, and compares the facts of both.

python tests/simulated_nvml/record.py > profile.json      the description, by NVIDIA's own binding
python tests/simulated_nvml/record.py --compare           the facts of the real GPUs beside those of their simulation

UUIDs and serial numbers are replaced, so that a description can be shared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ROOT / ".build" / "simulated_nvml"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compare", action="store_true", help="compare the facts instead of describing")
    parser.add_argument("--keep-uuids", action="store_true", help="do not replace UUIDs")
    arguments = parser.parse_args()
    description = describe(arguments.keep_uuids or arguments.compare)
    if not arguments.compare:
        print(json.dumps(description, indent=2))
        return
    differences = compare(description)
    for difference in differences:
        print(difference)
    if differences:
        raise SystemExit(1)
    print(
        f"{len(description['devices'])} GPUs: the facts of the simulation have the same keys, types and values"
    )


def describe(keep_uuids: bool) -> dict[str, Any]:
    """The description of this machine."""
    pynvml.nvmlInit()
    try:
        return {
            "driver_version": pynvml.nvmlSystemGetDriverVersion(),
            "nvml_version": pynvml.nvmlSystemGetNVMLVersion(),
            "cuda_driver_version": pynvml.nvmlSystemGetCudaDriverVersion(),
            "devices": [gpu(index, keep_uuids) for index in range(pynvml.nvmlDeviceGetCount())],
        }
    finally:
        pynvml.nvmlShutdown()


def gpu(index: int, keep_uuids: bool) -> dict[str, Any]:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        return {"faults": {"*": error.value}}
    pci = pynvml.nvmlDeviceGetPciInfo(handle)
    ecc = known(pynvml.nvmlDeviceGetEccMode, handle)
    rows = known(pynvml.nvmlDeviceGetRemappedRows, handle)
    pending = known(pynvml.nvmlDeviceGetRetiredPagesPendingStatus, handle)
    capability = known(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    uncorrected = known(
        pynvml.nvmlDeviceGetTotalEccErrors,
        handle,
        pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        pynvml.NVML_VOLATILE_ECC,
    )
    found = {
        **common(handle, keep_uuids),
        "name": pynvml.nvmlDeviceGetName(handle),
        "pci": {"bus_id": pci.busId, "device_id": pci.pciDeviceId >> 16},
        "compute_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "architecture": known(pynvml.nvmlDeviceGetArchitecture, handle),
        "brand": known(pynvml.nvmlDeviceGetBrand, handle),
        "display": {
            "connected": bool(known(pynvml.nvmlDeviceGetDisplayMode, handle)),
            "active": bool(known(pynvml.nvmlDeviceGetDisplayActive, handle)),
        },
        "persistence_mode": known(pynvml.nvmlDeviceGetPersistenceMode, handle),
        "temperature_celsius": known(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        "mig": mig(handle, keep_uuids),
        "ecc": ecc
        and {"enabled": bool(ecc[0]), "pending": bool(ecc[1]), "uncorrected_volatile": uncorrected or 0},
        "remapped_rows": rows
        and dict(zip(("corrected", "uncorrected", "pending", "failed"), rows, strict=True)),
        "retired_pages": None if pending is None else {"pending": bool(pending)},
    }
    return {key: value for key, value in without_instances(found).items() if value is not None}


def without_instances(found: dict[str, Any]) -> dict[str, Any]:
    """A GPU without what its MIG instances hold, which the simulation adds of itself."""
    instances = (found["mig"] or {}).get("instances", [])
    pids = {process["pid"] for instance in instances for process in instance["processes"]}
    processes = [process for process in found["processes"] if process["pid"] not in pids]
    if instances and found["memory"]:
        held = sum((instance["memory"] or {}).get("used_bytes", 0) for instance in instances)
        found["memory"]["used_bytes"] = max(0, found["memory"]["used_bytes"] - held)
    return {**found, "processes": processes}


def common(handle: Any, keep_uuids: bool) -> dict[str, Any]:
    """What GPUs and MIG instances have alike."""
    name: str = pynvml.nvmlDeviceGetUUID(handle)
    if not keep_uuids:
        name = replaced(name)
    processes = {
        process.pid: {"pid": process.pid, "used_bytes": process.usedGpuMemory, "type": kind}
        for kind, call in (
            ("graphics", pynvml.nvmlDeviceGetGraphicsRunningProcesses),
            ("compute", pynvml.nvmlDeviceGetComputeRunningProcesses),
        )
        for process in known(call, handle) or []
    }
    return {
        "uuid": name,
        "memory": memory(handle, list(processes.values())),
        "processes": list(processes.values()),
    }


def replaced(name: str) -> str:
    """A UUID of the same form that names no card; the same for the same card."""
    return f"{name.partition('-')[0]}-{uuid.uuid5(uuid.NAMESPACE_OID, name)}"


def memory(handle: Any, processes: list[dict[str, Any]]) -> dict[str, int] | None:
    """Memory as described: what is used without the listed processes."""
    found = known(pynvml.nvmlDeviceGetMemoryInfo, handle, version=pynvml.nvmlMemory_v2)
    if found is None:
        return None
    held = sum(process["used_bytes"] or 0 for process in processes)
    used = max(0, found.used - held)
    return {"total_bytes": found.total, "reserved_bytes": found.reserved, "used_bytes": used}


def mig(handle: Any, keep_uuids: bool) -> dict[str, Any] | None:
    mode = known(pynvml.nvmlDeviceGetMigMode, handle)
    if mode is None:
        return None
    maximum = known(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
    instances = []
    for index in range(maximum if mode[0] else 0):
        instance = known(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if instance is not None:
            instances.append(
                {
                    **common(instance, keep_uuids),
                    "profile": pynvml.nvmlDeviceGetName(instance).partition(" MIG ")[2],
                    "gpu_instance_id": known(pynvml.nvmlDeviceGetGpuInstanceId, instance),
                    "compute_instance_id": known(pynvml.nvmlDeviceGetComputeInstanceId, instance),
                }
            )
    return {"enabled": bool(mode[0]), "pending": bool(mode[1]), "maximum": maximum, "instances": instances}


def known(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What NVML answers; None where it does not."""
    try:
        return call(*arguments, **options)
    except pynvml.NVMLError:
        return None


def compare(description: dict[str, Any]) -> list[str]:
    """How the facts of this machine differ from those of its simulation: a line for each place."""
    subprocess.run(["make", "-s", "-C", str(Path(__file__).parent), f"OUT={LIBRARIES}"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "machine.json"
        path.write_text(json.dumps(description))
        simulated = facts({"LD_LIBRARY_PATH": str(LIBRARIES), "SIMULATED_NVML": str(path)})
    return differences("gpufleet_gpu", facts({}), simulated)


def facts(environment: dict[str, str], keep_moving: bool = False, **options: Any) -> Any:
    """What gpu_facts says with these options, without what changes from second to second."""
    command = [sys.executable, str(ROOT / "plugins/modules/gpu_facts.py")]
    finished = subprocess.run(
        command,
        input=json.dumps({"ANSIBLE_MODULE_ARGS": options}),
        env={**os.environ, "PYTHONPATH": str(ROOT / ".build/collections"), **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    host = json.loads(finished.stdout)["ansible_facts"]["gpufleet_gpu"]
    if keep_moving:
        return host
    for moving in ("gathered_at", "system_memory_available_bytes"):
        del host[moving]
    for device in host["devices"]:
        if device["unified_memory"]:
            for moving in ("free", "used", "available"):
                del device[f"memory_{moving}_bytes"]
    return host


def differences(place: str, real: Any, simulated: Any) -> list[str]:
    if isinstance(real, dict) and isinstance(simulated, dict):
        return [
            line
            for key in sorted(real.keys() | simulated.keys())
            for line in differences(f"{place}.{key}", real.get(key), simulated.get(key))
        ]
    if isinstance(real, list) and isinstance(simulated, list) and len(real) == len(simulated):
        return [
            line
            for index, pair in enumerate(zip(real, simulated, strict=True))
            for line in differences(f"{place}[{index}]", *pair)
        ]
    # MiB-exact: the memory of a GPU in use moves a little between two gatherings.
    if isinstance(real, int) and isinstance(simulated, int) and place.endswith("_bytes"):
        return [] if abs(real - simulated) < 2 << 20 else [f"{place}: real {real}, simulated {simulated}"]
    return [] if real == simulated else [f"{place}: real {real!r}, simulated {simulated!r}"]


if __name__ == "__main__":
    main()
