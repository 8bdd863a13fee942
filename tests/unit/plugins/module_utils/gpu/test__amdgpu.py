# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _amdgpu
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._kernel_files import SystemMemory
from ansible_collections.gpufleet.ollama.tests.unit.data import DATA
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GIB = 1 << 30
SYSTEM = SystemMemory(total_bytes=125 * GIB, available_bytes=100 * GIB)
AMDGPU = DATA / "amdgpu"
TREES = sorted(path.stem for path in AMDGPU.glob("*.json"))

Sysfs = Callable[[Any], Path]


@pytest.mark.parametrize("tree", TREES)
def test_every_gpu_of_every_tree_has_memory_that_adds_up(sysfs: Sysfs, tree: str) -> None:
    devices = _amdgpu.read_amdgpu(SYSTEM, sysfs(tree))
    assert devices
    assert [device.index for device in devices] == list(range(len(devices)))
    for device in devices:
        assert device.vendor == "amd"
        assert device.memory_total_bytes
        assert 0 <= (device.memory_free_bytes or 0) <= device.memory_total_bytes
        assert device.uuid


def test_two_cards_in_the_order_of_kfd_with_their_processes(sysfs: Sysfs) -> None:
    first, second = _amdgpu.read_amdgpu(SYSTEM, sysfs("rx7900xtx_x2"))
    assert (first.pci_bus_id, second.pci_bus_id) == ("0000:03:00.0", "0000:09:00.0")
    assert second.uuid == "GPU-398a3f843a146602"
    assert {first.gfx_target, second.gfx_target} == {"gfx1100"}
    assert first.name == "AMD GPU 0x744c (gfx1100)"
    assert (first.memory_total_bytes, first.memory_used_bytes) == (25753026560, 5 * GIB)
    assert first.memory_free_bytes == 25753026560 - 5 * GIB
    assert not first.integrated
    assert not first.unified_memory
    assert (first.display_attached, second.display_attached) == (True, False)
    assert [(p.pid, p.used_bytes) for p in first.processes] == [(900, GIB // 2), (4711, 4 * GIB)]
    assert second.processes == ()
    assert first.problems == ()


def test_an_apu_with_a_small_carve_out_has_the_memory_it_may_map(sysfs: Sysfs) -> None:
    (gpu,) = _amdgpu.read_amdgpu(SYSTEM, sysfs("strix_halo_gtt"))
    assert gpu.gfx_target == "gfx1151"
    assert gpu.integrated
    assert gpu.unified_memory
    assert gpu.memory_total_bytes == 118111600640
    assert gpu.memory_free_bytes == 100 * GIB  # bounded by what the system has left
    assert gpu.uuid == "0000:c5:00.0"  # ROCm calls it GPU-XX


def test_what_the_gpu_has_mapped_is_not_free(sysfs: Sysfs) -> None:
    much = SystemMemory(total_bytes=500 * GIB, available_bytes=400 * GIB)
    (gpu,) = _amdgpu.read_amdgpu(much, sysfs("strix_halo_gtt"))
    assert gpu.memory_free_bytes == 118111600640 - 2 * GIB


def test_an_apu_with_a_large_carve_out_has_that(sysfs: Sysfs) -> None:
    (gpu,) = _amdgpu.read_amdgpu(SYSTEM, sysfs("strix_halo_carveout"))
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes) == (64 * GIB, 7 * GIB)
    assert gpu.memory_own_bytes == 64 * GIB
    assert gpu.memory_shared_bytes
    assert gpu.integrated


def test_a_discrete_card_beside_an_integrated_one(sysfs: Sysfs) -> None:
    discrete, integrated = _amdgpu.read_amdgpu(SYSTEM, sysfs("phoenix_and_rx7900xtx"))
    assert (discrete.gfx_target, discrete.integrated) == ("gfx1100", False)
    assert (integrated.gfx_target, integrated.integrated) == ("gfx1103", True)


def test_an_older_apu_shares_a_node_with_its_cpu_cores(sysfs: Sysfs) -> None:
    (gpu,) = _amdgpu.read_amdgpu(SYSTEM, sysfs("renoir_joined_node"))
    assert (gpu.gfx_target, gpu.integrated, gpu.memory_total_bytes) == ("gfx90c", True, 8 * GIB)


def test_a_data_centre_card_on_another_pci_domain(sysfs: Sysfs) -> None:
    (gpu,) = _amdgpu.read_amdgpu(SYSTEM, sysfs("mi300x"))
    assert (gpu.pci_bus_id, gpu.gfx_target, gpu.integrated) == ("0001:05:00.0", "gfx942", False)


# Processors have nodes of their own, but for older ones that share one with their GPU.
@pytest.mark.parametrize(
    ("tree", "nodes"),
    [("rx7900xtx_x2", [1, 2]), ("renoir_joined_node", [0]), ("amdgpu_without_kfd", [None])],
)
def test_a_gpu_has_a_number_among_all_of_rocms_nodes(
    sysfs: Sysfs, tree: str, nodes: list[int | None]
) -> None:
    assert [gpu.rocm_node for gpu in _amdgpu.read_amdgpu(SYSTEM, sysfs(tree))] == nodes


# An unprivileged container of Proxmox sees all of its machine's GPUs in sysfs.
@pytest.mark.parametrize(
    ("files", "places", "problem"),
    [
        (["kfd", "dri/renderD128", "dri/renderD129"], ["0000:03:00.0", "0000:09:00.0"], ""),
        (["kfd", "dri/renderD129"], ["0000:09:00.0"], ""),
        (["dri/renderD128"], ["0000:03:00.0"], "look for kfd in the kernel log, and for /dev/kfd"),
        (["kfd"], [], ""),
    ],
)
def test_a_container_has_the_gpus_whose_device_files_it_was_given(
    sysfs: Sysfs, tmp_path: Path, files: list[str], places: list[str], problem: str
) -> None:
    tree = json.loads((DATA / "amdgpu" / "rx7900xtx_x2.json").read_text())
    for card, minor in (("card0", 128), ("card1", 129)):
        folder = next(path for path in tree if path.startswith(f"class/drm/{card}/device/"))
        tree[f"{folder.partition('/device/')[0]}/device/drm/renderD{minor}/dev"] = f"226:{minor}"
    for name in files:
        (tmp_path / "dev" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dev" / name).touch()
    found = _amdgpu.read_amdgpu(SYSTEM, sysfs(tree), tmp_path / "dev")
    assert [gpu.pci_bus_id for gpu in found] == places
    assert problem in " ".join(problem for gpu in found for problem in gpu.problems)
    assert any(gpu.problems for gpu in found) is bool(problem)


def test_a_card_that_kfd_does_not_know_is_a_problem(sysfs: Sysfs) -> None:
    (gpu,) = _amdgpu.read_amdgpu(SYSTEM, sysfs("amdgpu_without_kfd"))
    assert gpu.name == "Radeon RX 7900 XTX"
    assert "ROCm cannot use it" in gpu.problems[0]
    assert gpu.memory_total_bytes == 25753026560


@pytest.mark.parametrize(
    ("tree", "missing", "available", "free"),
    [
        ("amdgpu_without_kfd", "mem_info_vram_used", 100 * GIB, None),
        ("strix_halo_carveout", "mem_info_vram_used", 100 * GIB, None),
        ("strix_halo_gtt", "mem_info_gtt_used", 100 * GIB, 100 * GIB),
        ("strix_halo_gtt", "mem_info_gtt_used", None, None),
        ("strix_halo_gtt", "mem_info_vram_used", None, 118111600640 - 2 * GIB),
    ],
)
def test_what_is_used_and_not_told_does_not_count_as_free(
    sysfs: Sysfs, tree: str, missing: str, available: int | None, free: int | None
) -> None:
    files = json.loads((AMDGPU / f"{tree}.json").read_text())
    told = {path: content for path, content in files.items() if not path.endswith(missing)}
    (gpu,) = _amdgpu.read_amdgpu(SystemMemory(125 * GIB, available), sysfs(told))
    assert gpu.memory_free_bytes == free
    assert any("does not tell how much" in problem for problem in gpu.problems) is (free is None)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"class/drm/card0/device/vendor": "0x10de"},
        {"class/drm/card0/device/vendor": "0x1002"},
        {"class/drm/card0-DP-1/device/vendor": "0x1002"},
    ],
)
def test_a_host_without_an_amdgpu_card_has_none(sysfs: Sysfs, tree: dict[str, str]) -> None:
    assert _amdgpu.read_amdgpu(SYSTEM, sysfs(tree)) == ()


