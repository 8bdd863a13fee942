# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether loaded models lie where a plan says."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._residence import (
    Files,
    Loaded,
    Planned,
    RunnerProcess,
    differences,
    files_of,
    loaded_model,
    runner_of,
)
from ansible_collections.gpufleet.ollama.tests.unit.data import CAPTURES

BLOB = "sha256-" + "a" * 64
GIB = 1 << 30


@pytest.mark.parametrize(
    ("command", "runner"),
    [
        (
            ["/x/llama-server", "--model", f"/m/blobs/{BLOB}", "-c", "16384", "-np", "4"],
            RunnerProcess(1, BLOB, 16384, 4),
        ),
        (
            ["ollama", "runner", "--model", f"/m/{BLOB}", "--ctx-size", "8192", "--parallel", "2"],
            RunnerProcess(1, BLOB, 8192, 2),
        ),
        (
            ["ollama", "runner", "--ollama-engine", f"--model=/m/{BLOB}", "--port", "1"],
            RunnerProcess(1, BLOB, None, None),
        ),
        (["llama-server", "-m", "other.gguf", "-c", "x"], RunnerProcess(1, None, None, None)),
        (["llama-server", "--model"], None),
        (["ollama", "serve"], None),
        ([], None),
    ],
)
def test_a_runner_is_read_from_its_command_line(command, runner):
    assert runner_of(1, command) == runner


def test_the_files_of_a_recorded_model():
    show = json.loads((CAPTURES / "base" / "show.json").read_text())
    assert files_of(show) == Files("sha256-a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818")


OTHER = "sha256-" + "b" * 64


@pytest.mark.parametrize(
    ("modelfile", "files"),
    [
        ("", None),
        ("FROM scratch\n# FROM " + BLOB, None),
        (f"# FROM x\n\nFROM /m/{BLOB}\nTEMPLATE x", Files(BLOB)),
        (f"FROM /m/{BLOB}\nFROM /m/{OTHER}", Files(BLOB, (("FROM", OTHER),))),
        (f"FROM /m/{BLOB}\nADAPTER /m/{OTHER}\n", Files(BLOB, (("ADAPTER", OTHER),))),
        (f'FROM /m/{BLOB}\nSYSTEM """\nADAPTER /m/{OTHER}\n"""', Files(BLOB)),
    ],
)
def test_a_modelfile_names_the_weights_and_what_lies_beside_them(modelfile, files):
    assert files_of({"modelfile": modelfile}) == files


def seen(**changes):
    entry = {"context_length": 4096, "size": 8 * GIB, "size_vram": 8 * GIB, **changes.pop("entry", {})}
    return loaded_model(
        "m", entry, RunnerProcess(5, BLOB, **{"total_context": 16384, "parallel": 4, **changes}), None
    )


def messages(plan, model):
    return [difference["message"] for difference in differences([plan], [model])]


PLAN = Planned("m", 4096, 4)


def test_a_model_that_is_as_planned_does_not_differ():
    assert messages(PLAN, seen()) == []
    assert seen().to_dict() == {
        "name": "m",
        "loaded": True,
        "context_length": 4096,
        "num_parallel": 4,
        "size_bytes": 8 * GIB,
        "size_vram_bytes": 8 * GIB,
        "pid": 5,
        "error": None,
    }


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (seen(entry={"context_length": 2048}), "m runs with context length 2048, planned 4096"),
        (seen(parallel=1, total_context=4096), "m runs with number of slots 1, planned 4"),
        (seen(total_context=4096), "m runs with context of all slots 4096, planned 16384"),
        (seen(entry={"size_vram": 6 * GIB}), "m lies partly on the CPU: 2048 of 8192 MiB"),
        (seen(entry={"size_vram": 0}), "m lies partly on the CPU: 8192 of 8192 MiB"),
        (Loaded("m", False), "m is not loaded: it was loaded and then evicted for another one"),
        (Loaded("m", False, error="out of memory"), "m is not loaded: out of memory"),
    ],
)
def test_each_difference_is_one_sentence(model, message):
    assert messages(PLAN, model) == [message]


def test_what_the_plan_leaves_open_is_not_compared():
    assert messages(Planned("m", placement="cpu"), seen(entry={"size_vram": 0})) == []
    assert (
        messages(PLAN, loaded_model("m", {"size": 1, "size_vram": 1, "context_length": True}, None, None))
        == []
    )


def test_every_model_is_looked_at():
    plans = [Planned("a"), Planned("b")]
    found = differences(plans, [Loaded("a", False), Loaded("b", False)])
    assert [difference["variable"] for difference in found] == ["a", "b"]
