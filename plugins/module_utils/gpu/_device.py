# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of a host's GPUs, whichever source it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass


@dataclass(frozen=True)
class GpuProcess:
    """One process that holds memory of a GPU; `used_bytes` is None where the driver does not say."""

    pid: int
    used_bytes: int | None = None
    command: str | None = None
    systemd_unit: str | None = None
    is_ours: bool = False

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GpuProcess:
        """Read back what `to_dict` gave.

        Raises: ValueError naming the key that is missing or of the wrong type.
        """
        return cls(**_values(cls, data, "a GPU process"))


@dataclass(frozen=True)
class GpuDevice:
    """One GPU, or one MIG instance of a GPU; sizes in bytes, None where no source could tell.

    `memory_own_bytes`, `memory_shared_bytes`: of an AMD GPU that is part of the processor what is set aside for it
    (VRAM), and what it may map of the system's memory (GTT); None of others. `rocm_node`: an AMD GPU's number among
    ROCm's nodes, of which the processors are the first.
    """

    index: int
    uuid: str
    pci_bus_id: str
    vendor: str
    name: str
    architecture: str | None = None
    compute_capability: str | None = None
    gfx_target: str | None = None
    rocm_node: int | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    memory_ours_bytes: int = 0
    memory_own_bytes: int | None = None
    memory_shared_bytes: int | None = None
    unified_memory: bool = False
    integrated: bool = False
    mig_mode: bool | None = None
    mig_parent_uuid: str | None = None
    mig_profile: str | None = None
    display_attached: bool | None = None
    ecc_enabled: bool | None = None
    problems: tuple[str, ...] = ()
    processes: tuple[GpuProcess, ...] = ()

    @property
    def memory_available_bytes(self) -> int | None:
        """What a plan may count on: free memory and what Ollama gives back when it is restarted."""
        if self.memory_free_bytes is None:
            return None
        return self.memory_free_bytes + self.memory_ours_bytes

    @property
    def is_usable(self) -> bool:
        """Whether a program can compute on it: its memory is known, and it is not cut into MIG instances."""
        return self.memory_total_bytes is not None and not self.mig_mode

    def to_dict(self) -> dict[str, Any]:
        data = dataclasses.asdict(self)
        data["problems"] = list(self.problems)
        data["processes"] = [process.to_dict() for process in self.processes]
        data["memory_available_bytes"] = self.memory_available_bytes
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GpuDevice:
        """Read back what `to_dict` gave.

        Raises: ValueError naming the key that is missing or of the wrong type.
        """
        return cls(**_values(cls, data, "a GPU", processes=GpuProcess.from_dict))


@dataclass(frozen=True)
class Source:
    """What one source of GPU facts answered: whether it spoke, and one sentence."""

    name: str
    ok: bool
    message: str

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Source:
        """Read back what `to_dict` gave.

        Raises: ValueError naming the key that is missing or of the wrong type.
        """
        return cls(**_values(cls, data, "a source of GPU facts"))


@dataclass(frozen=True)
class UnmeasuredGpu:
    """A GPU that is there but that no source could measure; ids are the PCI ones, as in '0x8086', or a chip's name."""

    pci_bus_id: str
    vendor: str
    device_id: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> UnmeasuredGpu:
        """Read back what `to_dict` gave.

        Raises: ValueError naming the key that is missing or of the wrong type.
        """
        return cls(**_values(cls, data, "an unmeasured GPU"))


