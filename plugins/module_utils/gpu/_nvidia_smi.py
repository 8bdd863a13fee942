# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVIDIA GPUs from the XML of nvidia-smi, for hosts where libnvidia-ml.so.1 cannot be loaded."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._numbers import whole_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, GpuProcess
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SystemMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml import (
    sysfs_bus_id,
    unified_memory,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._source import (
    SourceFacts,
    SourceUnavailable,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._programs import program

COMMAND = ("nvidia-smi", "-q", "-x")
# A host with 16 GPUs and hundreds of processes writes some hundred KiB.
MAXIMUM_BYTES = 8 << 20
MAXIMUM_DEPTH = 32
# Larger numbers stand for "unknown" or for nonsense.
MAXIMUM_MEMORY_BYTES = 1 << 50


class NvidiaSmiFailed(SourceUnavailable):
    """nvidia-smi gave nothing to use; the text is one sentence for people."""


@dataclass
class Element:
    """One element of the XML: its text and its children in order."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> list[Element]:
        """The children of a name."""
        return [child for child in self.children if child.name == name]

    def find(self, path: str) -> Element | None:
        """The first element at a path of names with slashes."""
        found: Element | None = self
        for name in path.split("/"):
            found = next(iter(found.all(name)), None) if found else None
        return found

    def value(self, path: str) -> str | None:
        """The text at a path; None where it is missing or the driver says that it is not available."""
        found = self.find(path)
        text = found.text.strip() if found else ""
        return text if text and not re.match(r"\[?(N/A|Not|GPU is lost|Unknown)", text) else None

    def mib(self, path: str) -> int | None:
        """A size that is written as '12288 MiB', in bytes."""
        found = re.fullmatch(r"([0-9]{1,12}) MiB", self.value(path) or "")
        size = int(found.group(1)) * MIB if found else None
        return size if size is None or size <= MAXIMUM_MEMORY_BYTES else None

    def flag(self, path: str) -> bool | None:
        """A switch that is written as Enabled, Disabled, Yes or No."""
        return {"Enabled": True, "Yes": True, "Disabled": False, "No": False}.get(self.value(path) or "")


def read(system: SystemMemory, _sys: Path) -> SourceFacts:
    """What nvidia-smi says.

    Raises: NvidiaSmiFailed where it is not installed, fails, or writes what cannot be read.
    """
    return read_nvidia_smi(system)


def read_nvidia_smi(system: SystemMemory, command: tuple[str, ...] = COMMAND) -> SourceFacts:
    """What nvidia-smi says of this host's GPUs.

    Raises: NvidiaSmiFailed where it is not installed, fails, or writes what cannot be read.
    """
    try:
        with subprocess.Popen(
            [program(command[0]), *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            output = process.stdout.read(MAXIMUM_BYTES + 1) if process.stdout else b""
            if len(output) > MAXIMUM_BYTES:
                process.kill()
    except OSError as error:
        raise NvidiaSmiFailed(f"nvidia-smi cannot be run ({error.strerror})") from None
    if len(output) > MAXIMUM_BYTES:
        raise NvidiaSmiFailed(f"nvidia-smi writes more than {MAXIMUM_BYTES >> 20} MiB")
    if process.returncode:
        words = " ".join(output.decode("utf-8", "replace").split())[:200] or "without a word"
        raise NvidiaSmiFailed(f"nvidia-smi failed with exit status {process.returncode}: {words}")
    return parse(output, system)


def parse(output: bytes, system: SystemMemory) -> SourceFacts:
    """The facts in the XML that 'nvidia-smi -q -x' writes.

    Raises: NvidiaSmiFailed where it is not such XML.
    """
    root = parse_xml(output)
    if root.name != "nvidia_smi_log":
        raise NvidiaSmiFailed(f"nvidia-smi writes XML of <{root.name:.40}>, expected <nvidia_smi_log>")
    devices: list[GpuDevice] = []
    for index, gpu in enumerate(root.all("gpu")):
        devices += _devices(index, gpu, system)
    return SourceFacts(
        description="nvidia-smi",
        driver_version=root.value("driver_version"),
        nvml_version=None,
        cuda_driver_version=root.value("cuda_version"),
        devices=tuple(devices),
    )


def parse_xml(output: bytes) -> Element:
    """The root element of an XML document without entities of its own: they could grow without bound.

    Raises: NvidiaSmiFailed where it is no such document.
    """
    top = Element("")
    open_elements = [top]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(open_elements) > MAXIMUM_DEPTH:
            raise NvidiaSmiFailed("nvidia-smi writes XML that is nested too deeply")
        element = Element(name, attributes)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def text(data: str) -> None:
        open_elements[-1].text += data

    def entity(*_declaration: Any) -> None:
        raise NvidiaSmiFailed("nvidia-smi writes XML that declares entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _name: open_elements.pop()
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = entity
    parser.buffer_text = True
    try:
        parser.Parse(output, True)
    except (expat.ExpatError, ValueError) as error:
        raise NvidiaSmiFailed(f"nvidia-smi writes what is no XML: {error}") from None
    return top.children[0]


def _devices(index: int, gpu: Element, system: SystemMemory) -> list[GpuDevice]:
    bus_id = sysfs_bus_id(gpu.attributes.get("id", ""))
    uuid = gpu.value("uuid") or ""
    mig_mode = gpu.flag("mig_mode/current_mig")
    problems = _problems(index, gpu)
    memory = _memory(gpu)
    unsupported = memory["memory_total_bytes"] is None and not problems
    if unsupported and not mig_mode and system.total_bytes is not None:
        memory = unified_memory(system)
    elif unsupported and not mig_mode:
        problems.append(f"GPU {index} does not tell its memory")
    processes = [entry for entry in map(_process, _entries(gpu, "processes", "process_info")) if entry]
    shared: dict[str, Any] = {
        "pci_bus_id": bus_id,
        "vendor": "nvidia",
        "architecture": gpu.value("product_architecture"),
        "ecc_enabled": gpu.flag("ecc_mode/current_ecc"),
    }
    instances = [
        _instance(index, gpu, instance, uuid, processes, shared)
        for instance in (_entries(gpu, "mig_devices", "mig_device") if mig_mode else [])
    ]
    device = GpuDevice(
        index=index,
        uuid=uuid,
        name=gpu.value("product_name") or "",
        mig_mode=mig_mode,
        display_attached=gpu.flag("display_active"),
        problems=tuple(problems),
        processes=tuple(process for process, _place in processes),
        **memory,
        **shared,
    )
    return [device, *instances]


def _instance(
    gpu_index: int,
    gpu: Element,
    instance: Element,
    parent: str,
    processes: list[tuple[GpuProcess, tuple[str | None, str | None]]],
    shared: dict[str, Any],
) -> GpuDevice:
    """One MIG instance; its name is the older form of CUDA, for nvidia-smi does not write the newer UUID."""
    place = (instance.value("gpu_instance_id"), instance.value("compute_instance_id"))
    index = whole_number(instance.value("index")) or 0
    memory = _memory(instance)
    known = memory["memory_total_bytes"] is not None
    return GpuDevice(
        index=index,
        uuid=instance.value("uuid") or f"MIG-{parent}/{place[0]}/{place[1]}",
        name=f"{gpu.value('product_name') or ''} MIG",
        mig_parent_uuid=parent,
        processes=tuple(process for process, where in processes if where == place),
        problems=() if known else (f"MIG instance {gpu_index}:{index} does not tell its memory",),
        **memory,
        **shared,
    )


def _entries(element: Element, group: str, name: str) -> list[Element]:
    found = element.find(group)
    return found.all(name) if found else []


def _process(entry: Element) -> tuple[GpuProcess, tuple[str | None, str | None]] | None:
    """A process with the ids of its GPU and compute instance."""
    pid = entry.value("pid") or ""
    if not re.fullmatch(r"[0-9]{1,10}", pid):
        return None
    place = (entry.value("gpu_instance_id"), entry.value("compute_instance_id"))
    return GpuProcess(pid=int(pid), used_bytes=entry.mib("used_memory")), place


def _memory(element: Element) -> dict[str, Any]:
    return {
        f"memory_{name}_bytes": element.mib(f"fb_memory_usage/{name}")
        for name in ("total", "free", "used", "reserved")
    }


def _problems(index: int, gpu: Element) -> list[str]:
    """What is wrong with a GPU, of the things that nvidia-smi writes into the XML."""
    problems = []
    memory = gpu.find("fb_memory_usage") or gpu
    if "GPU is lost" in _all_text(gpu) or "Unknown Error" in _all_text(memory):
        problems.append(
            f"GPU {index} is lost or does not answer its driver; look for Xid in the kernel log, then "
            "power-cycle the host"
        )
    if gpu.flag("remapped_rows/remapped_row_failure"):
        problems.append(f"GPU {index} could not replace rows of its memory after ECC errors; exchange it")
    if gpu.flag("remapped_rows/remapped_row_pending") or gpu.flag("retired_pages/pending_retirement"):
        problems.append(f"GPU {index} waits for a reset to repair its memory after ECC errors; reset it")
    return problems


def _all_text(element: Element) -> str:
    return element.text + "".join(map(_all_text, element.children))
