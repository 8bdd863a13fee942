# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu import _visibility
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from hypothesis import given
from hypothesis import strategies as st


def nvidia(
    index: int, uuid: str, name: str = "RTX 3090", capability: str = "8.6", **more: object
) -> GpuDevice:
    facts = {"memory_total_bytes": 1000, "compute_capability": capability, **more}
    return GpuDevice(index, uuid, f"0000:{index + 1:02x}:00.0", "nvidia", name, **facts)  # type: ignore[arg-type]


def amd(index: int, uuid: str, target: str = "gfx1100", integrated: bool = False) -> GpuDevice:
    return GpuDevice(
        index,
        uuid,
        f"0000:{index + 0x41:02x}:00.0",
        "amd",
        f"AMD {target}",
        gfx_target=target,
        integrated=integrated,
        memory_total_bytes=1000,
    )


def instance(index: int, parent: str) -> GpuDevice:
    return nvidia(index, f"MIG-{parent[4:]}{index}", "H100 MIG 1g.10gb", "9.0", mig_parent_uuid=parent)


THREE = [nvidia(0, "GPU-aaaa1111"), nvidia(1, "GPU-aaaa2222"), nvidia(2, "GPU-bbbb3333")]
MIXED = [nvidia(0, "GPU-old", "GTX 1080 Ti", "6.1"), nvidia(1, "GPU-new", "RTX 3090", "8.6")]
CUT = [
    nvidia(0, "GPU-cut", "H100", "9.0", mig_mode=True),
    instance(0, "GPU-cut"),
    instance(1, "GPU-cut"),
    nvidia(1, "GPU-whole", "H100", "9.0", mig_mode=False),
]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (None, ["GPU-aaaa1111", "GPU-aaaa2222", "GPU-bbbb3333"]),
        ("", []),
        ("-1", []),
        ("1", ["GPU-aaaa2222"]),
        ("2,0", ["GPU-bbbb3333", "GPU-aaaa1111"]),
        (" 2 , 0 ", ["GPU-bbbb3333", "GPU-aaaa1111"]),
        ("0,2,-1,1", ["GPU-aaaa1111", "GPU-bbbb3333"]),
        ("0,7,1", ["GPU-aaaa1111"]),
        ("NoDevFiles", []),
        ("GPU-bbbb3333", ["GPU-bbbb3333"]),
        ("GPU-b", ["GPU-bbbb3333"]),
        ("gpu-bbbb3333", []),
        ("GPU-aaaa", []),
        ("GPU-aaaa2,GPU-aaaa1", ["GPU-aaaa2222", "GPU-aaaa1111"]),
        ("1,1", ["GPU-aaaa2222"]),
    ],
)
def test_cuda_visible_devices_selects_up_to_the_first_entry_that_names_nothing(
    value: str | None, seen: list[str]
) -> None:
    environment = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert list(_visibility.visible(THREE, environment).uuids) == seen


@pytest.mark.parametrize(
    ("value", "words"), [("0,7,1", "'7'"), ("GPU-aaaa", "'GPU-aaaa'"), ("1,1", "twice"), ("none", "'none'")]
)
def test_an_entry_that_names_nothing_is_noted(value: str, words: str) -> None:
    (note,) = _visibility.visible(THREE, {"CUDA_VISIBLE_DEVICES": value}).notes
    assert words in note


@pytest.mark.parametrize("value", ["", "-1", "0", "GPU-b"])
def test_a_list_that_is_meant_so_is_not_noted(value: str) -> None:
    assert _visibility.visible(THREE, {"CUDA_VISIBLE_DEVICES": value}).notes == ()


@pytest.mark.parametrize(
    ("environment", "seen", "noted"),
    [
        ({}, ("GPU-new", "GPU-old"), True),
        ({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, ("GPU-new", "GPU-old"), True),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, ("GPU-old", "GPU-new"), False),
        ({"CUDA_VISIBLE_DEVICES": "0"}, ("GPU-new",), True),
        ({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, ("GPU-old",), False),
        ({"CUDA_VISIBLE_DEVICES": "GPU-old"}, ("GPU-old",), False),
    ],
)
def test_different_models_are_counted_fastest_first_which_is_a_guess(
    environment: dict[str, str], seen: tuple[str, ...], noted: bool
) -> None:
    result = _visibility.visible(MIXED, environment)
    assert result.uuids == seen
    assert any("fastest first" in note for note in result.notes) is noted


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (None, ("MIG-cut0",)),
        ("0", ("MIG-cut0",)),
        ("1", ("GPU-whole",)),
        ("MIG-cut1", ("MIG-cut1",)),
        ("MIG-cut1,MIG-cut0", ("MIG-cut1",)),
        ("GPU-whole", ("GPU-whole",)),
        ("GPU-whole,MIG-cut1", ("MIG-cut1",)),
        ("GPU-cut", ()),
    ],
)
def test_a_process_sees_one_mig_instance_at_most(value: str | None, seen: tuple[str, ...]) -> None:
    environment = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert _visibility.visible(CUT, environment).uuids == seen


