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


GIB = 1 << 30


def share(index, total_gib):
    """Of one GPU: 4 GiB of weights, 2 of KV cache, and 1.875 besides."""
    parts = {"weights": 4, "kv_cache": 2, "compute": 1, "projector": 0.5, "projector_compute": 0.25, "cuda_context": 0.125}
    sizes = {f"{part}_bytes": int(size * GIB) for part, size in parts.items()}
    return {"index": index, "total_bytes": total_gib * GIB, **sizes}


def model(name, *shares, **changes):
    settings = {"planned": True, "context_length": 8192, "num_parallel": 4, "batch": 512, "evicted_by": ""}
    return {"name": name, **settings, "system_memory_bytes": 3 * GIB, "system_memory_layers": 0, "gpus": shares, **changes}


def gpu(index, others_gib):
    sizes = {"total": 24, "others": others_gib, "planned": 18, "free": 6 - others_gib, "engine_margin": 1, "headroom": 0.5}
    return {"index": index, "name": f"Card {index}", **{f"{what}_bytes": int(size * GIB) for what, size in sizes.items()}}


BY_HAND = {
    "environment": {"OLLAMA_NUM_PARALLEL": "4"},
    "safe": True,
    "basis": "exact",
    "placement": "gpu",
    "version": "0.33.0",
    "rules": "these",
    "num_parallel": 4,
    "max_loaded_models": 2,
    "context_length": 8192,
    "kv_cache_type": "q8_0",
    "load_order": ["a", "b"],
    "order_matters": False,
    "models": [
        model("e", planned=False),
        model("a", share(0, 9), share(1, 7)),
        model("b", share(1, 8), evicted_by="a"),
        model("c", share(0, 8), system_memory_layers=7),
        model("d"),
    ],
    "gpus": [gpu(0, 1), gpu(1, 2)],
    "limits": [
        {"step": "parallel", "value": 5, "possible": True, "cost_bytes": GIB, "reason": "so"},
        {"step": "context", "value": 16384, "possible": False, "cost_bytes": None, "reason": "why"},
    ],
    "reasons": ["because"],
    "warnings": ["hot", "cold"],
    "difference": ["more"],
    "today": {"sentences": ["less"]},
}


def test_a_plan_is_shown_whole():
    assert "\n".join(plan_lines(BY_HAND, "h")) == """\
  h today:
  - less

h: safe on the GPU, by exact figures (Ollama 0.33.0)
  What changes
  - more

  rules: these
  OLLAMA_NUM_PARALLEL=4

  MODEL  SLOTS  CONTEXT  BATCH              GPU  WEIGHTS   KV  OTHER  TOTAL GiB
  a          4     8192    512                0      4.0  2.0    1.9        9.0
                                              1      4.0  2.0    1.9        7.0
  b          4     8192    512  1 until evicted      4.0  2.0    1.9        8.0
  c          4     8192    512                0      4.0  2.0    1.9        8.0
                                  CPU, 7 layers                             3.0
  d          4     8192    512              CPU                             3.0

  GPU  NAME    TOTAL GiB  OTHERS  PLANNED  FREE  TO STAY FREE
  0    Card 0       24.0     1.0     18.0   5.0           1.5
  1    Card 1       24.0     2.0     18.0   4.0           1.5

  NEXT STEP      POSSIBLE  COST GiB
  parallel 5     yes            1.0  so
  context 16384  no               ?  why

  Why
  - because

  Warnings
  - hot
  - cold
"""


def test_a_fleet_is_shown_whole():
    unsafe = {**BY_HAND, "safe": False, "basis": "estimate", "order_matters": True}
    unsafe.update({"placement": "cpu", "gpus": [], "warnings": []})
    assert plan_lines(unsafe, "h")[3] == "h: NOT SAFE in the order a, b on the CPU, by estimates (Ollama 0.33.0)"
    assert fleet_lines({"h": BY_HAND, "i": BY_HAND, "j": unsafe}) == [
        "HOST  GPUS  MEMORY  REQUESTS  MODELS  CONTEXT  KV    SAFE  WARNINGS",
        "h, i     2    48.0         4       2     8192  q8_0  yes          2",
        "j        0     0.0         4       2     8192  q8_0  NO           0",
        "",
        "Warnings",
        "  - h, i: hot",
        "  - h, i: cold",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"models": [model("a", share(0, 9))]},
        {"models": [model("a", share(0, 9), num_parallel=3)]},
        {"kv_cache_type": "f16"},
        {"today": None},
        {"gpus": [gpu(0, 1)]},
    ],
)
def test_hosts_of_which_this_is_not_the_same_are_not_alike(change):
    assert len(fleet_lines({"h": BY_HAND, "i": {**BY_HAND, **change}})) == len(fleet_lines({"h": BY_HAND})) + 1


def test_what_no_plan_counts_on_tells_no_hosts_apart():
    others = [*BY_HAND["models"][1:], model("f", planned=False)]
    assert len(fleet_lines({"h": BY_HAND, "i": {**BY_HAND, "models": others}})) == len(fleet_lines({"h": BY_HAND}))
