# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds gpu_facts against this machine's GPUs: one command, for where a real card is at hand.

python tests/simulated_nvml/check_real.py [--into FOLDER] [--gpu UUID]

1. Every source (pynvml, ctypes, nvidia-smi) must say the same, as far as it says anything.
2. A simulation of this machine must give facts of the same keys, types and values (record.py).
3. A process that holds memory of known size must be seen to the page: used, free, and the bytes of the process.

Exits non-zero where something differs. With --into, what was read is kept as test data, its UUIDs replaced.
A GPU that others use meanwhile moves by what they take: run it on an idle one, as root, outside of containers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record

MIB = 1 << 20
# Drivers give memory out in pages of this size.
PAGE_BYTES = 2 * MIB
SIZES = (64 * MIB, 512 * MIB)
HOLD = Path(__file__).with_name("hold.py")


@dataclass(frozen=True)
class Reading:
    """What gpu_facts says of one device and of one process on it, in bytes; None: not told."""

    used_bytes: int | None
    free_bytes: int | None
    process_bytes: int | None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, help="keep machine.json and facts.json in this folder")
    parser.add_argument("--gpu", help="UUID of the GPU or MIG instance to load; default: each that is usable")
    arguments = parser.parse_args()
    facts = record.facts({})
    if not facts["devices"]:
        raise SystemExit("no GPU here: " + "; ".join(source["message"] for source in facts["sources"]))
    if arguments.into:
        keep(arguments.into, facts)
    complaints = [*of_sources(), *of_simulation()]
    for device in facts["devices"]:
        usable = device["memory_total_bytes"] is not None and not device["mig_mode"]
        if usable and arguments.gpu in (None, device["uuid"]):
            complaints += of_load(device)
    for complaint in complaints:
        print(f"DIFFERS {complaint}")
    if complaints:
        raise SystemExit(1)
    print("all agree")


def keep(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the description of this machine and its facts, with UUIDs that name no card."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, indent=2, sort_keys=True)
    for device in facts["devices"]:
        if device["uuid"]:
            text = text.replace(device["uuid"], record.replaced(device["uuid"]))
    (folder / "machine.json").write_text(json.dumps(record.describe(keep_uuids=False), indent=2) + "\n")
    (folder / "facts.json").write_text(text + "\n")


def of_sources() -> list[str]:
    """How the sources differ among each other."""
    by_pynvml, by_ctypes = (told_by(source) for source in ("pynvml", "ctypes"))
    found = record.differences("ctypes", by_pynvml, by_ctypes)
    print(f"pynvml and ctypes: {len(found)} differences")
    if shutil.which("nvidia-smi"):
        differing = record.differences("nvidia-smi", *as_far_as_told(by_pynvml, told_by("nvidia-smi")))
        print(f"NVML and nvidia-smi: {len(differing)} differences")
        return found + differing
    print("nvidia-smi: not here")
    return found


def told_by(source: str) -> dict[str, Any]:
    """The facts by one source, without what names it; MIG instances without their names, of which there are two."""
    facts = {**record.facts({}, sources=[source]), "source": None, "sources": None, "visible_devices": None}
    for device in facts["devices"]:
        if device["mig_parent_uuid"]:
            device.update(uuid=None, name=None)
    return facts


def as_far_as_told(ours: Any, theirs: Any) -> tuple[Any, Any]:
    """Both without the fields that are null in theirs."""
    if isinstance(theirs, dict):
        pairs = {key: as_far_as_told(ours[key], value) for key, value in theirs.items() if value is not None}
        return {key: pair[0] for key, pair in pairs.items()}, {key: pair[1] for key, pair in pairs.items()}
    if isinstance(theirs, list) and len(ours) == len(theirs):
        each = [as_far_as_told(*pair) for pair in zip(ours, theirs, strict=True)]
        return [pair[0] for pair in each], [pair[1] for pair in each]
    return ours, theirs


def of_simulation() -> list[str]:
    """How a simulation of this machine differs from it."""
    found = record.compare(record.describe(keep_uuids=True))
    print(f"this machine and its simulation: {len(found)} differences")
    return found


def of_load(device: Mapping[str, Any]) -> list[str]:
    """How far the facts of a device are from what a process really holds of it."""
    uuid = device["uuid"]
    idle = reading(uuid)
    found = []
    with holder(uuid) as process:
        before = reading(uuid, process.pid)
        context = "not told" if before.process_bytes is None else f"{before.process_bytes / MIB:.1f} MiB"
        print(f"{device['name']} {uuid}: a CUDA context takes {context}")
        for size in SIZES:
            tell(process, size)
            after = reading(uuid, process.pid)
            steps = moved(before, after)
            told = ", ".join(f"{key} {shown(step)}" for key, step in steps.items())
            print(f"  {size >> 20} MiB more: {told}")
            found += [f"{uuid}: {line}" for line in judged(size, steps, device["unified_memory"])]
            before = after
    if not device["unified_memory"]:
        left = moved(idle, reading(uuid))["used"]
        print(f"  after its end: used {shown(left)}")
        if left is None or abs(left) > PAGE_BYTES:
            found.append(f"{uuid}: used memory is not what it was before: {shown(left)}")
    return found


def reading(uuid: str, pid: int | None = None) -> Reading:
    devices = record.facts({}, keep_moving=True)["devices"]
    device = next(device for device in devices if device["uuid"] == uuid)
    held = [process["used_bytes"] for process in device["processes"] if process["pid"] == pid]
    return Reading(device["memory_used_bytes"], device["memory_free_bytes"], held[0] if held else None)


def moved(before: Reading, after: Reading) -> dict[str, int | None]:
    """By how much each figure has grown, in bytes; None where it is not told."""
    pairs = {
        "used": (before.used_bytes, after.used_bytes),
        "free": (before.free_bytes, after.free_bytes),
        "process": (before.process_bytes, after.process_bytes),
    }
    return {key: None if one is None or two is None else two - one for key, (one, two) in pairs.items()}


def judged(size: int, steps: Mapping[str, int | None], is_unified: bool) -> list[str]:
    """What is further off than a page after a process took `size` bytes; memory of the system moves by itself."""
    wanted = {"used": size, "free": -size, "process": size}
    if is_unified:
        del wanted["used"], wanted["free"]
    found = []
    for key, expected in wanted.items():
        step = steps[key]
        if step is None:
            found.append(f"{key} is not told while a process holds memory")
        elif abs(step - expected) > PAGE_BYTES:
            found.append(f"{key} moved by {shown(step)}, expected {shown(expected)}")
    return found


def shown(step: int | None) -> str:
    return "not told" if step is None else f"{step / MIB:+.1f} MiB"


@contextmanager
def holder(uuid: str) -> Iterator[subprocess.Popen[str]]:
    """A process with a CUDA context on a device, ended at the end."""
    process = subprocess.Popen(
        [sys.executable, str(HOLD)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": uuid},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        expect(process, "ready")
        yield process
    finally:
        process.communicate()


def tell(process: subprocess.Popen[str], size: int) -> None:
    assert process.stdin
    process.stdin.write(f"{size}\n")
    process.stdin.flush()
    expect(process, "held")


def expect(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout
    if process.stdout.readline().strip() != word:
        raise SystemExit("the process that was to hold memory of the GPU has failed, as it says above")


if __name__ == "__main__":
    main()
