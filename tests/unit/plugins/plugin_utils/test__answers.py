# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the control node takes of an answer: what is documented, of those types, within a budget, and no more."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.ollama.plugins.action.ollama_host_info import documented_with_parts
from ansible_collections.gpufleet.ollama.plugins.plugin_utils._answers import (
    ANSWER_CHARACTERS,
    DEPTH,
    MESSAGE_CHARACTERS,
    MODULES,
    WARNINGS,
    UnfitAnswer,
    checked,
    documented,
    shown,
)
from ansible_collections.gpufleet.ollama.tests.unit.answers import completed
from hypothesis import given
from hypothesis import strategies as st

COMPARED = documented("systemd_environment_info")
READ = documented_with_parts()
IN_SYNC = completed({"exists": True, "in_sync": True, "stopped": "", "service_id": "8c7d"}, COMPARED)
ANSWERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(READ) + sorted(COMPARED)) | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_an_honest_answer_is_taken_as_it_is():
    assert checked({**IN_SYNC, "changed": False}, COMPARED) == {**IN_SYNC, "changed": False}


@pytest.mark.parametrize("module", sorted(path.stem for path in MODULES.glob("*.py")))
def test_every_module_documents_types_that_are_known_here(module):
    returns = documented(module)
    assert checked(dict.fromkeys(returns), returns) == dict.fromkeys(returns)


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        ({"ansible_facts": {"ollama_report_dir": "/tmp/x"}}, {}),
        ({"add_host": {"host_name": "localhost"}, "add_group": "ollama"}, {}),
        ({"ollama_plan_result": {}, "include": "/etc/passwd", "results": [], "_ansible_notify": ["x"]}, {}),
        ({"changed": "yes", "failed": 0}, {"changed": True, "failed": False}),
        ({"failed": True}, {"failed": True}),
        ({"skipped": True, "unreachable": True}, {}),
        ({"warnings": ["one", "two\x1b[2J"]}, {"warnings": ["one", "two\\x1b[2J"]}),
        ({"warnings": "text"}, {}),
        ({"msg": 5}, {"msg": "5"}),
        ({"diff": {"before": "a\x07", "after": "b"}}, {"diff": {"before": "a\\x07", "after": "b"}}),
    ],
)
def test_what_no_module_documents_is_left_out(answer, taken):
    assert checked({**IN_SYNC, **answer}, COMPARED) == {**IN_SYNC, **taken}


def test_of_the_facts_only_those_of_the_gpus_are_taken():
    gpu = completed({"devices": []}, READ["ansible_facts"]["contains"]["gpufleet_gpu"]["contains"])
    told = {"gpufleet_gpu": gpu, "ansible_python_interpreter": "/tmp/x", "gpufleet_report_dir": "/"}
    taken = checked({"ansible_facts": told, "failures": []}, READ)
    assert taken == {"ansible_facts": {"gpufleet_gpu": gpu}, "failures": []}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"differences": 5}, "differences is int (5), and the module returns list"),
        ({"differences": [5]}, "differences is int (5), and the module returns dict"),
        ({"differences": [{"message": ["x"]}]}, "differences.message is list (['x']), and the module returns str"),
        ({"in_sync": 1}, "in_sync is int (1), and the module returns bool"),
        ({"problems": ["x", None]}, "problems holds null, and the module returns a list of str"),
        ({"problems": {}}, "problems is dict ({}), and the module returns list"),
        ({"main_pid": True}, "main_pid is bool (True), and the module returns int"),
        ({"main_pid": 10**400}, "main_pid is a number that no host has"),
        ({"main_pid": float("inf")}, "main_pid is a number that no host has"),
        ({"main_pid": float("nan")}, "main_pid is a number that no host has"),
        ({"environment": object()}, "environment is of the type object"),
        ({"variables": {"A": 5}}, "variables holds int (5) in place of a record"),
        ({"variables": {"A": {"line": "x"}}}, "variables.line is str ('x'), and the module returns int"),
    ],
)
def test_a_value_that_the_module_does_not_return_is_refused(answer, said):
    with pytest.raises(UnfitAnswer) as refused:
        checked(answer, COMPARED)
    assert str(refused.value) == said


