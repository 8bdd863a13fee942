# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of a host for a placement: as little as decides, and no secret."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.placement._reading import placement_inputs
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import ARGUMENT_SPEC

DEFAULTS = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
READ = {
    "ansible_facts": {"gpufleet_gpu": {"devices": [{"index": 0}]}},
    "models": {
        "models": [{"name": "a:latest"}, {"name": "b:1"}],
        "unplannable": [{"name": "c:1", "reason": "cut off"}],
        "loaded": [{"name": "b:1"}],
        "version": "0.33.0",
    },
    "service": {"process_environment": {"OLLAMA_NUM_PARALLEL": "2"}, "notes": ["long"]},
}


def test_of_a_host_that_was_read_only_the_wanted_models_are_kept() -> None:
    kept = placement_inputs({**DEFAULTS, "wanted": ["A", {"name": "c:1"}], "requests": 7}, READ)
    assert json.loads(json.dumps(kept)) == kept
    assert [model["name"] for model in kept["models"]] == ["a:latest"]
    assert [model["name"] for model in kept["unplannable"]] == ["c:1"]
    assert kept["installed"] == ["a:latest", "b:1"]
    assert kept["loaded"] == [{"name": "b:1"}]
    assert kept["service"] == {"process_environment": {"OLLAMA_NUM_PARALLEL": "2"}}
    assert (kept["version"], kept["policy"]["requests"], kept["is_read"]) == ("0.33.0", 7, True)


def test_a_described_host_has_nothing_installed_and_was_not_read() -> None:
    gpu = {"devices": [{"memory_total_bytes": 1}]}
    kept = placement_inputs({**DEFAULTS, "gpu": gpu, "models": [{"name": "a:1"}], "wanted": ["a:1"]}, {})
    assert (kept["gpu"], kept["installed"], kept["is_read"]) == (gpu, [], False)
    assert kept["models"] == [{"name": "a:1"}]


def test_no_secret_is_kept() -> None:
    kept = placement_inputs({**DEFAULTS, "operator_environment": {"HF_TOKEN": "hunter2"}}, READ)
    assert "hunter2" not in json.dumps(kept)


def test_what_could_not_be_read_is_the_reason_for_which_the_host_takes_no_part() -> None:
    with pytest.raises(ValueError, match="no driver; no server"):
        placement_inputs(DEFAULTS, {**READ, "failures": ["no driver", "no server"]})
