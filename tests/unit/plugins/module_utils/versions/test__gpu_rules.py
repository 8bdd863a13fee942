# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs a version of Ollama takes, as its own source says it."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._gpu_rules import (
    ROWS,
    CudaBuild,
    GpuRules,
    gpu_rules,
)


def test_the_rows_stand_in_the_order_of_their_releases() -> None:
    releases = [since for since, _row in ROWS]
    assert releases == sorted(set(releases))


@pytest.mark.parametrize(
    ("release", "row"),
    [((0, 10, 0), 0), ((0, 12, 3), 0), ((0, 12, 4), 1), ((0, 24, 0), 3), ((0, 30, 10), 5), ((0, 33, 0), 9)],
)
def test_a_release_follows_the_newest_row_that_it_reaches(release: tuple[int, int, int], row: int) -> None:
    assert gpu_rules(release) is ROWS[row][1]


def least_driver(rules: GpuRules, capability: tuple[int, int]) -> int | None:
    """The oldest driver with which some build runs on such a GPU; None where none has code for it."""
    drivers = [build.least_driver(capability) for build in rules.cuda if build.has_code_for(capability)]
    return min(drivers, default=None)


@pytest.mark.parametrize(
    ("capability", "drivers"),
    # By release: 0.24.0, 0.30.0, 0.30.10, 0.30.11, 0.32.2.
    [
        ((3, 5), (None, None, None, None, None)),
        ((3, 7), (None, None, None, None, None)),
        ((5, 0), (0, 570, 570, 570, 570)),
        ((6, 1), (0, 570, 570, 570, 570)),
        ((7, 0), (0, 550, 550, 550, 550)),
        ((8, 6), (0, 550, 550, 550, 550)),
        ((8, 7), (0, None, None, 580, 580)),
        ((10, 0), (0, 580, 580, 580, 550)),
        ((12, 0), (0, 550, 550, 550, 550)),
        ((12, 1), (0, 580, 580, 580, 580)),
    ],
)
def test_the_driver_that_a_compute_capability_needs(
    capability: tuple[int, int], drivers: tuple[int | None, ...]
) -> None:
    releases = ((0, 24, 0), (0, 30, 0), (0, 30, 10), (0, 30, 11), (0, 32, 2))
    assert tuple(least_driver(gpu_rules(release), capability) for release in releases) == drivers


@pytest.mark.parametrize(
    ("release", "capability", "driver", "dropped"),
    [
        ((0, 30, 10), (7, 0), 535, False),
        ((0, 30, 10), (6, 1), 535, True),
        ((0, 30, 10), (6, 1), 569, True),
        ((0, 30, 11), (7, 0), 535, True),
        ((0, 30, 11), (7, 0), 550, False),
    ],
)
def test_below_its_driver_a_gpu_is_dropped_or_fails(
    release: tuple[int, int, int], capability: tuple[int, int], driver: int, dropped: bool
) -> None:
    cuda_12: CudaBuild = gpu_rules(release).cuda[0]
    assert cuda_12.is_dropped(capability, driver) is dropped


@pytest.mark.parametrize(
    ("target", "taken"),
    # By release: 0.10.0, 0.12.4, 0.18.0, 0.31.2.
    [
        ("gfx803", (False, False, False, False)),
        ("gfx900", (True, False, False, False)),
        ("gfx906", (True, False, False, False)),
        ("gfx90a", (True, True, True, True)),
        ("gfx940", (True, True, False, False)),
        ("gfx950", (False, False, True, True)),
        ("gfx1010", (True, True, True, False)),
        ("gfx1030", (True, True, True, True)),
        ("gfx1031", (False, False, False, False)),
        ("gfx1103", (False, False, True, False)),
        ("gfx1150", (False, False, True, True)),
        ("gfx1151", (True, True, True, True)),
        ("gfx1201", (True, True, True, True)),
    ],
)
def test_the_targets_of_rocm(target: str, taken: tuple[bool, ...]) -> None:
    releases = ((0, 10, 0), (0, 12, 4), (0, 18, 0), (0, 31, 2))
    assert tuple(target in gpu_rules(release).rocm_targets for release in releases) == taken


@pytest.mark.parametrize(
    ("release", "drops", "gfx1151", "vulkan", "by_default", "available_memory"),
    [
        ((0, 12, 10), False, False, False, False, False),
        ((0, 12, 11), False, False, True, False, False),
        ((0, 24, 0), False, False, True, False, False),
        ((0, 30, 0), True, False, True, True, True),
        ((0, 30, 1), True, True, True, True, True),
        ((0, 32, 14), True, True, True, True, True),
        ((0, 32, 15), True, True, True, True, False),
    ],
)
def test_integrated_gpus_and_vulkan(
    release: tuple[int, int, int],
    drops: bool,
    gfx1151: bool,
    vulkan: bool,
    by_default: bool,
    available_memory: bool,
) -> None:
    rules = gpu_rules(release)
    assert (rules.drops_integrated, "gfx1151" in rules.integrated_targets) == (drops, gfx1151)
    assert rules.dropped_targets == ({"gfx1151"} if release == (0, 30, 0) else set())
    assert (rules.has_vulkan, rules.vulkan_by_default) == (vulkan, by_default)
    assert rules.rocm_counts_available_memory is available_memory
