# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stored result says to a plan; a result that is broken or old is ignored with a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._conditions import (
    Conditions,
    Gpu,
    of_any_such_host,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._measured import (
    FORMAT,
    measured_parallel,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = Conditions((Gpu("L4", "GPU-1"),), "570.1", "0.33.0", {"m": "sha256-aa"}, 4096, "f16")


def result(**change):
    return {
        "format": FORMAT,
        "measured_at": "2026-01-01T00:00:00Z",
        "knee": {"parallel": 3, "reason": "3 at once gave the most", "note": ""},
        "conditions": NOW.to_dict(),
        "correction": {"cuda_context_bytes": 400, "compute_excess_bytes": 20},
        **change,
    }


def test_a_result_that_holds_tells_its_knee_and_what_runners_take():
    found = measured_parallel(result(), NOW)
    assert (found.parallel, found.overhead_bytes) == (3, 420)
    assert found.sentence == "measured here at 2026-01-01T00:00:00Z: 3 at once gave the most"


def test_a_result_for_any_host_with_such_gpus_does_not_say_that_it_is_this_host_s():
    of_group = result(conditions=of_any_such_host(NOW).to_dict())
    found = measured_parallel(of_group, NOW)
    assert found.parallel == 3
    assert found.sentence.startswith("measured on such a host at 2026-01-01T00:00:00Z: ")


def test_what_the_benchmark_noted_against_its_own_value_is_told():
    noted = result(knee={"parallel": 3, "reason": "3 at once gave the most", "note": "measure more rounds"})
    assert measured_parallel(noted, NOW).doubt == "measure more rounds"
    assert measured_parallel(result(), NOW).doubt == ""


def test_a_result_without_correction_tells_no_overhead():
    assert measured_parallel(result(correction=None), NOW).overhead_bytes is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 99}, "has format 99, and this version of gpufleet.ollama reads 1; use the version that wrote it"),
        ({"format": 0}, "has format 0, this version reads 1: measure again"),
        ({"knee": {"parallel": None, "reason": "nothing worked"}}, "nothing worked"),
        ({"knee": {"parallel": 0, "reason": "zero"}}, "zero"),
        ({"knee": None}, "not in the form"),
        ({"conditions": {}}, "not in the form"),
        ({"correction": {"cuda_context_bytes": "much", "compute_excess_bytes": 0}}, "not in the form"),
        ({"correction": {"cuda_context_bytes": -5, "compute_excess_bytes": 0}}, "expected bytes"),
        ({"problem": "it cannot be read"}, "it cannot be read"),
    ],
)
def test_what_cannot_be_used_is_ignored_with_a_reason(change, said):
    found = measured_parallel(result(**change), NOW)
    assert found.parallel is None
    assert "ignored" in found.sentence
    assert said in found.sentence


def test_a_result_of_a_newer_form_is_said_to_be_one_whatever_else_it_holds():
    said = measured_parallel({"format": FORMAT + 1, "taken": "then"}, NOW).sentence
    assert f"it has format {FORMAT + 1}, and this version of gpufleet.ollama reads {FORMAT}" in said


def test_a_host_that_has_changed_is_told_everything_at_once():
    found = measured_parallel(result(), replace(NOW, ollama_version="0.34.0", driver_version="580.1"))
    assert found.parallel is None
    assert "0.34.0" in found.sentence
    assert "580.1" in found.sentence


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(result())), json)
def test_no_content_of_a_stored_file_stops_a_plan(key, value):
    found = measured_parallel(result(**{key: value}), NOW)
    assert found.parallel is None or found.parallel >= 1
    assert found.sentence
