# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules a version of Ollama follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.versions._releases import (
    CPU_EVICTION_BUG,
    RENUMBERED_DEVICE_BUG,
    Era,
    rules,
)
from hypothesis import given
from hypothesis import strategies as st

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "era"),
    [
        ("0.10.0", Era.FORMULA),
        ("0.11.10", Era.FORMULA),
        ("0.11.11-rc0", Era.GO_ENGINE),
        ("0.11.11", Era.GO_ENGINE),
        ("0.24.5", Era.GO_ENGINE),
        ("0.30.0-rc1", Era.LLAMA_SERVER),
        ("0.33.0-rc2", Era.LLAMA_SERVER),
        ("1.0.0", Era.LLAMA_SERVER),
    ],
)
def test_the_era_of_a_version(text: str, era: Era) -> None:
    assert rules(text).era is era


@pytest.mark.parametrize("text", ["0.9.6", "0.0.1", "0.1.32"])
def test_versions_before_0_10_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^Ollama {text} cannot be planned: .*0\.10\.0; upgrade it\.$"):
        rules(text)


def test_a_version_newer_than_the_newest_known_gets_its_rules_and_a_warning() -> None:
    newer, newest = rules("0.34.0"), rules("0.33.7")
    assert newest.warnings == ()
    assert len(newer.warnings) == 1
    assert "0.34.0 is newer than 0.33" in newer.warnings[0]
    same = {"version": newest.version, "engine_build": newest.engine_build, "warnings": ()}
    assert replace(newer, **same) == newest


@pytest.mark.parametrize(
    ("family", "first", "before"),
    [
        ("mllama", "0.10.0", None),
        ("qwen3vl", "0.12.7", "0.12.6"),
        ("qwen3vlmoe", "0.12.7", "0.12.6"),
        ("qwen3next", "0.15.5", "0.15.4"),
        ("lfm2", "0.15.5", "0.15.4"),
        ("lfm2moe", "0.15.5", "0.15.4"),
        ("qwen35", "0.17.1", "0.17.0"),
        ("qwen35moe", "0.17.1", "0.17.0"),
        ("nemotron_h", "0.17.1", "0.17.0"),
        ("nemotron_h_moe", "0.17.1", "0.17.0"),
        ("nemotron_h_omni", "0.22.0", "0.21.9"),
    ],
)
def test_families_run_with_one_slot_from_the_release_that_names_them(
    family: str, first: str, before: str | None
) -> None:
    assert rules(first).forces_single_slot(family)
    assert before is None or not rules(before).forces_single_slot(family)


def test_other_families_keep_their_slots() -> None:
    assert not rules("0.33.0").forces_single_slot("llama")
    assert not rules("0.33.0").forces_single_slot("")


@pytest.mark.parametrize(
    ("text", "gib", "context_length"),
    [
        ("0.15.4", 80, 4096),
        ("0.15.5", 22.9, 4096),
        ("0.15.5", 23, 32768),
        ("0.33.0", 46.9, 32768),
        ("0.33.0", 47, 262144),
        ("0.33.0", 0, 4096),
    ],
)
def test_the_default_context_depends_on_gpu_memory_from_0_15_5(
    text: str, gib: float, context_length: int
) -> None:
    assert rules(text).default_context_length(int(gib * GIB)) == context_length


def test_the_renumbered_device_bug_is_known_since_models_run_in_llama_server() -> None:
    assert rules("0.33.0-rc2").has_bug(RENUMBERED_DEVICE_BUG)
    assert not rules("0.24.0").has_bug(RENUMBERED_DEVICE_BUG)


# Sources: ollama issues 16496 and 16419, pull request 16568; llm/llama_server.go of the releases around each change.
@pytest.mark.parametrize(
    ("version", "above_gib", "on_integrated", "pads"),
    [
        ("0.24.0", 0, True, True),
        ("0.30.0", 10, False, False),
        ("0.30.10", 10, False, False),
        ("0.30.11", 0, False, False),
        ("0.31.1", 0, False, False),
        ("0.31.2", 0, True, True),
        ("0.33.0", 0, True, True),
    ],
)
def test_which_gpus_take_a_projector_changed_twice(version, above_gib, on_integrated, pads):
    placement = rules(version).placement
    assert placement.projector_above_bytes == above_gib << 30
    assert (placement.projector_on_integrated, placement.projector_pads_fit) == (on_integrated, pads)


@pytest.mark.parametrize(
    ("version", "has_it"), [("0.12.6", False), ("0.12.7", True), ("0.13.0", True), ("0.13.1", False), ("0.33.0", False)]
)
def test_models_evict_each_other_without_a_gpu_in_some_releases(version, has_it):
    assert rules(version).has_bug(CPU_EVICTION_BUG) is has_it


@given(st.tuples(*[st.integers(0, 99)] * 3))
def test_every_version_is_either_refused_or_has_rules(numbers: tuple[int, int, int]) -> None:
    text = ".".join(str(number) for number in numbers)
    if numbers < (0, 10, 0):
        with pytest.raises(ValueError, match="cannot be planned"):
            rules(text)
    else:
        assert rules(text).version.release == numbers
        assert len(rules(text).warnings) == (numbers[:2] > (0, 33))
