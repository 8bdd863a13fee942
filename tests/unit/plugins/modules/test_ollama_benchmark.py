# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's modules: options that make no sense, bounds, check mode, and the file that is kept."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.ollama.plugins.modules import ollama_benchmark, ollama_benchmark_result


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parallel": 0}, "parallel is 0, expected at least 1"),
        ({"rounds": 0}, "rounds is 0"),
        ({"max_seconds": 0}, "max_seconds is 0, expected seconds above 0"),
        ({"prompt_lengths": []}, "prompt_lengths is [], expected whole numbers above 0"),
        ({"output_lengths": [-1]}, "output_lengths is [-1]"),
        ({"concurrency": [0]}, "concurrency is [0]"),
        ({"warm_up_requests": -1}, "warm_up_requests is -1"),
        ({"models": []}, "models is empty"),
        ({"max_requests": 10}, "needs 37 requests, above max_requests 10"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(run_module, options, said):
    result = run_module(ollama_benchmark, **{"models": ["m"], "parallel": 2, **options})
    assert result["failed"]
    assert said in result["msg"]


def test_check_mode_sends_nothing_and_says_how_much_it_would(run_module):
    result = run_module(
        ollama_benchmark,
        models=["m", "n"],
        parallel=2,
        rounds=1,
        requests_per_client=3,
        _ansible_check_mode=True,
    )
    # For each model one to warm up, then 3 by one client and 3 by each of two.
    assert (result["changed"], result["models"], result["requests"]) == (False, [], 2 * (1 + 3 + 6))


class TestResult:
    @pytest.fixture
    def keep(self, run_module, tmp_path, monkeypatch):
        monkeypatch.setattr(
            ollama_benchmark_result, "state_directory", lambda _scope, unit: str(tmp_path / unit)
        )
        return lambda **options: run_module(ollama_benchmark_result, **options)

    def test_nothing_is_kept_at_first(self, keep):
        found = keep()
        assert (found["changed"], found["result"], found["problem"]) == (False, {}, "")

    def test_what_is_kept_is_read_again_and_keeping_it_again_changes_nothing(self, keep):
        assert keep(result={"format": 1})["changed"]
        assert keep()["result"] == {"format": 1}
        assert not keep(result={"format": 1})["changed"]
        assert keep(result={"format": 2})["result"] == {"format": 2}

    def test_check_mode_keeps_nothing(self, keep):
        assert keep(result={"format": 1}, _ansible_check_mode=True)["changed"]
        assert keep()["result"] == {}

    def test_removed_is_gone(self, keep):
        keep(result={"format": 1})
        assert keep(state="absent")["changed"]
        assert not keep(state="absent")["changed"]
        assert keep()["result"] == {}

    def test_a_damaged_file_is_a_problem_and_can_be_replaced(self, keep):
        path = keep(result={"format": 1})["path"]
        with open(path, "w", encoding="utf-8") as stream:
            stream.write("{")
        found = keep()
        assert (found["changed"], found["result"]) == (False, {})
        assert "holds no JSON mapping" in found["problem"]
        assert keep(result={"format": 1})["changed"]
        assert keep()["problem"] == ""

    def test_a_unit_that_is_a_path_is_refused(self, keep):
        assert "is not the name of a systemd service" in keep(unit="../x.service")["msg"]
