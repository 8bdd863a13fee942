# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report is made of what the roles have left in each host's variables, and written on the control node."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.ollama.plugins.action import fleet_report as fleet_report_action
from ansible_collections.gpufleet.ollama.plugins.action.fleet_report import (
    MOST_OF_A_HISTORY_BYTES,
    ActionModule,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.report import _known
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._history import MOST_LINES, StateChange
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._known import BEGUN, LOST, NOTHING_KNOWN
from ansible_collections.gpufleet.ollama.plugins.module_utils.report._report import fleet_report
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._fleet_pages import placed
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._html_page import fill_page
from ansible_collections.gpufleet.ollama.tests.report.exposition import read_metrics
from ansible_collections.gpufleet.ollama.tests.report.fleet import fleet
from ansible_collections.gpufleet.ollama.tests.unit.data import CHECKOUT

VERIFIED = {"differences": [], "conflicts": [], "problems": [], "overrides": []}
DIFFERENCE = {"layer": "process", "variable": "A", "found": "1", "wanted": "2", "message": "m", "cause": ""}
DRIFTED = {**VERIFIED, "differences": [DIFFERENCE]}
FACTS = {"gpufleet_gpu": {"devices": [{"index": 0, "memory_total_bytes": 24, "memory_free_bytes": 4}]}}
TEMPLATE = "<title>{{ title }}</title>{{ link }} {% for host in report.hosts %}{{ host.name }}{% endfor %}"

Write = Callable[..., dict[str, Any]]
Report = Callable[[dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "report"


@pytest.fixture
def write(action_of: Callable[..., ActionModule], tmp_path: Path, folder: Path) -> Write:
    """`write(hostvars, option=value, ...)` gives the result of the action."""

    def run(hostvars: dict[str, Any], limit: str = "", **options: Any) -> dict[str, Any]:
        template = tmp_path / "page.j2"
        template.write_text(TEMPLATE, encoding="utf-8")
        wanted = {"hosts": list(hostvars), "dir": str(folder), "template": str(template), **options}
        return action_of(ActionModule, "fleet_report", wanted).run(
            task_vars={"hostvars": hostvars, "ansible_limit": limit}
        )

    return run


@pytest.fixture
def report(write: Write, folder: Path) -> Report:
    """`report(hostvars)` gives the hosts in the report's JSON."""

    def hosts(hostvars: dict[str, Any]) -> list[dict[str, Any]]:
        assert not write(hostvars).get("failed")
        described: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())["hosts"]
        return described

    return hosts


@pytest.mark.parametrize(
    ("known", "state", "problem"),
    [
        ({"ollama_verify_result": VERIFIED}, "in sync", ""),
        ({"ollama_report_failure": "no model"}, "failed", "no model"),
        ({"ollama_report_unreachable": "timed out"}, "unreachable", "timed out"),
        ({}, "failed", NOTHING_KNOWN),
        ({"ollama_verify_result": {"failed": True, "msg": "no systemd"}}, "failed", "no systemd"),
        (
            {"ollama_verify_result": {"unreachable": True, "msg": "Task failed: timed out"}},
            "unreachable",
            "timed out",
        ),
        ({"ollama_verify_result": {"failed": True, "msg": "x"}, "ollama_report_failure": "y"}, "failed", "y"),
        ({"ollama_plan_result": {"compared": VERIFIED}}, "in sync", ""),
        ({"ollama_plan_result": {"compared": {"failed": True, "msg": "no systemd"}}}, "failed", "no systemd"),
        ({"ollama_plan_result": {"compared": {"unreachable": True, "msg": "lost"}}}, "unreachable", "lost"),
        ({"ollama_plan_result": {"compared": DRIFTED}, "ollama_verify_result": {}}, "drifted", ""),
        ({"ollama_plan_result": {"compared": DRIFTED}, "ollama_verify_result": VERIFIED}, "in sync", ""),
        ({"ollama_plan_result": {"refused": ["x", "y"]}}, "failed", "x; y"),
        ({"ollama_plan_result": {"refused": [], "compared": VERIFIED}}, "in sync", ""),
    ],
)
def test_a_host_is_in_the_state_that_its_facts_tell(
    report: Report, known: dict[str, Any], state: str, problem: str
) -> None:
    (host,) = report({"a": known})
    assert (host["name"], host["state"], host["problem"]) == ("a", state, problem)


def test_hosts_that_have_to_pull_are_told(write: Write) -> None:
    pulls = {"ollama_plan_result": {"pulls": {"models": [{"name": "m"}]}}, "ollama_verify_result": VERIFIED}
    assert write({"a": {"ollama_verify_result": VERIFIED}, "b": pulls})["to_pull"] == ["b"]
    assert write({"a": {"ollama_verify_result": VERIFIED}, "*": pulls})["to_pull"] == [r"~^\U0000002a\Z"]


def test_a_host_without_a_plan_shows_its_gpus(report: Report) -> None:
    (host,) = report({"a": {"ollama_report_failure": "no model", "ansible_facts": FACTS}})
    assert (host["gpus"][0]["others_bytes"], host["gpus"][0]["free_bytes"]) == (20, 4)


def test_gpus_that_a_failed_task_has_read_go_before_facts_of_another_run(report: Report) -> None:
    fresh = FACTS["gpufleet_gpu"]
    known = {"ollama_report_failure": "no model", "ollama_report_gpu": fresh}
    (host,) = report({"a": {**known, "ansible_facts": {"gpufleet_gpu": {**fresh, "devices": []}}}})
    assert len(host["gpus"]) == len(fresh["devices"]) > 0


def test_a_plan_is_found_in_either_place_and_the_result_of_the_task_is_the_newer(report: Report) -> None:
    (planned,) = fleet(1).values()
    plan = planned["ollama_plan"]
    for known in (
        {"ollama_plan_result": {"plan_json": json.dumps(plan)}},
        {"ollama_plan_result": {"host": {}}, "ollama_plan": plan},
    ):
        assert report({"a": known})[0]["num_parallel"] == plan["num_parallel"]
    older = {**plan, "num_parallel": 99}
    both = {"ollama_plan_result": {"plan_json": json.dumps(plan)}, "ollama_plan": older}
    assert report({"a": both})[0]["num_parallel"] == plan["num_parallel"]


def test_counts_and_table_come_with_it_and_the_hosts_do_not(write: Write, folder: Path) -> None:
    result = write({"a": {}, "b": {"ollama_verify_result": VERIFIED}})
    assert (result["changed"], result["dir"]) == (False, str(folder))
    assert (result["summary"]["hosts"], result["summary"]["not_as_planned"]) == (2, 1)
    assert [line.split()[0] for line in result["table"][:-1] if line[0] != " "] == ["HOST", "a", "b"]
    assert result["table"][-1] == "1 failed, 1 in sync"
    assert set(result) == {"changed", "dir", "summary", "table", "closing", "plan_warnings", "refusals", "to_pull"}


def test_the_page_is_filled_with_the_same(write: Write, folder: Path) -> None:
    write({"<a>": {}}, title="Ours & theirs")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page == "<title>Ours &amp; theirs</title> &lt;a&gt;"


def test_the_page_of_the_benchmarks_is_linked_to_where_it_lies_beside_it(write: Write, folder: Path) -> None:
    folder.mkdir()
    (folder / "benchmark.html").write_text("")
    write({"a": {}})
    assert "benchmark.html" in (folder / "report.html").read_text()


class Unreadable(dict[str, Any]):
    def get(self, *_arguments: Any) -> Any:
        raise RuntimeError("a variable refers to another that is not there")


@pytest.mark.parametrize(
    "odd",
    [
        {"ollama_verify_result": {"in_sync": True}},
        {"ollama_verify_result": "x"},
        {"ollama_plan_result": {"plan_json": "{"}},
        {"ollama_plan_result": 10**400},
        {"ollama_report_gpu": {"devices": [{"memory_total_bytes": float("inf")}]}},
        {"ollama_plan": {"gpus": 5}},
        Unreadable(),
    ],
)
def test_one_hosts_odd_variables_cost_it_its_row_and_the_others_nothing(
    report: Report, odd: dict[str, Any]
) -> None:
    told = {
        host["name"]: host["state"] for host in report({"a": odd, "b": {"ollama_verify_result": VERIFIED}})
    }
    assert told == {"a": "failed", "b": "in sync"}


LOST_TASK = {"unreachable": True, "msg": "Task failed: timed out"}
BLIND = {**VERIFIED, "in_sync": False, "unseen": ["run as root"]}


@pytest.mark.parametrize(
    ("known", "options", "state", "problem"),
    [
        ({"ollama_plan_result": LOST_TASK}, {}, "unreachable", "timed out"),
        (
            {"ollama_plan_result": LOST_TASK, "ollama_verify_result": {"skipped": True}},
            {},
            "unreachable",
            "timed out",
        ),
        ({"ollama_plan_result": {"unreachable": True, "msg": "\x1b[2J"}}, {}, "unreachable", "\\x1b[2J"),
        ({"ollama_verify_result": BLIND}, {}, "unknown", "run as root"),
        ({"ollama_verify_result": VERIFIED}, {"lost": ["a"]}, "unreachable", LOST.format("")),
        (
            {"ollama_verify_result": VERIFIED, "ollama_report_phase": "changing"},
            {"lost": ["a"]},
            "unreachable",
            LOST.format(" after its change had begun"),
        ),
        ({"ollama_report_failure": "x", "ollama_verify_result": VERIFIED}, {"lost": ["a"]}, "failed", "x"),
        ({"ollama_verify_result": VERIFIED}, {"changing": ["a"]}, "unreachable", BEGUN),
        ({"ollama_verify_result": {**VERIFIED, "as_planned": True}}, {"changing": ["a"]}, "in sync", ""),
    ],
)
def test_what_a_run_has_not_seen_or_has_lost_is_said_so(
    write: Write, folder: Path, known: dict[str, Any], options: dict[str, Any], state: str, problem: str
) -> None:
    result = write({"a": known}, **options)
    (host,) = json.loads((folder / "report.json").read_text())["hosts"]
    assert (host["state"], host["problem"]) == (state, problem)
    assert result["refusals"] == ([] if state == "in sync" else [f"a: {problem}"])


@pytest.mark.parametrize(
    ("phase", "compared"), [("changing", "before its change"), ("changed", "after its change"), ("", "")]
)
def test_a_comparison_says_whether_it_was_made_before_the_change(
    report: Report, phase: str, compared: str
) -> None:
    (host,) = report({"a": {"ollama_verify_result": VERIFIED, "ollama_report_phase": phase}})
    assert host["compared"] == compared


def test_two_names_of_one_service_are_a_warning_and_a_refusal(write: Write) -> None:
    one, other = ({**VERIFIED, "service_id": name} for name in ("s1", "s2"))
    planned_only = {"ollama_plan_result": {"service_id": "s2"}, "ollama_report_failure": "no model"}
    hosts = {"b": one, "a": one, "c": other}
    result = write(
        {**{name: {"ollama_verify_result": found} for name, found in hosts.items()}, "d": planned_only}
    )
    assert [warning.split(" are names")[0] for warning in result["warnings"]] == ["a and b", "c and d"]
    assert result["refusals"] == ["d: no model", *result["warnings"]]


def test_a_gpu_that_is_gone_is_a_refusal_until_it_is_accepted(write: Write) -> None:
    gone = {"gone": ["RTX (GPU-1)"], "gone_is_accepted": False}
    known = {"ollama_plan_result": {"hardware": gone}, "ollama_verify_result": VERIFIED}
    (refusal,) = write({"a": known})["refusals"]
    assert refusal.startswith("a: RTX (GPU-1), which the plan was applied for, is gone")
    gone["gone_is_accepted"] = True
    result = write({"a": known})
    assert (result["refusals"], result["summary"]["states"]["drifted"]) == ([], 1)
    result = write({"a": {**known, "ollama_report_phase": "changed"}})
    assert result["summary"]["states"]["in sync"] == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"template": "/nowhere/page.j2"}, "the template /nowhere/page.j2 of the page cannot be read"),
        ({"dir": "/dev/null/report"}, "the report cannot be written into /dev/null/report"),
    ],
)
def test_a_path_that_cannot_be_used_is_one_sentence(write: Write, options: dict[str, str], told: str) -> None:
    result = write({"a": {}}, **options)
    assert result["failed"]
    assert told in result["msg"]
    assert result["table"][-1] == "1 failed"


