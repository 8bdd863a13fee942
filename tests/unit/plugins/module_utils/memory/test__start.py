# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a launch the memory depends on."""

from __future__ import annotations

from dataclasses import fields

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._load_settings import (
    Backend,
    LoadSettings,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._parts import GpuMemory, ModelMemory
from ansible_collections.gpufleet.ollama.plugins.module_utils.memory._start import EngineLoad, Launch
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._engine_builds import parse_build

LAUNCH = {
    "context_length": 8192,
    "parallel": 3,
    "batch": 1024,
    "kv_cache_type": "q8_0",
    "flash_attention": "on",
    "num_gpu": -1,
    "fit": True,
    "fit_targets_bytes": (),
    "projector_on_gpu": False,
    "version": "0.33.0",
}


def test_a_launch_has_all_settings_of_a_load():
    settings = Launch(**LAUNCH).settings
    assert settings == LoadSettings(8192, 3, 1024, "q8_0", "on")
    assert {one.name for one in fields(LoadSettings)} <= {one.name for one in fields(Launch)}


def test_build_and_backend_are_part_of_them():
    build, backend = parse_build("b10970"), Backend(fuses=False)
    settings = Launch(**LAUNCH, build=build, backend=backend).settings
    assert (settings.build, settings.backend) == (build, backend)
    assert (Launch(**LAUNCH).build, Launch(**LAUNCH).backend) == (LoadSettings(1, 1).build, Backend())


def test_details_are_asked_for_unless_told_otherwise_and_no_launch_is_another_for_them():
    full, brief = Launch(**LAUNCH), Launch(**LAUNCH, details=False)
    assert (full.details, brief.details) == (True, False)
    assert full == brief
    assert hash(full) == hash(brief)
    assert full != Launch(**{**LAUNCH, "num_gpu": 3})


def test_what_was_used_is_a_figure_for_each_gpu():
    memory = ModelMemory((GpuMemory(weights_bytes=5), GpuMemory(), GpuMemory(compute_bytes=7)))
    assert EngineLoad(memory).used_bytes == (5, 0, 7)


def test_what_the_engine_refuses_is_refused():
    with pytest.raises(ValueError, match="kv_cache_type is q5_1"):
        _settings = Launch(**{**LAUNCH, "kv_cache_type": "q5_1"}).settings


def test_of_a_start_nothing_is_taken_for_granted():
    assert not any(vars(EngineLoad((), (), False)).values())
