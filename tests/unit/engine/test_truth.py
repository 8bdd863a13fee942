# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the gate says of figures: which are worse than claimed, which rows differ, and when a silent registry fails it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Program = Callable[[str], ModuleType]


def figures(**worse: Any) -> dict[str, Any]:
    """What accuracy.py --json gives where all is well, with some of it worse."""
    names = ("kv_max_error_pct", "weights_max_error_pct", "total_p99_error_pct")
    several = ("layers_wrong", "kv_max_error_pct", "weights_max_error_pct", "device_total_p99_error_pct")
    return {
        "all": {**dict.fromkeys(names, 0.0), **worse.pop("one_gpu", {})},
        "refusals": {"missed": [], "wrong": [], **worse.pop("refusals", {})},
        "several_gpus": {"all": {**dict.fromkeys(several, 0), **worse.pop("several", {})}},
    }


def test_figures_within_what_is_claimed_are_no_complaint(program: Program) -> None:
    truth = program("truth")
    within = {"total_p99_error_pct": truth.MOST_P99_PERCENT}
    assert truth.complaints(figures(one_gpu=within)) == []
    assert truth.complaints(figures(several={"device_total_p99_error_pct": truth.MOST_P99_PERCENT})) == []
    rounded = dict.fromkeys(("kv_max_error_pct", "weights_max_error_pct"), 0.0004)
    assert truth.complaints(figures(one_gpu=rounded, several=rounded)) == []
    assert (truth.MOST_P99_PERCENT, truth.MOST_UNDER_PERCENT, truth.MOST_UNDER_MIB) == (0.5, 1.0, 16.0)


@pytest.mark.parametrize(
    ("worse", "complaint"),
    [
        ({"one_gpu": {"kv_max_error_pct": 0.001}}, "cache: up to 0.0010 % off, claimed is none"),
        ({"one_gpu": {"weights_max_error_pct": 2.0}}, "weights: up to 2.0000 % off, claimed is none"),
        ({"one_gpu": {"total_p99_error_pct": 0.51}}, "total: p99 0.51 % off, claimed are 0.5 %"),
        ({"refusals": {"missed": ["phi4"]}}, "not refused: phi4"),
        ({"refusals": {"wrong": ["phi4"]}}, "wrongly refused: phi4"),
        ({"several": {"layers_wrong": 3}}, "several GPUs: 3 devices with other layers"),
        ({"several": {"kv_max_error_pct": 0.1}}, "several GPUs: cache: up to 0.1000 % off, claimed is none"),
        (
            {"several": {"device_total_p99_error_pct": 0.6}},
            "several GPUs: p99 0.60 % of a device's total off, claimed are 0.5 %",
        ),
    ],
)
def test_a_figure_that_is_worse_than_claimed_is_named(
    program: Program, worse: dict[str, Any], complaint: str
) -> None:
    assert program("truth").complaints(figures(**worse)) == [complaint]


@pytest.mark.parametrize(
    ("predicted", "measured", "is_too_low"),
    [
        (1000.0, 1016.0, False),
        (1000.0, 1016.1, True),
        (9900.0, 10000.0, False),
        (9899.0, 10000.0, True),
        (2000.0, 1000.0, False),
    ],
)
def test_too_low_is_below_by_more_than_the_larger_of_a_percent_and_16_mib(
    program: Program, predicted: float, measured: float, is_too_low: bool
) -> None:
    assert program("truth").Difference({}, predicted, measured).is_too_low is is_too_low


def table_row(model: str, total_mib: float, **more: Any) -> dict[str, Any]:
    return {
        "model": model, "ctx": 4096, "parallel": 3, "kv_type": "f16", "fa": "auto", "ubatch": 512, "status": "ok",
        "total_gpu_mib": total_mib, **more,
    }  # fmt: skip


def test_rows_that_differ_are_counted_by_model_and_the_lowest_is_shown(program: Program) -> None:
    truth = program("truth")
    percent = {"same": 0.0, "low": -1.0, "lower": -2.0, "high": 1.0}
    table = [table_row("a:1b", 1000.0, error=name) for name in percent]
    table += [table_row("b:1b", 1000.0, error="high"), table_row("b:1b", 0, status="fail", error="low")]
    found = truth.differences(table, lambda row: [percent[row["error"]]], "total_gpu_mib")
    assert truth.describe(found) == [
        "a:1b: 3 differ, e.g. 4096 x 3 f16 auto U 512: predicted 980.0, measured 1000.0 MiB (-20.0)",
        "b:1b: 1 differ, e.g. 4096 x 3 f16 auto U 512: predicted 1010.0, measured 1000.0 MiB (+10.0)",
    ]