@pytest.mark.parametrize(
    ("version", "target"),
    [
        (110000, "gfx1100"),
        (110501, "gfx1151"),
        (90010, "gfx90a"),
        (90402, "gfx942"),
        (90012, "gfx90c"),
        (80003, "gfx803"),
        (120001, "gfx1201"),
        (0, None),
        (1 << 40, None),
    ],
)
def test_gfx_targets(version: int, target: str | None) -> None:
    assert _amdgpu.gfx_target(version) == target


def fresh(sysfs: Sysfs, tree: Any) -> Path:
    """The tree in place of the one of the example before."""
    shutil.rmtree(sysfs({}))
    return sysfs(tree)


@given(st.text())
def test_any_properties_file_gives_numbers_or_nothing(text: str) -> None:
    assert all(value >= 0 for value in _amdgpu.parse_properties(text).values())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_truncated_and_absurd_trees_are_read_without_an_error(sysfs: Sysfs, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(TREES))
    tree = json.loads((AMDGPU / f"{name}.json").read_text())
    absurd = st.sampled_from(["", "-1", "99999999999999999999999", "x" * 100, "0x", "\x00", "1 2 3", "0"])
    for path in data.draw(st.lists(st.sampled_from(sorted(tree)), max_size=8, unique=True)):
        content = tree.pop(path)  # and so missing where nothing else is drawn
        change = data.draw(st.sampled_from(["missing", "cut short", "absurd"]))
        if change == "cut short" and isinstance(content, str):
            tree[path] = content[: data.draw(st.integers(0, len(content)))]
        elif change == "absurd":
            tree[path] = data.draw(absurd)
    for device in _amdgpu.read_amdgpu(SYSTEM, fresh(sysfs, tree)):
        assert device.memory_free_bytes is None or device.memory_free_bytes >= 0
