# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A GPU that is gone is known by its UUID; what is remembered changes only where the host was read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._hardware import gone, hardware

A, B = ({"uuid": f"GPU-{name}", "name": "RTX"} for name in "ab")


@pytest.mark.parametrize(
    ("before", "devices", "missing"),
    [
        ([A, B], [A, B], []),
        ([A, B], [B], ["RTX (GPU-a)"]),
        ([A], [], ["RTX (GPU-a)"]),
        ([], [A], []),
        ([A], [{"uuid": "GPU-a", "name": "renamed", "index": 3}], []),
        ([A], [{"index": 0}], ["RTX (GPU-a)"]),
    ],
)
def test_a_gpu_is_known_again_by_its_uuid(before: Any, devices: Any, missing: list[str]) -> None:
    assert gone(before, devices) == missing


def read_of(*devices: dict[str, str], **planned: object) -> dict[str, Any]:
    return {"ansible_facts": {"gpufleet_gpu": {"devices": list(devices)}}, **planned}


@pytest.mark.parametrize(
    ("read", "told"),
    [
        pytest.param({}, ([], None, ""), id="described, not read"),
        pytest.param(read_of(A), ([], None, ""), id="GPUs read by a module that remembers none"),
        pytest.param(read_of(A, planned_gpus=[A]), ([], None, ""), id="as remembered"),
        pytest.param(read_of(A, planned_gpus=None), ([], [A], ""), id="never applied"),
        pytest.param(read_of(A, planned_gpus=[A, B]), (["RTX (GPU-b)"], [A], ""), id="one is gone"),
        pytest.param(
            read_of(A, planned_gpus=[{**A, "name": "other"}]), ([], [A], ""), id="renamed by a driver"
        ),
        pytest.param(
            read_of(A, planned_gpus=None, planned_gpus_problem="it is torn"),
            ([], None, "it is torn"),
            id="a record that cannot be read is left to who can",
        ),
    ],
)
def test_what_is_told_of_the_gpus(read: Any, told: tuple[Any, Any, str]) -> None:
    plan = {"gpus": [{**A, "index": 0, "total_bytes": 8}]}
    for accepted in (True, False):
        names = ("gone", "to_remember", "problem")
        assert hardware(plan, read, gone_is_accepted=accepted) == {
            **dict(zip(names, told)),
            "gone_is_accepted": accepted,
        }