def test_a_row_of_several_gpus_names_the_device(program: Program) -> None:
    row = table_row("a:1b", 0, device=1, gpu_mem_gib="24+12")
    assert "U 512 GPU 1 of 24+12: predicted" in str(program("truth").Difference(row, 1.0, 2.0))


def test_models_that_a_build_does_not_load_are_named_and_left_out(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = program("measure").Tables(
        [table_row("a:1b", 1.0), table_row("new:1b", 0, status="load", error="unknown architecture")],
        [[table_row("a:1b", 1.0)], [table_row("new:1b", 0, status="load")]],
    )
    one_gpu, several = program("truth").loaded_only(tables)
    assert [row["model"] for row in one_gpu] == ["a:1b"]
    assert [run[0]["model"] for run in several] == ["a:1b"]
    assert "not loaded by this build: new:1b (unknown architecture)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("outcome", "in_ci", "status"),
    [
        ([], "", 0),
        ([], "true", 0),
        (["worse"], "", 1),
        ("Unreachable", "", 0),
        ("Unreachable", "true", 1),
        ("EngineError", "", "no compiler"),
    ],
)
def test_a_registry_that_does_not_answer_fails_the_gate_in_ci_only(
    program: Program, monkeypatch: pytest.MonkeyPatch, outcome: Any, in_ci: str, status: Any
) -> None:
    truth, package = program("truth"), program("package")

    def judge(*_: Any) -> Sequence[str]:
        if isinstance(outcome, str):
            raise getattr(package, outcome)("no compiler")
        return list(outcome)

    monkeypatch.setattr(truth, "judge", judge)
    monkeypatch.setattr("sys.argv", ["truth.py"])
    monkeypatch.setenv("CI", in_ci)
    with pytest.raises(SystemExit) as ended:
        truth.main()
    assert ended.value.code == status


@pytest.mark.parametrize(
    ("options", "versions"),
    [
        ([], [""]),
        (["--engine", "3.20.0"], ["3.20.0"]),
        (["--engine", "b10630"], ["b10630"]),
        (["--engine", "all"], ["3.20.0", "b10630", "rows of b10760", "3.22.1", "rows of b11434"]),
        (["--newest-known"], ["3.22.1"]),
    ],
)
def test_which_versions_are_measured(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], versions: list[str]
) -> None:
    truth = program("truth")
    measured: list[str] = []
    monkeypatch.setattr(truth, "judge", lambda version, *_: measured.append(version) or [])
    monkeypatch.setattr(truth, "judge_stored", lambda release, _into: measured.append(f"rows of {release}") or [])
    claimed = {"b10361": "3.20.0", "b10630": "b10630", "b10760": "", "v0.5.0": "3.22.1", "b11434": ""}
    monkeypatch.setattr(truth, "claimed", lambda: claimed)
    monkeypatch.setattr("sys.argv", ["truth.py", *options])
    with pytest.raises(SystemExit):
        truth.main()
    assert measured == versions


def test_each_claimed_build_is_measured_by_npm_or_made_here_or_has_rows_that_are_kept(program: Program) -> None:
    truth = program("truth")
    assert truth.claimed() == {
        "b10068": "3.19.1",
        "b10361": "3.20.0",
        "b10488": "b10488",
        "b10630": "b10630",
        "b10760": "",
        "b10865": "b10865",
        "v0.4.0": "3.21.1",
        "b10970": "b10970",
        "v0.5.0": "3.22.1",
        "b11434": "",
    }
    for release, version in truth.claimed().items():
        assert version or (truth.STORED / f"engine_memory_multi_gpu-{release}.csv").exists()


def test_rows_that_are_kept_are_judged_like_measured_ones(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    truth = program("truth")
    commands: list[list[str]] = []

    def accuracy(command: Sequence[Any]) -> str:
        commands.append([str(part) for part in command])
        found = figures(one_gpu={"total_p99_error_pct": 0.6})
        (tmp_path / "b11434" / "accuracy.json").write_text(json.dumps(found))
        return "a table\nthe line"

    monkeypatch.setattr(truth.package, "run", accuracy)
    assert truth.judge_stored("b11434", tmp_path) == ["b11434 total: p99 0.60 % off, claimed are 0.5 %"]
    (command,) = commands
    assert command[command.index("--engine") + 1] == "b11434"
    assert command[command.index("--multi-gpu") + 1].endswith("tests/data/newer/engine_memory_multi_gpu-b11434.csv")
    assert [Path(folder).name for folder in command[command.index("--headers") + 1 :][:2]] == ["headers", "headers"]
