# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When what the running server said holds for what is planned, and how it is handed on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    ServerLog,
    read_server_log,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._said import (
    Said,
    dropped_of,
    holding_for,
    said_from_info,
    uncounted_words,
)

GPU = GpuDevice(3, "GPU-aaaa", "00000000:01:00.0", "nvidia", "Tesla P40", memory_total_bytes=1)
# As Ollama 0.33 logs them.
NO_GPU = 'source=types.go:50 msg="inference compute" id=cpu library=cpu compute="" name=cpu pci_id=""'
BY_PLACE = 'source=types.go:32 msg="inference compute" id={} library=CUDA name=CUDA0 pci_id={}'
TOO_OLD = 'level=WARN source=cuda_compat.go:70 msg="NVIDIA driver too old" device="Tesla P40" driver=535'


def config(**values: str) -> str:
    return (
        'source=r msg="server config" env="map['
        + " ".join(f"{k}:{v}" for k, v in sorted(values.items()))
        + ']"'
    )


def said(*lines: str) -> Said:
    return Said(replace(read_server_log(lines), version="0.33.0"))


def test_a_gpu_that_the_server_does_not_take_is_dropped_with_its_reason():
    (dropped,) = dropped_of(said(TOO_OLD, NO_GPU), [GPU])
    assert (dropped.index, dropped.uuid, dropped.name) == (3, "GPU-aaaa", "Tesla P40")
    assert dropped.reason == "NVIDIA driver too old (device=Tesla P40, driver=535)"
    assert dropped.reason in dropped.message
    assert dropped_of(said(BY_PLACE.format(0, "0000:01:00.0")), [GPU]) == ()
    assert dropped_of(said(), [GPU]) == ()


@pytest.mark.parametrize(
    ("then", "now", "version", "holds"),
    [
        ({}, {}, "0.33.0", True),
        ({}, {}, "0.34.0", False),
        ({}, {}, "0.32.0", False),
        ({"OLLAMA_LLM_LIBRARY": "cuda_v12"}, {}, "0.33.0", False),
        ({"OLLAMA_LLM_LIBRARY": "cuda_v12"}, {"OLLAMA_LLM_LIBRARY": "cuda_v12"}, "0.33.0", True),
        ({"OLLAMA_VULKAN": "true"}, {}, "0.33.0", True),
        ({"OLLAMA_VULKAN": "true"}, {"OLLAMA_VULKAN": "0"}, "0.33.0", False),
        ({"OLLAMA_IGPU_ENABLE": ""}, {"OLLAMA_IGPU_ENABLE": "1"}, "0.33.0", False),
        ({"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}, {"HSA_OVERRIDE_GFX_VERSION": "9.0.0"}, "0.33.0", False),
    ],
)
def test_what_was_said_holds_for_the_same_version_and_settings(then, now, version, holds):
    assert holding_for(said(config(**then), NO_GPU), version, now).takes(GPU) is (False if holds else None)


def test_what_the_module_returns_is_read_back_and_other_forms_are_refused():
    log = read_server_log([config(A="1"), TOO_OLD, BY_PLACE.format(0, "0000:01:00.0")])
    assert said_from_info({**log.to_dict(), "at_least": True, "problem": "x"}) == Said(log, at_least=True)
    assert said_from_info({}) == Said(ServerLog())
    for rubbish in ([], "x", {"devices": [1]}, {"loads": [{}]}, {"settings": 1}, {"models": [{"a": 1}]}):
        with pytest.raises(ValueError, match=r"ollama_host_info"):
            said_from_info(rubbish)


ARC = 'source=types.go:42 msg="inference compute" id=86800be2-0000 library={} name={} description="{}" pci_id={}'


# ollama issues 13286 (an Arc B580 beside two RTX 3060) and 16536 (a laptop's Intel GPU beside an RTX 4070).
@pytest.mark.parametrize(
    ("line", "words"),
    [
        (ARC.format("Vulkan", "Vulkan0", "Intel(R) Arc(tm) B580 Graphics (BMG)", "0000:03:00.0"), "Arc(tm) B580"),
        (ARC.format("Vulkan", "Vulkan0", "Intel(R) UHD Graphics", '""'), "on Intel(R) UHD Graphics by Vulkan"),
        (ARC.format("CUDA", "CUDA1", "NVIDIA A40", "0000:05:00.0"), "hide it from the service has it left"),
        (ARC.format("Vulkan", "Vulkan0", "Tesla P40", '""'), ""),
        (ARC.format("ROCm", "ROCm0", "AMD Radeon", '""'), ""),
        (BY_PLACE.format(0, "0000:01:00.0"), ""),
        (NO_GPU, ""),
    ],
)
def test_what_the_server_computes_on_besides_is_said(line, words):
    found = uncounted_words(said(line), [GPU])
    assert (len(found) == 1) is bool(words)
    assert words in " ".join(found)


def test_gpus_without_a_place_tell_none_from_others():
    nowhere = replace(GPU, pci_bus_id="")
    assert uncounted_words(said(BY_PLACE.format(0, "0000:05:00.0")), [nowhere]) == []