@dataclass(frozen=True)
class HostGpus:
    """All GPUs of one host at one time; `gathered_at` is ISO 8601 in UTC, sizes are bytes.

    `devices_left_out`: how many more the host has than are told. `system_memory_limit_bytes`: what the service may take of
    it, None for all.
    """

    gathered_at: str
    source: str | None = None
    sources: tuple[Source, ...] = ()
    driver_version: str | None = None
    nvml_version: str | None = None
    cuda_driver_version: str | None = None
    system_memory_total_bytes: int | None = None
    system_memory_available_bytes: int | None = None
    system_memory_limit_bytes: int | None = None
    visibility: Mapping[str, str] = dataclasses.field(default_factory=dict)
    devices: tuple[GpuDevice, ...] = ()
    visible_devices: tuple[str, ...] = ()
    unmeasured: tuple[UnmeasuredGpu, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    devices_left_out: int = 0

    @property
    def faults(self) -> tuple[str, ...]:
        """What a plan must not pass over in silence.

        Problems of the host, of the devices that the service sees, and of those that it may not see because of them.
        """
        concerned = [gpu for gpu in self.devices if gpu.uuid in self.visible_devices or not gpu.is_usable]
        return (*self.problems, *(problem for gpu in concerned for problem in gpu.problems))

    def to_dict(self) -> dict[str, Any]:
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("sources", "devices", "unmeasured"):
            data[name] = [item.to_dict() for item in data[name]]
        for name in ("visible_devices", "problems", "notes"):
            data[name] = list(data[name])
        data["visibility"] = dict(self.visibility)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HostGpus:
        """Read back what `to_dict` gave.

        Raises: ValueError naming the key that is missing or of the wrong type.
        """
        values = _values(
            cls,
            data,
            "GPU facts",
            sources=Source.from_dict,
            devices=GpuDevice.from_dict,
            unmeasured=UnmeasuredGpu.from_dict,
        )
        return cls(**values)


# So many GPUs are told of a host and planned: more than any machine has, fewer than cut into MIG instances are possible.
MAX_DEVICES = 64
# Of a device's processes those that hold most are told.
MAX_PROCESSES = 64
MAX_COMMAND_CHARACTERS = 256


def bounded(host: HostGpus) -> HostGpus:
    """The host with at most so many devices, those that the service sees first, and processes as are told."""
    seen = set(host.visible_devices)
    kept = sorted(host.devices, key=lambda device: device.uuid not in seen)[:MAX_DEVICES]
    uuids = {device.uuid for device in kept}
    left_out = len(host.devices) - len(kept)
    notes = [f"{left_out} GPUs are left out: at most {MAX_DEVICES} are told of a host"] if left_out else []
    return dataclasses.replace(
        host,
        devices=tuple(
            dataclasses.replace(device, processes=_most_holding(device.processes))
            for device in host.devices
            if device.uuid in uuids
        )[:MAX_DEVICES],
        visible_devices=tuple(uuid for uuid in host.visible_devices if uuid in uuids)[:MAX_DEVICES],
        notes=(*host.notes, *notes),
        devices_left_out=left_out,
    )


def _most_holding(processes: tuple[GpuProcess, ...]) -> tuple[GpuProcess, ...]:
    most = sorted(processes, key=lambda process: -(process.used_bytes or 0))[:MAX_PROCESSES]
    pids = {process.pid for process in most}
    return tuple(
        dataclasses.replace(process, command=(process.command or "")[:MAX_COMMAND_CHARACTERS] or None)
        for process in processes
        if process.pid in pids
    )[:MAX_PROCESSES]


# Annotations are text (the __future__ import), so that Python 3.8 and 3.9 can read the `|` in them.
_EXPECTED: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "an integer"),
    "str": ((str,), "text"),
    "bool": ((bool,), "true or false"),
    "int | None": ((int, type(None)), "an integer or null"),
    "str | None": ((str, type(None)), "text or null"),
    "bool | None": ((bool, type(None)), "true, false or null"),
    "Mapping[str, str]": ((Mapping,), "a mapping"),
}
_A_LIST: tuple[tuple[type, ...], str] = ((list, tuple), "a list")


def _values(cls: Any, data: Any, what: str, **readers: Any) -> dict[str, Any]:
    """The values of a dataclass above, checked; keys that it does not know are left alone."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{what} must be a mapping, found {type(data).__name__}")
    values = {}
    for field in dataclasses.fields(cls):
        if field.name not in data:
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise ValueError(f"{what} lacks the key '{field.name}'")
            continue
        value = data[field.name]
        kinds, description = _EXPECTED.get(str(field.type), _A_LIST)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ValueError(f"{what} has {value!r:.80} as '{field.name}', expected {description}")
        if isinstance(value, (list, tuple)):
            value = tuple(map(readers.get(field.name, str), value))
        values[field.name] = value
    return values