def test_a_lost_gpu_is_not_counted() -> None:
    devices = [THREE[0], nvidia(1, "GPU-lost", memory_total_bytes=None), THREE[2]]
    assert _visibility.visible(devices, {"CUDA_VISIBLE_DEVICES": "1"}).uuids == ("GPU-bbbb3333",)
    assert _visibility.visible(devices, {}).uuids == ("GPU-aaaa1111", "GPU-bbbb3333")


AMD = [
    amd(0, "GPU-398a3f843a146603"),
    amd(1, "GPU-398a3f843a146602"),
    amd(2, "0000:65:00.0", "gfx1103", True),
]


@pytest.mark.parametrize(
    ("environment", "seen"),
    [
        ({}, [0, 1, 2]),
        ({"OLLAMA_IGPU_ENABLE": "false"}, [0, 1, 2]),
        ({"ROCR_VISIBLE_DEVICES": "1"}, [1]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-398a3f843a146602,0"}, [1, 0]),
        ({"ROCR_VISIBLE_DEVICES": "1,0", "HIP_VISIBLE_DEVICES": "0"}, [1]),
        ({"HIP_VISIBLE_DEVICES": "0,9,1"}, [0]),
        ({"HIP_VISIBLE_DEVICES": "-1"}, []),
        ({"ROCR_VISIBLE_DEVICES": ""}, []),
        ({"GPU_DEVICE_ORDINAL": "1,1"}, [1]),
    ],
)
def test_rocm_selects_then_hip_counts_among_those(environment: dict[str, str], seen: list[int]) -> None:
    assert list(_visibility.visible(AMD, environment).uuids) == [AMD[index].uuid for index in seen]


def test_what_is_left_out_of_amd_is_noted() -> None:
    assert "'9'" in _visibility.visible(AMD, {"HIP_VISIBLE_DEVICES": "9"}).notes[0]


def test_vulkans_order_is_not_known() -> None:
    result = _visibility.visible(THREE, {"GGML_VK_VISIBLE_DEVICES": "0"})
    assert len(result.uuids) == 3
    assert "Vulkan" in result.notes[0]


def test_nvidia_comes_before_amd() -> None:
    assert _visibility.visible([AMD[0], THREE[0]], {}).uuids == (THREE[0].uuid, AMD[0].uuid)


def test_gpus_that_vulkan_reaches_come_last_and_by_their_vendors_row() -> None:
    arc = GpuDevice(0, "arc", "0000:03:00.0", "intel", "Arc B580", memory_total_bytes=1000)
    environment = {"CUDA_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "-1"}
    result = _visibility.visible([arc, AMD[0], THREE[0]], environment)
    assert result.uuids == (THREE[0].uuid, "arc")


def test_only_variables_that_matter_are_kept() -> None:
    environment = {"PATH": "/bin", "OLLAMA_API_KEY": "hidden", "CUDA_VISIBLE_DEVICES": "0"}
    assert _visibility.restricting(environment) == {"CUDA_VISIBLE_DEVICES": "0"}


@given(
    st.lists(
        st.sampled_from(["0", "1", "2", "3", "-1", "", "GPU-a", "GPU-aaaa1111", "MIG-cut0", "x", "\uff19"])
        | st.text(),
        max_size=6,
    )
)
def test_any_list_shows_each_gpu_once_at_most(items: list[str]) -> None:
    for devices in (THREE, MIXED, CUT, AMD):
        for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
            seen = _visibility.visible(devices, {name: ",".join(items)}).uuids
            assert len(set(seen)) == len(seen)
            assert set(seen) <= {device.uuid for device in devices if device.is_usable}
