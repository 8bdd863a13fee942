# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A what-if in a terminal."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._cards import cards_of
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._what_if import (
    Cell,
    Smallest,
    WhatIf,
    what_if,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._what_if_lines import what_if_lines
from ansible_collections.gpufleet.ollama.tests.unit.data import header


def found(gpu="2x RTX 3090", names=("qwen2.5:14b", "gemma3:4b"), **options):
    models = [{"name": name, "header": header(name)} for name in names]
    return what_if(cards=cards_of(gpu), models=models, **{"requests": 8, **options})


def test_the_example_of_the_documentation():
    lines = what_if_lines(found())
    text = "\n".join(lines)
    assert (
        "2 x NVIDIA GeForce RTX 3090 (23.6 GiB usable each): qwen2.5:14b, gemma3:4b; 8 requests at once for each"
        in text
    )
    assert "  OLLAMA_NUM_PARALLEL=8" in lines
    assert "  CONTEXT   x 1    x 2     x 4     x 8    x 16" in lines
    assert "evicts" in text
    assert "The smallest that would do for 8 requests of 4096 tokens for each model: 1 x NVIDIA" in text
    assert "  - qwen2.5:14b makes use of at most 32768 tokens, and takes no more memory beyond" in lines
    assert max(map(len, lines)) <= 110


def test_a_step_that_fits_in_one_order_of_loading_only_is_marked():
    lines = what_if_lines(found("RTX 3090", ("nomic-embed-text", "qwen2.5:14b"), requests=4))
    marked = [line for line in lines if "*" in line]
    assert marked[-1] == "  * only when they are loaded in one order"
    assert [line.split()[0] for line in marked[:-1]] == ["8192", "16384", "32768"]
    assert not [line for line in what_if_lines(found("L4", ("gemma3:1b",), requests=1)) if "*" in line]


def test_what_does_not_fit_is_said_in_place_of_a_plan():
    lines = what_if_lines(found("RTX 3060", ("qwen2.5:32b",), requests=1))
    assert "Planned: nothing" in lines
    assert not [line for line in lines if "OLLAMA_" in line]


def test_where_no_card_would_do():
    text = "\n".join(what_if_lines(replace(found("L4"), smallest=())))
    assert (
        "No card that is known would do for 8 requests of 4096 tokens for each model, not 4 of it either"
        in text
    )


def test_notes_on_models_and_warnings_of_the_plan_are_told_once():
    lines = what_if_lines(
        found("L4", ("gemma4:12b",), requests=1), ("gemma4:12b: without its image encoder",)
    )
    assert lines.count("  - gemma4:12b: without its image encoder") == 1
    assert sum("OLLAMA_KEEP_ALIVE=-1" in line for line in lines) == 1
    assert "1 request at once for each" in lines[0]


def test_all_that_is_known_is_shown():
    cells = (Cell(4096, 1, "fits", 3 << 30), Cell(4096, 2, "fits", 4 << 30, one_order=True), Cell(8192, 1, "tight"))
    known = WhatIf(
        gpus=("L4", "A2", "L4"),
        usable_bytes=(22 << 30, 15 << 30, 22 << 30),
        models=("a", "b"),
        trained={"a": 8191, "b": 8192, "c": 0},
        requests=2,
        context_length=4096,
        version="0.33.0",
        plan={
            "basis": "estimate",
            "order_matters": True,
            "load_order": ["b", "a"],
            "gpus": [{"planned_bytes": 3 << 30}, {"planned_bytes": 1 << 30}],
            "environment": {"OLLAMA_NUM_PARALLEL": "2"},
            "warnings": ["it is new"],
        },
        misfit="",
        alone=("1 request at once",),
        ladder=(*cells, Cell(8192, 2, "spills")),
        beyond="no more fits",
        smallest=(Smallest(1, "L4", 22 << 30), Smallest(2, "A2", 15 << 30)),
    )
    assert "\n".join(what_if_lines(known, ["a note"])) == """\
2 x L4 (22.0 GiB usable each), A2 (15.0 GiB usable): a, b; 2 requests at once for each (Ollama 0.33.0)

Without any setting
  - 1 request at once

Planned: safe when loaded as b, a, 4.0 GiB of GPU memory, by estimates
  OLLAMA_NUM_PARALLEL=2
  - no more fits

GPU memory in GiB of all models loaded together, by context (tokens for each request) and requests at once:
  CONTEXT    x 1     x 2
     4096    3.0    *4.0
     8192  tight  spills
  * only when they are loaded in one order

The smallest that would do for 2 requests of 4096 tokens for each model: 1 x L4 (22.0 GiB); or 2 x A2 (15.0
GiB each)

Mind
  - it is new
  - a makes use of at most 8191 tokens, and takes no more memory beyond
  - a note
  - It says what fits and stays, not how fast it is: measure one before you buy ten.
"""
    exact = replace(known, plan={**known.plan, "basis": "exact", "order_matters": False}, beyond="")
    lines = what_if_lines(exact)
    assert lines[lines.index("  OLLAMA_NUM_PARALLEL=2") - 1] == "Planned: safe, 4.0 GiB of GPU memory, by exact figures"
    assert lines[lines.index("  OLLAMA_NUM_PARALLEL=2") + 1] == ""