@pytest.mark.parametrize("missing", ["in_sync", "differences", "conflicts", "refusals", "unseen", "exists"])
def test_an_answer_without_what_is_in_every_answer_is_refused_unless_the_module_failed(missing):
    answer = {name: value for name, value in IN_SYNC.items() if name != missing}
    with pytest.raises(UnfitAnswer, match=f"^{missing} is missing, and the module always returns it$"):
        checked(answer, COMPARED)
    assert checked({**answer, "failed": True, "msg": "no"}, COMPARED) == {**answer, "failed": True, "msg": "no"}


def test_so_is_one_with_a_record_that_lacks_what_is_in_every_such_record():
    contains = READ["ansible_facts"]["contains"]["gpufleet_gpu"]["contains"]
    facts = completed({"devices": [{"uuid": "GPU-1"}]}, contains)
    assert checked({"ansible_facts": {"gpufleet_gpu": facts}, "failures": []}, READ)
    del facts["devices"][0]["memory_total_bytes"]
    with pytest.raises(UnfitAnswer, match=r"gpufleet_gpu\.devices\.memory_total_bytes is missing"):
        checked({"ansible_facts": {"gpufleet_gpu": facts}, "failures": []}, READ)
    assert checked({"ansible_facts": {"gpufleet_gpu": {}}, "failures": ["no driver"]}, READ)


@pytest.mark.parametrize("value", ["x", 10**400, float("inf"), [], {"a": 1}])
def test_a_gpu_with_an_odd_memory_is_refused(value):
    gpu = {"devices": [{"memory_total_bytes": value}]}
    with pytest.raises(UnfitAnswer, match="ansible_facts"):
        checked({"ansible_facts": {"gpufleet_gpu": gpu}}, READ)


def test_an_answer_may_be_so_large_and_so_deep_and_no_more():
    text = "x" * (ANSWER_CHARACTERS - 100)
    assert checked({"load_error": text, "failed": True}, COMPARED) == {"load_error": text, "failed": True}
    with pytest.raises(UnfitAnswer, match="it is larger than 4 MiB"):
        checked({"load_error": text, "result": "x" * 101}, COMPARED)
    with pytest.raises(UnfitAnswer, match="it is larger than 4 MiB"):
        checked({"environment_files": [None] * ANSWER_CHARACTERS}, COMPARED)
    deep = nested = {}
    for _level in range(DEPTH):
        nested["a"] = {}
        nested = nested["a"]
    with pytest.raises(UnfitAnswer, match="deep"):
        checked({"wanted": deep}, COMPARED)


def test_messages_and_warnings_are_bounded():
    taken = checked({**IN_SYNC, "msg": "m" * 10**6, "warnings": ["w" * 10**6] * 1000}, COMPARED)
    assert len(taken["msg"]) == MESSAGE_CHARACTERS
    assert {len(warning) for warning in taken["warnings"]} == {MESSAGE_CHARACTERS}
    assert len(taken["warnings"]) == WARNINGS


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3090"),
        ("tab\tand\nnew line, é, 日本", "tab\tand\nnew line, é, 日本"),
        ("\x1b]0;PWNED\x07", "\\x1b]0;PWNED\\x07"),
        ("a\rb\x9b2J", "a\\rb\\x9b2J"),
        ("right\u202eto left", "right\\u202eto left"),
        ("half \ud800 a pair", "half \\ud800 a pair"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_its_escape(text, seen):
    assert shown(text) == seen


@given(answer=st.dictionaries(st.sampled_from([*sorted(READ), "msg", "warnings", "diff"]), ANSWERS))
def test_whatever_is_answered_is_refused_or_becomes_plain_data(answer):
    try:
        taken = checked(answer, READ)
    except UnfitAnswer as error:
        taken = {"msg": str(error)}
    assert json.dumps(taken, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert taken.get("msg", "") == shown(taken.get("msg", ""))
    assert set(taken) <= {*READ, "changed", "failed", "msg", "warnings", "diff"}
    assert set(taken.get("ansible_facts") or {}) <= {"gpufleet_gpu"}
