# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs a server took, by what it said at its start."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._taken import (
    NamedGpu,
    dropped_words,
    is_taken,
    named_gpus,
    place_of,
    why_not,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import (
    ServerLog,
    read_server_log,
)

GPUS = (
    NamedGpu("GPU-aaaa", "NVIDIA GeForce RTX 3090", "00000000:01:00.0"),
    NamedGpu("GPU-bbbb", "Tesla P40", "00000000:0A:00.0"),
)
# As types.go:50 logs it where discovery has found none.
NO_GPU = 'source=types.go:50 msg="inference compute" id=cpu library=cpu compute="" name=cpu pci_id=""'
# As Ollama 0.30 and later number devices.
BY_PLACE = 'source=types.go:32 msg="inference compute" id={} library=CUDA name=CUDA0 pci_id={}'
BEFORE_0_12 = 'source=types.go:130 msg="inference compute" id={} library=cuda variant=v12 name="NVIDIA GeForce RTX 3090"'
TOO_OLD = (
    'level=WARN source=cuda_compat.go:70 msg="NVIDIA driver too old" device="Tesla P40" compute=6.1 driver=535 '
    'required_driver="570 or newer"'
)
OTHER = 'level=INFO source=runner.go:405 msg="dropping integrated GPU" description="Radeon 780M" pci_id=0000:c5:00.0'


def config(**values: str) -> str:
    return (
        'source=r msg="server config" env="map['
        + " ".join(f"{k}:{v}" for k, v in sorted(values.items()))
        + ']"'
    )


def log(*lines: str) -> ServerLog:
    return read_server_log(lines)


@pytest.mark.parametrize(
    ("lines", "taken"),
    [
        ([], [None, None]),
        ([NO_GPU], [False, False]),
        ([BY_PLACE.format(0, "0000:01:00.0")], [True, False]),
        ([BY_PLACE.format(0, "0000:0a:00.0")], [False, True]),
        ([BY_PLACE.format(0, "0000:01:00.0"), BY_PLACE.format(1, "0000:0a:00.0")], [True, True]),
        ([BEFORE_0_12.format("GPU-aaaa")], [True, False]),
        ([BY_PLACE.format(0, '""')], [None, None]),
        ([config(CUDA_VISIBLE_DEVICES="GPU-aaaa"), BY_PLACE.format(0, "0000:01:00.0")], [True, None]),
        ([config(CUDA_VISIBLE_DEVICES="0"), NO_GPU], [None, None]),
        ([config(CUDA_VISIBLE_DEVICES=""), NO_GPU], [False, False]),
    ],
    ids=[
        *("it has said nothing", "no GPU at all", "the first by its place", "the second, in another spelling", "both"),
        *("by UUID, as before 0.12", "a device without a place", "one was hidden", "hidden by index", "nothing hidden"),
    ],
)  # fmt: skip
def test_which_gpus_the_server_took(lines, taken):
    assert [is_taken(log(*lines), gpu) for gpu in GPUS] == taken


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([TOO_OLD, OTHER, NO_GPU], "(device=Tesla P40, compute=6.1, driver=535, required_driver=570 or newer)"),
        ([OTHER.replace("c5:00", "0a:00"), NO_GPU], "dropping integrated GPU (description=Radeon 780M, pci_id=0000:0a:00.0)"),
        ([NO_GPU], "whether the unit lets its user open the device (PrivateDevices=, DeviceAllow=, groups video and render)"),
    ],
)  # fmt: skip
def test_why_a_gpu_is_not_used_is_the_servers_own_reason(lines, sentence):
    assert is_taken(log(*lines), GPUS[1]) is False
    words = dropped_words(GPUS[1], why_not(log(*lines), GPUS[1]))
    assert words.startswith("GPU Tesla P40 (GPU-bbbb) is not used by the Ollama that runs")
    assert words.endswith(sentence)


def test_a_plan_names_its_gpus():
    assert named_gpus(
        [{"uuid": "GPU-aaaa", "name": "x", "pci_bus_id": "0000:01:00.0", "total_bytes": 1}, {}]
    ) == [
        NamedGpu("GPU-aaaa", "x", "0000:01:00.0"),
        NamedGpu("", "", ""),
    ]


def test_a_gpu_that_nothing_tells_from_others_is_taken_as_far_as_is_known():
    unnamed = NamedGpu("Tegra", "Orin", "")
    assert is_taken(log(BY_PLACE.format(0, "0000:01:00.0")), unnamed) is None
    assert is_taken(log(NO_GPU), unnamed) is False


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("00000000:0A:00.0", (0, 10, 0)),
        ("0000:0a:00.0", (0, 10, 0)),
        ("0a:00.0", (0, 10, 0)),
        ("0001:0a:1f", (1, 10, 31)),
        ("", None),
        ("CUDA0", None),
        ("0000:0g:00.0", None),
    ],
)
def test_spellings_of_a_pci_id(text, place):
    assert place_of(text) == place
