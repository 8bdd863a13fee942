# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe is started for a list of points, and for the rest of it after each that the engine aborts on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Program = Callable[[str], ModuleType]

# Answers as the probe does; a context of 13 aborts, one of 7 is refused, a model called broken.gguf is not loaded.
PROBE = """#!{python}
import json, os, sys
tell = lambda **line: print(json.dumps(line), flush=True)
if sys.argv[2].endswith("broken.gguf"):
    tell(loaded=False, log="llama_model_load: error loading model: unknown model architecture: 'x'\\nsomething else\\n")
    sys.exit(3)
tell(loaded=True, log="", pid=os.getpid())
for line in sys.stdin:
    context = int(line.split()[0])
    if context == 13:
        sys.stderr.write("GGML_ASSERT(graph is small) failed\\n")
        os.abort()
    tell(started=context != 7, log="made %d\\n" % context if context != 7 else "requires Flash Attention\\n", code=0)
    if context != 7:
        tell(ended=[], log="ended %d\\n" % context)
"""


@pytest.fixture
def run_points(program: Program, tmp_path: Path) -> Callable[..., Any]:
    stand_in = tmp_path / "probe"
    stand_in.write_text(PROBE.format(python=sys.executable))
    stand_in.chmod(0o755)
    engine = program("package").Engine("0.0.0", "b1", tmp_path, stand_in)

    def run(*contexts: int, model: str = "model.gguf") -> Any:
        points = [program("probe").Point(context, 1) for context in contexts]
        return program("probe").run_points(engine, tmp_path / model, points, {})

    return run


@pytest.mark.parametrize(
    ("contexts", "statuses"),
    [
        ((1, 2), ["ok", "ok"]),
        ((1, 13, 2), ["ok", "crash", "ok"]),
        ((13, 13, 2), ["crash", "crash", "ok"]),
        ((1, 13), ["ok", "crash"]),
        ((7, 1), ["fail", "ok"]),
        ((7, 13), ["fail", "crash"]),
    ],
)
def test_each_point_has_an_outcome(
    run_points: Callable[..., Any], contexts: tuple[int, ...], statuses: list[str]
) -> None:
    loaded, outcomes = run_points(*contexts)
    assert loaded.is_loaded
    assert [one.status for one in outcomes] == statuses


def test_an_outcome_has_the_log_until_its_context_has_ended(run_points: Callable[..., Any]) -> None:
    _unused, outcomes = run_points(5, 6)
    assert [one.log for one in outcomes] == ["made 5\nended 5\n", "made 6\nended 6\n"]


def test_refusals_and_aborts_say_why(run_points: Callable[..., Any]) -> None:
    _unused, (refused, aborted) = run_points(7, 13)
    assert refused.error == "requires Flash Attention"
    assert aborted.error == "status -6: GGML_ASSERT(graph is small) failed"


def test_a_model_that_is_not_loaded_has_no_outcomes(run_points: Callable[..., Any]) -> None:
    loaded, outcomes = run_points(1, 2, model="broken.gguf")
    assert (loaded.is_loaded, outcomes) == (False, [])
    assert loaded.error == "llama_model_load: error loading model: unknown model architecture: 'x'"


@pytest.mark.parametrize(
    ("total", "free", "capability", "text"),
    [
        (24576, None, "8.6", "24576/24576@8.6"),
        (24576.5, 20000, "12.0", "24576.5/20000@12.0"),
    ],
)
def test_a_device_is_described_as_the_machine_reads_it(
    program: Program, total: float, free: float | None, capability: str, text: str
) -> None:
    assert str(program("probe").Device(total, free, capability)) == text


def test_a_point_is_written_as_the_probe_reads_it(program: Program) -> None:
    point = program("probe").Point(4096, 3, 1024, "q8_0", "off", True, fill=4092, steps=4)
    assert str(point) == "4096 3 1024 q8_0 off 1 4092 4"


def test_a_sparse_model_has_its_size_and_takes_no_room(program: Program, tmp_path: Path) -> None:
    probe = program("probe")
    header = json.loads(probe.header_path("llama3.2:1b").read_text())
    path = probe.sparse_model(header, tmp_path / "model.gguf")
    assert path.stat().st_size >= header["file_bytes"]
    assert path.stat().st_blocks * 512 < path.stat().st_size / 20
