# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A benchmark says how far it is, and what there is of it when it ends early says so."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.ollama.plugins.filter.benchmark_progress import FilterModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._progress import partial, progress

STEPS = [{"parallel": parallel, "models": ["m", "n"]} for parallel in (1, 2, 4)]


def measured(parallel, *rates):
    levels = [[{"tokens_per_second": 1.0}, {"tokens_per_second": rate}] for rate in rates]
    return {"parallel": parallel, "models": [{"levels": one} for one in levels]}


@pytest.mark.parametrize(
    ("done", "seconds", "line"),
    [
        ([], 0, "1 at once, m, n; 0 of 3 done"),
        (
            [measured(1, 40.04, 20.0)],
            30,
            "2 at once, m, n; 1 of 3 done, about 1 min to go; tokens/s so far 1: 40.0/20.0",
        ),
        (
            [measured(1, 99.9, 100.4), measured(2)],
            90,
            "4 at once, m, n; 2 of 3 done, about 45 s to go; tokens/s so far 1: 99.9/100, 2: none",
        ),
        (
            [measured(1, None)],
            5400,
            "2 at once, m, n; 1 of 3 done, about 3.0 h to go; tokens/s so far 1: none",
        ),
    ],
)
def test_the_line_before_a_step(done, seconds, line):
    assert progress(STEPS, done, seconds) == line
    assert FilterModule().filters()["benchmark_progress"](done, STEPS, "100.5", str(100.5 + seconds)) == line


@pytest.mark.parametrize(("seconds", "told"), [(29.9, "60 s"), (30.1, "1 min"), (2690, "90 min"), (2705, "1.5 h")])
def test_what_is_to_go_is_told_in_a_fitting_unit(seconds, told):
    assert f"about {told} to go" in progress(STEPS, [measured(1, 1.0)], seconds)


@pytest.mark.parametrize("done", [[{}], [measured(1)] * 3, 1])
def test_what_is_no_benchmark_is_refused(done):
    with pytest.raises(AnsibleFilterError, match="benchmark_progress takes measurements"):
        FilterModule().filters()["benchmark_progress"](done, STEPS, 1, 2)


def test_a_result_of_some_steps_says_what_is_missing_first():
    told = partial({"knee": 1, "warnings": ["hot"]}, STEPS, 1)
    assert "ended early: 1 of 3 values were measured, not those for 2, 4 at once" in told["warnings"][0]
    assert (told["warnings"][1:], told["knee"]) == (["hot"], 1)
    assert partial({"warnings": []}, STEPS, 3) == {"warnings": []}
