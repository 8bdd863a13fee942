# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a plan looks in a terminal."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils._lines import LINE_CHARACTERS
from ansible_collections.gpufleet.ollama.plugins.module_utils._sizes import MIB
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning import _present
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._present import (
    fleet_lines,
    plan_lines,
)


def lines_of(planned):
    return plan_lines(planned.to_dict(), "gpu01")


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
    assert max(map(len, lines_of(plan([24, 24], [*wanted, "qwen2.5:32b"], wanted=wanted)))) <= LINE_CHARACTERS


def test_sentences_fill_the_lines(plan):
    """As many words as a line holds; the reason of a step goes on below itself."""
    shown = plan([24], ["gemma3:4b"]).to_dict()
    shown["reasons"] = ["aa" + " b" * 90]
    (limit, *_more) = shown["limits"]
    shown["limits"] = [{**limit, "reason": "ccc"}]
    begins = next(line.index("ccc") for line in plan_lines(shown, "gpu01") if "ccc" in line)
    fits = LINE_CHARACTERS - begins - 40
    shown["limits"] = [{**limit, "reason": " ".join(["c" * size, "d" * 39])} for size in (fits, fits + 1)]
    lines = plan_lines(shown, "gpu01")
    assert [len(line) for line in lines if line.lstrip(" -").startswith("aa ")] == [LINE_CHARACTERS - 1]
    steps = [line for line in lines if "ccc" in line or "ddd" in line]
    assert [len(line) for line in steps][:1] == [LINE_CHARACTERS]
    assert [line.split()[-1][0] for line in steps] == ["d", "c", "d"]


def test_a_fleet_has_a_line_for_each_host_by_name(plan):
    plans = {
        "gpu02": plan([24, 24], ["gemma3:4b"]).to_dict(),
        "gpu01": plan([12], ["phi4:14b"], num_parallel=8).to_dict(),
    }
    header, first, second = (line.split() for line in fleet_lines(plans)[:3])
    assert header[:4] == ["HOST", "GPUS", "MEMORY", "REQUESTS"]
    assert first[:4] + first[7:8] == ["gpu01", "1", "12.0", "8", "NO"]
    assert second[:4] + second[7:8] == ["gpu02", "2", "48.0", "4", "yes"]


def others(plan, used_mib):
    """The plan for a host on whose first GPU others hold so much."""
    told = json.loads(json.dumps(plan))
    told["gpus"][0]["others_bytes"] += used_mib << 20
    told["gpus"][0]["free_bytes"] -= used_mib << 20
    return told


def alike_hosts(plan, count=10):
    small, large = plan([12], ["gemma3:4b"]).to_dict(), plan([24], ["gemma3:4b"]).to_dict()
    hosts = {f"gpu{number:02}": others(small, 300 + number) for number in range(1, count + 1)}
    return {**hosts, "web": large}


def test_hosts_that_are_alike_share_a_line(plan):
    header, *lines = fleet_lines(alike_hosts(plan))
    assert header.startswith("HOST         GPUS")
    assert [line.split()[0] for line in lines] == ["gpu01-gpu10", "web"]


def test_in_detail_they_share_a_block_with_the_figures_of_the_tightest(plan):
    lines = fleet_lines(alike_hosts(plan), details=True)
    heads = [line for line in lines if "safe on the GPU" in line]
    assert [head.partition(":")[0] for head in heads] == ["gpu01-gpu10 (figures of gpu10, which has least left)", "web"]
    gpu = lines[next(number for number, line in enumerate(lines) if line.startswith("  GPU  NAME")) + 1].split()
    held = plan([12], ["gemma3:4b"]).gpus[0].others_bytes + (310 << 20)
    assert gpu[-4] == f"{held / 2**30:.1f}"
    assert lines.index(heads[1]) < next(number for number, line in enumerate(lines) if line.startswith("HOST"))


@pytest.mark.parametrize(
    "change",
    [
        {"environment": {"OLLAMA_NUM_PARALLEL": "9"}},
        {"safe": False},
        {"reasons": ["another one"]},
        {"warnings": ["hot"]},
        {"rules": "other rules"},
        {"difference": ["each request gets less"]},
    ],
)
def test_what_is_decided_otherwise_is_told_apart(plan, change):
    hosts = alike_hosts(plan, 3)
    hosts["gpu02"] = {**hosts["gpu02"], **change}
    names = [line.partition("  ")[0] for line in fleet_lines(hosts)[1:5]]
    assert names[:3] == ["gpu01, gpu03", "gpu02", "web"]


def test_a_sentence_that_differs_in_a_size_only_does_not_tell_hosts_apart(plan):
    hosts = alike_hosts(plan, 3)
    for number, host in enumerate(sorted(hosts)[:3]):
        hosts[host] = {**hosts[host], "reasons": [f"{number}.5 GiB are free"]}
    assert fleet_lines(hosts)[1].startswith("gpu01-gpu03 ")


def test_a_warning_is_said_once_with_all_that_it_is_about(plan):
    hosts = {name: {**one, "warnings": ["idle models are unloaded"]} for name, one in alike_hosts(plan).items()}
    hosts["web"]["warnings"].append("hot")
    lines = fleet_lines(hosts, details=True)
    assert lines[-3:] == ["Warnings", "  - gpu01-gpu10, web: idle models are unloaded", "  - web: hot"]
    assert sum("unloaded" in line for line in lines) == 1


def test_no_line_of_many_hosts_is_wider_than_a_terminal(plan):
    hosts = alike_hosts(plan, 30)
    for number, name in enumerate(sorted(hosts)):
        hosts[name] = {**hosts[name], "reasons": [f"reason {number}"], "warnings": ["hot " * 60]}
    assert max(map(len, fleet_lines(hosts, details=True))) <= LINE_CHARACTERS


def test_no_plan_is_said_too():
    assert fleet_lines({}) == ["no host has a plan"]


def test_of_what_loads_took_the_twelve_rows_are_shown_that_differ_most():
    seen = [
        {
            "model": f"m{number}", "kind": "compute", "gpu": 1, "when": "2026-11-28T02:00:00Z",
            "predicted_bytes": 64 * MIB, "seen_bytes": 64 * MIB + more, "difference_bytes": more,
        }
        for number, more in enumerate((-1) ** count * count * MIB for count in range(20))
    ]
    rows = _present._seen_rows({"seen": seen})
    assert rows[:2] == [
        ("LOADED", "BUFFER", "GPU", "FORETOLD MiB", "SEEN", "DIFFERENCE", "WHEN"),
        ("m19", "compute", "1", "64.0", "45.0", "-19.0", "2026-11-28T02:00:00Z"),
    ]
    assert [row[0] for row in rows[1:]] == [f"m{number}" for number in range(19, 7, -1)]
    assert _present._seen_rows({"seen": []}) == _present._seen_rows({}) == []
