# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a plan looks in a terminal."""

from __future__ import annotations

from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._present import (
    WIDTH,
    fleet_lines,
    plan_lines,
    table,
)


def lines_of(planned):
    return plan_lines(planned.to_dict(), "gpu01")


def test_a_table_is_as_wide_as_its_widest_cells():
    assert table([("NAME", "GiB"), ("a", "12.0"), ("long name", "3.0")], "lr") == [
        "NAME        GiB",
        "a          12.0",
        "long name   3.0",
    ]


def test_a_plan_starts_with_the_verdict_and_the_environment(plan):
    assert lines_of(plan([12], ["gemma3:4b"], max_context_length=4096))[:5] == [
        "gpu01: safe on the GPU, by exact figures (Ollama 0.33.0)",
        "  rules: llama.cpp b10488 (Ollama 0.33.0)",
        "  OLLAMA_CONTEXT_LENGTH=4096",
        "  OLLAMA_MAX_LOADED_MODELS=1",
        "  OLLAMA_NUM_PARALLEL=4",
    ]


def test_a_context_beyond_ollamas_own_and_what_slots_cost_of_it_stand_in_the_first_lines(plan):
    lines = lines_of(plan([12], ["gemma3:4b"]))
    assert lines[0].startswith("gpu01: safe on the GPU")
    assert " ".join(line.strip() for line in lines[1:6]).startswith(
        "What changes - each request gets 65536 tokens of context, by Ollama itself 4096: there is memory for it "
        "- slots or context: 1 x 131072 or 4 x 65536 is safe; OLLAMA_NUM_PARALLEL (ollama_plan_requests) decides"
    )


def test_a_plan_that_is_not_safe_says_so(plan):
    assert (
        lines_of(plan([12], ["phi4:14b"], num_parallel=8))[0] == "gpu01: NOT SAFE on the GPU (Ollama 0.33.0)"
    )


def test_an_order_that_matters_stands_in_the_verdict(plan):
    wanted = ["gemma3:4b", "llama3.1:8b"]
    planned = plan([24], wanted, wanted=wanted, context_length=16384)
    assert (
        lines_of(planned)[0]
        == "gpu01: safe in the order gemma3:4b, llama3.1:8b on the GPU, by exact figures (Ollama 0.33.0)"
    )


def test_a_divided_model_has_a_line_for_each_gpu(plan):
    lines = lines_of(plan([24, 24], ["gemma3:4b"], spread="always"))
    first = next(number for number, line in enumerate(lines) if line.startswith("  gemma3:4b"))
    assert lines[first].split()[4] == "0"
    assert lines[first + 1].split()[0] == "1"


def test_models_that_are_not_planned_for_are_left_out(plan):
    assert not any("qwen2.5:32b " in line for line in lines_of(plan([12], ["gemma3:4b", "qwen2.5:32b"]))[:12])


def test_a_host_without_gpu_shows_system_memory(plan):
    lines = lines_of(plan([], ["gemma3:4b"]))
    assert lines[0].startswith("gpu01: safe on the CPU")
    assert any(
        line.split()[:5] == ["gemma3:4b", "4", "4096", "1024", "CPU"] for line in lines if line.strip()
    )
    assert not any(line.startswith("  GPU  NAME") for line in lines)


def test_a_host_without_models_has_no_next_steps(plan):
    assert not any("NEXT STEP" in line for line in lines_of(plan([24], [])))


def test_lines_are_no_wider_than_a_terminal(plan):
    wanted = ["gemma3:4b", "llama3.1:8b", "gpt-oss:20b"]
    assert max(map(len, lines_of(plan([24, 24], [*wanted, "qwen2.5:32b"], wanted=wanted)))) <= WIDTH + 8


def test_sentences_fill_the_lines_up_to_110_characters(plan):
    """As many words as a line holds, which begins with four characters; the reason of a step ends 30 before that."""
    shown = plan([24], ["gemma3:4b"]).to_dict()
    shown["reasons"] = ["aa" + " b" * 90]
    shown["limits"] = [{**shown["limits"][0], "reason": " ".join(["c" * size, "d" * 39])} for size in (40, 41)]
    lines = plan_lines(shown, "gpu01")
    assert [len(line) for line in lines if line.lstrip(" -").startswith("aa ")] == [110]
    steps = [line for line in lines if " ccc" in line]
    assert [line.endswith("d" * 39) for line in steps] == [True, False]
    assert steps[1].endswith("c …")


def test_a_fleet_has_a_line_for_each_host_by_name(plan):
    plans = {
        "gpu02": plan([24, 24], ["gemma3:4b"]).to_dict(),
        "gpu01": plan([12], ["phi4:14b"], num_parallel=8).to_dict(),
    }
    header, first, second = (line.split() for line in fleet_lines(plans))
    assert header[:4] == ["HOST", "GPUS", "MEMORY", "REQUESTS"]
    assert first[:4] + first[7:8] == ["gpu01", "1", "12.0", "8", "NO"]
    assert second[:4] + second[7:8] == ["gpu02", "2", "48.0", "4", "yes"]