def lines(folder: Path) -> list[tuple[str, str]]:
    text = (folder / "history.jsonl").read_text()
    return [(one["host"], one["state"]) for one in map(json.loads, text.splitlines())]


def test_a_host_that_changed_its_state_is_a_line_of_the_history(write: Write, folder: Path) -> None:
    first = {"a": {"ollama_verify_result": VERIFIED}, "b": {}}
    write(first)
    assert lines(folder) == [("b", "failed"), ("a", "in sync")]
    before = (folder / "history.jsonl").stat().st_mtime_ns
    write(first)
    assert (folder / "history.jsonl").stat().st_mtime_ns == before
    # A host that the run is not about stays as it was.
    write({"b": {"ollama_verify_result": VERIFIED}})
    assert lines(folder) == [("b", "failed"), ("a", "in sync"), ("b", "in sync")]


def test_what_would_be_true_if_the_run_ended_here_is_no_history(write: Write, folder: Path) -> None:
    write({"a": {"ollama_verify_result": VERIFIED}}, changing=["a"])
    assert not (folder / "history.jsonl").exists()


def test_the_page_and_the_data_say_since_when(write: Write, folder: Path) -> None:
    folder.mkdir()
    lines = [
        {"at": "2026-01-01T00:00:00Z", "host": "a", "state": "failed"},
        {"at": "2026-01-02T00:00:00Z", "host": "a", "state": "in sync"},
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write({"a": {"ollama_verify_result": VERIFIED}}, template=str(CHECKOUT / "roles/ollama_report/templates/report.html.j2"))
    told = json.loads((folder / "report.json").read_text())
    assert told["hosts"][0]["since"] == "2026-01-02T00:00:00Z"
    assert [one["not_as_planned"] for one in told["trend"]] == [1, 0, 0]
    page = (folder / "report.html").read_text()
    assert 'since <time datetime="2026-01-02T00:00:00Z">2026-01-02 00:00</time>' in page
    assert 'aria-label="Hosts not as planned: 1 at 2026-01-01T00:00:00Z, 0 at 2026-01-02T00:00:00Z, 0 at' in page


def test_a_run_with_a_limit_leaves_the_others_on_the_page_and_tells_when_they_were_looked_at(
    write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {"template": str(CHECKOUT / "roles/ollama_report/templates/report.html.j2")}
    monkeypatch.setattr(fleet_report_action, "now", lambda: "2026-01-01T00:00:00Z")
    whole = {"a": {}, "b": {"ollama_verify_result": DRIFTED}}
    write(whole, **page)
    monkeypatch.setattr(fleet_report_action, "now", lambda: "2026-01-03T00:00:00Z")
    result = write({**whole, "b": {"ollama_verify_result": VERIFIED}}, hosts=["b"], limit="b", **page)
    told = json.loads((folder / "report.json").read_text())
    assert [(host["name"], host["state"], host["looked_at"][:10]) for host in told["hosts"]] == [
        ("a", "failed", "2026-01-01"),
        ("b", "in sync", "2026-01-03"),
    ]
    assert told["summary"]["hosts"] == 2
    # The terminal and who asks for an exit code hear of this run alone.
    assert (result["summary"]["hosts"], result["table"][-1]) == (1, "1 in sync")
    text = (folder / "report.html").read_text()
    assert text.count("looked at <time") == 1
    assert 'class="earlier" id="host=a"' in text
    assert "the others are as they were found before" in text


def test_a_history_that_is_full_is_put_aside(write: Write, folder: Path) -> None:
    folder.mkdir()
    line = StateChange("2026-01-01T00:00:00Z", "a", "failed").line
    (folder / "history.jsonl").write_text(line * MOST_LINES)
    write({"b": {}})
    assert len((folder / "history.1.jsonl").read_text().splitlines()) == MOST_LINES + 1
    assert len(lines(folder)) == MOST_LINES // 2


def test_of_a_history_that_somebody_has_made_larger_the_end_counts(write: Write, folder: Path) -> None:
    folder.mkdir()
    (folder / "history.jsonl").write_text(
        ("x" * 1023 + "\n") * (MOST_OF_A_HISTORY_BYTES >> 10) + StateChange("2026-01-01T00:00:00Z", "a", "failed").line
    )
    write({"a": {}})
    assert json.loads((folder / "report.json").read_text())["hosts"][0]["since"] == "2026-01-01T00:00:00Z"
    assert MOST_OF_A_HISTORY_BYTES == 8 << 20


def test_metrics_are_written_where_they_are_wanted(write: Write, tmp_path: Path) -> None:
    file = tmp_path / "gpufleet.prom"
    write({"a": {}, "b": {"ollama_verify_result": VERIFIED}}, metrics_file=str(file))
    states = read_metrics(file.read_text())["gpufleet_host_state"]
    assert (states.value(host="a", state="failed"), states.value(host="b", state="in sync")) == (1, 1)
    # Whoever node_exporter runs as, and nothing else that ends in .prom, at no moment.
    assert (file.stat().st_mode & 0o777, [*tmp_path.glob("*.prom")]) == (0o644, [file])


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/nowhere/gpufleet.prom", "the metrics cannot be written to /nowhere/gpufleet.prom on the control node (No such file"),
        ("/dev/null/gpufleet.prom", "the metrics cannot be written to /dev/null/gpufleet.prom"),
        ("/tmp/gpufleet.txt", "node_exporter reads only files whose names end in .prom"),
    ],
)
def test_metrics_that_cannot_be_written_are_one_sentence_and_cost_the_report_nothing(
    write: Write, folder: Path, path: str, told: str
) -> None:
    result = write({"a": {}}, metrics_file=path)
    assert result["failed"]
    assert told in result["msg"]
    assert (folder / "report.html").exists()


def test_a_report_that_cannot_be_written_costs_the_metrics_nothing(write: Write, tmp_path: Path) -> None:
    result = write({"a": {}}, dir="/dev/null/report", metrics_file=str(tmp_path / "a.prom"))
    assert "the report cannot be written" in result["msg"]
    assert (tmp_path / "a.prom").exists()


PLACEMENT = {
    "format": 1,
    "is_met": False,
    "demand": [
        {
            "name": "gemma3:4b<script>",
            "requests": 9,
            "slots": 4,
            "slots_without_one": 0,
            "short_slots": 5,
            "short_hosts": 1,
            "context_length": 4096,
        }
    ],
    "hosts": [{"name": "gpu01", "slots": {"gemma3:4b<script>": 4}}],
    "notes": ["b is left out"],
    "remedies": ["one more host like gpu01"],
}


def test_the_page_begins_with_the_last_placement_where_there_is_one(tmp_path):
    assert placed(tmp_path) == {}
    (tmp_path / "placement.json").write_text(json.dumps(PLACEMENT))
    report = {**fleet_report([], "2026-01-01T00:00:00Z"), **placed(tmp_path)}
    template = (CHECKOUT / "roles/ollama_report/templates/report.html.j2").read_text(encoding="utf-8")
    page = "".join(fill_page(report, template, "Fleet", ""))
    assert page.index("The demand is not met") < page.index('aria-label="Summary"')
    for shown in ("gpu01 (4)", "5 missing", "1 hosts missing", "b is left out", "one more host like gpu01"):
        assert shown in page
    assert "gemma3:4b<script>" not in page


@pytest.mark.parametrize("text", ["", "[]", "{}", '"x"', "{"])
def test_a_placement_that_is_none_costs_the_page_nothing(tmp_path, text):
    (tmp_path / "placement.json").write_text(text)
    assert placed(tmp_path) == {}


def test_each_variable_of_a_host_is_read_once_however_often_it_is_needed() -> None:
    class Variables(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            read.append(name)
            return super().get(name, default)

    read: list[str] = []
    result = {"plan_json": json.dumps({}), "compared": VERIFIED, "service_id": "s"}
    _known.known("a", Variables(ollama_plan_result=result, ollama_report_phase="changed"), is_lost=False, is_changing=False)
    assert "ollama_plan_result" in read
    assert [name for name in read if read.count(name) > 1] == []
