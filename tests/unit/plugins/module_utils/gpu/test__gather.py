# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import (
    _amdgpu,
    _gather,
    _nvidia_smi,
    _nvml_ctypes,
    _nvml_pynvml,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import HostGpus
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._gather import Request, gather
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SystemMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_binding import BindingUnavailable
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._nvml_ctypes import CtypesNvml
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._owner import Owner
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA

MIB = 1 << 20
OWNER = Owner("ollama.service")

Describe = Callable[[Any], Path]
Sysfs = Callable[[Any], Path]


@pytest.fixture
def request_for(sysfs: Sysfs, proc: Callable[..., Path]) -> Callable[..., Request]:
    """A request on a host with the given sysfs tree and processes."""

    def make(tree: Any = None, processes: Any = None, **more: Any) -> Request:
        options = {"owner": OWNER, "deadline_seconds": 10.0, **more}
        return Request(sys=sysfs(tree or {}), proc=proc(processes or {}), **options)

    return make


@pytest.fixture
def no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host where neither pynvml nor the library is found."""

    def unavailable() -> None:
        raise BindingUnavailable("not here")

    monkeypatch.setattr(_nvml_pynvml, "PynvmlNvml", unavailable)
    monkeypatch.setattr(_nvml_ctypes, "CtypesNvml", unavailable)


def said(host: HostGpus) -> dict[str, tuple[bool, str]]:
    return {source.name: (source.ok, source.message) for source in host.sources}


def pci(address: str, vendor: str = "0x10de", device: str = "0x2204") -> dict[str, str]:
    base = f"bus/pci/devices/{address}"
    return {f"{base}/class": "0x030000", f"{base}/vendor": vendor, f"{base}/device": device}


def test_the_first_source_that_speaks_is_the_only_one_asked(
    nvml: Describe, request_for: Callable[..., Request]
) -> None:
    nvml("rtx3090_x2")
    host = gather(request_for())
    assert host.source == "nvml"
    assert said(host)["pynvml"][0] is True
    assert said(host)["ctypes"] == (False, "not asked, because pynvml spoke")
    assert said(host)["nvidia-smi"] == (False, "not asked, because pynvml spoke")
    assert said(host)["amdgpu"] == (False, "the amdgpu driver drives no GPU here")
    assert (host.driver_version, host.cuda_driver_version) == ("570.133.20", "12.8")
    assert host.problems == ()
    assert len(host.visible_devices) == len(host.devices) == 2
    assert (host.system_memory_total_bytes, host.system_memory_available_bytes) == (1024000, 614400)
    assert host.system_memory_limit_bytes is None
    assert gather(request_for(memory_limit_bytes=4096)).system_memory_limit_bytes == 4096
    gathered = datetime.datetime.fromisoformat(host.gathered_at)
    assert abs(datetime.datetime.now(datetime.timezone.utc) - gathered) < datetime.timedelta(minutes=1)


def test_without_pynvml_the_library_is_called_directly(
    nvml: Describe, request_for: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable() -> None:
        raise BindingUnavailable("this Python has no module pynvml")

    monkeypatch.setattr(_nvml_pynvml, "PynvmlNvml", unavailable)
    nvml("rtx3090_x2")
    host = gather(request_for())
    assert host.source == "nvml"
    assert said(host)["pynvml"] == (False, "this Python has no module pynvml")
    assert said(host)["ctypes"] == (True, "ctypes on libnvidia-ml.so.1 reports 2 devices")
    assert host.problems == ()


def test_a_python_without_pynvml_starts_no_process_to_say_so(
    nvml: Describe, request_for: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def call(work: Callable[[], dict[str, Any]], deadline_seconds: float) -> dict[str, Any]:
        asked.append(deadline_seconds)
        return work()

    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(_gather._deadline, "call", call)
    nvml("rtx3090_x2")
    host = gather(request_for())
    assert said(host)["pynvml"] == (False, "this Python has no module pynvml (package nvidia-ml-py)")
    assert said(host)["ctypes"] == (True, "ctypes on libnvidia-ml.so.1 reports 2 devices")
    assert len(asked) == 2  # ctypes and amdgpu


@pytest.mark.usefixtures("no_bindings")
def test_without_the_library_nvidia_smi_is_asked(
    request_for: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = _nvidia_smi.parse((DATA / "nvidia_smi/rtx3090_x2.xml").read_bytes(), SystemMemory())
    monkeypatch.setattr(_nvidia_smi, "read_nvidia_smi", lambda system: facts)
    host = gather(request_for())
    assert host.source == "nvidia-smi"
    assert said(host)["nvidia-smi"] == (True, "nvidia-smi reports 2 devices")
    assert len(host.devices) == 2


@pytest.mark.usefixtures("no_bindings")
def test_a_host_without_gpus_is_an_answer(
    request_for: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    host = gather(request_for())
    assert (host.source, host.devices, host.visible_devices, host.problems) == (None, (), (), ())
    assert host.notes == ("no GPU was found: no source reports one, and none is on the PCI bus",)
    assert "nvidia-smi cannot be run" in said(host)["nvidia-smi"][1]


def test_a_driver_that_refuses_has_spoken_for_the_other_sources(
    nvml: Describe, request_for: Callable[..., Request]
) -> None:
    nvml("fault_version_mismatch")
    host = gather(request_for(pci("0000:01:00.0")))
    assert host.source is None
    assert "reboot the host" in host.problems[0]
    assert said(host)["ctypes"][1] == "not asked, because pynvml spoke"
    assert host.unmeasured[0].vendor == "nvidia"
    assert host.notes == ()


def test_a_driver_that_hangs_is_asked_once(nvml: Describe, request_for: Callable[..., Request]) -> None:
    nvml("fault_init_hangs")
    host = gather(request_for(deadline_seconds=0.5))
    assert "gave no answer within 0.5 s" in host.problems[0]
    assert len(host.problems) == 1
    assert said(host)["ctypes"][1] == "not asked, because pynvml spoke"


@pytest.mark.usefixtures("no_bindings")
def test_a_source_that_crashes_leaves_the_host_to_the_next(
    request_for: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, nvml: Describe
) -> None:
    nvml("rtx3060_12gb")
    monkeypatch.setattr(_nvml_pynvml, "PynvmlNvml", lambda: os.kill(os.getpid(), 9))
    monkeypatch.setattr(_nvml_ctypes, "CtypesNvml", CtypesNvml)
    host = gather(request_for())
    assert "pynvml crashed with SIGKILL" in said(host)["pynvml"][1]
    assert said(host)["ctypes"][0] is True
    assert host.problems == ()


def test_memory_of_the_service_counts_as_available(
    nvml: Describe, request_for: Callable[..., Request]
) -> None:
    folder = nvml("rtx3090_x2")
    (folder / str(os.getpid())).write_text(f"0 {5000 * MIB}\n")
    group = ("/system.slice/ollama.service", "/usr/local/bin/ollama runner --port 1")
    host = gather(request_for(processes={os.getpid(): group}))
    (folder / str(os.getpid())).unlink()
    idle = gather(request_for())
    assert host.devices[0].memory_ours_bytes == 5000 * MIB
    assert host.devices[0].memory_available_bytes == idle.devices[0].memory_available_bytes
    assert host.devices[0].processes[0].systemd_unit == "ollama.service"


def test_memory_of_others_does_not(nvml: Describe, request_for: Callable[..., Request]) -> None:
    nvml("rtx6000_foreign_process")
    (gpu,) = gather(request_for()).devices
    assert gpu.memory_ours_bytes == 0
    assert gpu.memory_available_bytes == gpu.memory_free_bytes
    assert (gpu.memory_used_bytes or 0) > 30 << 30


def test_memory_that_no_process_is_known_to_hold_is_noted(
    nvml: Describe, request_for: Callable[..., Request]
) -> None:
    nvml("fault_process_list_refused")
    host = gather(request_for())
    assert "GPU 0 has 9000 MiB in use that no process is known to hold" in host.notes[0]


@pytest.mark.usefixtures("no_bindings")
def test_amd_gpus_are_measured_through_sysfs(request_for: Callable[..., Request]) -> None:
    processes = {4711: ("/system.slice/ollama.service", "ollama"), 900: ("/user.slice", "python3")}
    host = gather(request_for("rx7900xtx_x2", processes))
    assert host.source == "amdgpu"
    assert said(host)["amdgpu"] == (True, "amdgpu in sysfs reports 2 devices")
    assert host.devices[0].memory_ours_bytes == 4 << 30
    assert host.unmeasured == ()
    assert host.problems == ()


def test_a_host_with_both_vendors_has_all(nvml: Describe, request_for: Callable[..., Request]) -> None:
    nvml("rtx3060_12gb")
    host = gather(request_for("strix_halo_gtt"))
    assert [device.vendor for device in host.devices] == ["nvidia", "amd"]
    assert host.source == "nvml"


def test_amd_speaks_where_nvidias_driver_is_loaded_without_a_gpu(
    nvml: Describe, request_for: Callable[..., Request]
) -> None:
    nvml("no_gpu")
    host = gather(request_for("rx7900xtx_x2"))
    assert host.source == "amdgpu"


def test_a_gpu_that_fell_off_the_bus_before_the_driver_counted_is_missed(
    nvml: Describe, request_for: Callable[..., Request]
) -> None:
    nvml("rtx3060_12gb")
    host = gather(request_for({**pci("0000:01:00.0"), **pci("0000:02:00.0")}))
    assert [gpu.pci_bus_id for gpu in host.unmeasured] == ["0000:02:00.0"]
    assert host.problems == (host.unmeasured[0].message,)


def test_a_lost_gpu_without_an_address_is_not_counted_twice(
    nvml: Describe, request_for: Callable[..., Request]
) -> None:
    nvml("fault_one_of_eight_lost")
    addresses = ("07", "0a", "44", "4a", "84", "8a", "c0", "c3")
    tree = {key: value for bus in addresses for key, value in pci(f"0000:{bus}:00.0").items()}
    host = gather(request_for(tree))
    assert [gpu.pci_bus_id for gpu in host.unmeasured] == ["0000:8a:00.0"]
    assert host.problems == ()
    assert len(host.visible_devices) == 7


@pytest.mark.usefixtures("no_bindings")
@pytest.mark.parametrize(("vendor", "problems"), [("0x10de", 1), ("0x1002", 1), ("0x8086", 0), ("0x1a03", 0)])
def test_a_gpu_that_no_source_measures_is_told(
    request_for: Callable[..., Request], vendor: str, problems: int
) -> None:
    host = gather(request_for(pci("0000:01:00.0", vendor), sources=["pynvml", "ctypes", "amdgpu"]))
    assert len(host.unmeasured) == 1
    assert len(host.problems) == problems


@pytest.mark.usefixtures("no_bindings")
def test_the_gpu_of_a_jetson_without_nvml_is_not_dropped_in_silence(
    request_for: Callable[..., Request],
) -> None:
    compatible = {"hex": b"nvidia,jetson-xavier\0nvidia,tegra194\0".hex()}
    tree = {"firmware/devicetree/base/compatible": compatible}
    host = gather(request_for(tree, sources=["pynvml", "ctypes", "amdgpu"]))
    assert [gpu.device_id for gpu in host.unmeasured] == ["nvidia,tegra194"]
    assert host.problems == (host.unmeasured[0].message,)
    assert host.notes == ()


def test_an_integrated_amd_gpu_beside_a_measured_one_is_no_problem(
    nvml: Describe, request_for: Callable[..., Request]
) -> None:
    nvml("rtx3060_12gb")
    host = gather(request_for({**pci("0000:01:00.0"), **pci("0000:65:00.0", "0x1002", "0x15bf")}))
    assert len(host.unmeasured) == 1
    assert host.problems == ()


def test_sources_may_be_left_out(nvml: Describe, request_for: Callable[..., Request]) -> None:
    nvml("rtx3060_12gb")
    assert list(said(gather(request_for(sources=["ctypes"])))) == ["ctypes"]
    assert gather(request_for(sources=[])).sources == ()


def test_what_restricts_the_service_is_told_with_what_it_sees(
    nvml: Describe, request_for: Callable[..., Request]
) -> None:
    nvml("rtx3090_x2")
    request = request_for(environment={"CUDA_VISIBLE_DEVICES": "1", "HOME": "/"}, notes=("a note",))
    host = gather(request)
    assert host.visibility == {"CUDA_VISIBLE_DEVICES": "1"}
    assert host.visible_devices == (host.devices[1].uuid,)
    assert host.notes[0] == "a note"


def test_sources_say_the_same_when_asked_in_this_process(
    nvml: Describe, request_for: Callable[..., Request]
) -> None:
    nvml("rtx3090_x2")
    request = request_for("rx7900xtx_x2")
    answer = _gather.read_by(_nvml_ctypes.read, SystemMemory(), request)
    assert len(answer["devices"]) == 2
    nvml("fault_driver_not_loaded")
    assert "modprobe nvidia" in _gather.read_by(_nvml_ctypes.read, SystemMemory(), request)["refused"]
    assert len(_gather.read_by(_amdgpu.read, SystemMemory(), request)["devices"]) == 2
    assert "unavailable" in _gather.read_by(
        _amdgpu.read, SystemMemory(), replace(request, sys=Path("/nowhere"))
    )


def test_a_missing_binding_and_program_are_told_in_this_process(
    request_for: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, no_bindings: None
) -> None:
    answer = _gather.read_by(_nvml_pynvml.read, SystemMemory(), request_for())
    assert answer == {"unavailable": "not here"}
    monkeypatch.setenv("PATH", "/nowhere")
    assert "cannot be run" in _gather.read_by(_nvidia_smi.read, SystemMemory(), request_for())["unavailable"]
    facts = _nvidia_smi.parse((DATA / "nvidia_smi/gb10.xml").read_bytes(), SystemMemory(1, 1))
    monkeypatch.setattr(_nvidia_smi, "read_nvidia_smi", lambda system: facts)
    assert len(_gather.read_by(_nvidia_smi.read, SystemMemory(), request_for())["devices"]) == 1
