# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in logs what the recorded servers log of loads, in their order and their words."""

from __future__ import annotations

import json
import re

from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._server_log import read_server_log
from ansible_collections.gpufleet.ollama.tests.unit.data import CAPTURES, DATA

from ..conftest import Start
from .test_loading import LLAMA, MODEL

# What is read of a load, in the order of a recorded one.
TOLD = (
    'msg="starting llama-server"',
    'msg="system memory"',
    "common_params_print_info: build 10488",
    "constructing llama_context",
    "compute buffer size",
    "srv  llama_server: model loaded",
    'msg="template selection"',
    'msg="loaded runners"',
)


def order(log: str) -> list[str]:
    lines = log.split("\n")
    found = [next((number for number, line in enumerate(lines) if told in line), -1) for told in TOLD]
    assert -1 not in found
    return [told for _number, told in sorted(zip(found, TOLD))]


def test_a_load_is_logged_in_the_recorded_order(start: Start) -> None:
    server = start(gpus_gib=())
    server.ask("POST", "/api/generate", {"model": MODEL})
    assert order(server.log) == order((CAPTURES / "np3_ctx4096_nodebug" / "server.log").read_text())


def test_lines_of_gpus_have_the_fields_of_recorded_ones(start: Start) -> None:
    server = start(gpus_gib=(12,))
    server.ask("POST", "/api/generate", {"model": MODEL})
    scenario = json.loads((DATA / "ollama_scheduler.jsonl").read_text().split("\n")[0])
    recorded = [*scenario["discovery"], *scenario["steps"][0]["observed"]["sched"]]
    for message in ("inference compute", "gpu memory"):
        (line,) = (line for line in server.log.split("\n") if f'msg="{message}"' in line)
        (other,) = (line for line in recorded if f'msg="{message}"' in line)
        assert re.findall(r"(\w+)=", line)[1:] == re.findall(r"(\w+)=", other)


def test_what_it_logs_is_what_it_did(start: Start) -> None:
    server = start(gpus_gib=(8,), OLLAMA_CONTEXT_LENGTH="4096", OLLAMA_MAX_LOADED_MODELS="1")
    for model in (LLAMA, MODEL, LLAMA, MODEL):
        server.ask("POST", "/api/generate", {"model": model})
    log = read_server_log(server.log.split("\n"))
    assert {model.name: (model.loads, model.evicted) for model in log.models} == {
        LLAMA: (2, 2),
        f"{MODEL}:latest": (2, 1),
    }
    assert "max runners achieved" not in server.log


def test_a_server_that_drops_its_gpus_says_why(start: Start) -> None:
    server = start(gpus_gib=(8,), config={"faults": [{"action": "drops_gpus"}]})
    log = read_server_log(server.log.split("\n"))
    assert [device.library for device in log.devices or ()] == ["cpu"]
    assert "NVIDIA driver too old" in log.drops[0]
