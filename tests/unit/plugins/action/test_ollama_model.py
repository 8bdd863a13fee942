# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pull goes on slice after slice, each with a line of how far it is, until all is here or nothing comes any more."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.gpufleet.ollama.plugins.action import ollama_model
from ansible_collections.gpufleet.ollama.plugins.action.ollama_model import ActionModule, Limits, Pull
from ansible_collections.gpufleet.ollama.plugins.modules import ollama_model as module
from ansible_collections.gpufleet.ollama.plugins.plugin_utils import _waiting

GIB = 1 << 30
NAME = "team/model:v1"
LAYER = "sha256:" + "a5fd3b62230a" + "0" * 52


def answered(here, *, done=False, size=4 * GIB, waiting="", name=NAME, changed=True, **ending):
    """What the module answers when so much of a model is here."""
    model = {
        "name": name,
        "action": "pull",
        "done": done,
        "size_bytes": size,
        "completed_bytes": None if size is None else here,
        "layer": LAYER,
        "layer_bytes": 2 * GIB,
        "layer_completed_bytes": here // 2,
        "status": "pulling a5fd3b62230a",
    }
    diff = {"before": f"{here}\n", "after": ""}
    return {"models": [model], "done": done, "waiting": waiting, "changed": changed, "diff": diff, **ending}


@pytest.fixture
def run():
    """`run(answers, seconds)` gives the result, the lines that were shown and the number of executions."""

    def slices(answers, seconds=10, *, idle=120, timeout=86400, only_looks=False):
        left, lines, clock = list(answers), [], [0.0]

        def execute():
            clock[0] += seconds
            return left.pop(0) if len(left) > 1 else left[0]

        def pause(pause_s):
            clock[0] += pause_s

        pull = Pull(execute, Limits(idle, timeout), only_looks, lambda: clock[0], pause)
        result = _waiting.in_slices(pull.slice, pull.words, lines.append)
        return result, lines, clock[0]

    return slices


def test_each_slice_has_a_line(run):
    result, lines, seconds = run([answered(GIB), answered(2 * GIB), answered(3 * GIB), answered(4 * GIB, done=True)])
    assert lines == [
        f"{NAME}: 1.0 GiB of 4.0 GiB (25 %), layer a5fd3b62230a 512 MiB of 2.0 GiB",
        f"{NAME}: 2.0 GiB of 4.0 GiB (50 %), layer a5fd3b62230a 1.0 GiB of 2.0 GiB, 102.4 MiB/s, 20 s left",
        f"{NAME}: 3.0 GiB of 4.0 GiB (75 %), layer a5fd3b62230a 1.5 GiB of 2.0 GiB, 102.4 MiB/s, 10 s left",
    ]
    assert (result["changed"], result["done"], result["diff"]["before"], seconds) == (True, True, f"{GIB}\n", 40)


def test_what_is_there_is_one_execution_without_a_line(run):
    result, lines, seconds = run([answered(0, done=True, changed=False)])
    assert (result["changed"], lines, seconds) == (False, [], 10)


def test_in_check_mode_nothing_is_waited_for(run):
    assert run([answered(0)], only_looks=True)[2] == 10


def test_changes_of_an_earlier_slice_count(run):
    assert run([answered(GIB), answered(4 * GIB, done=True, changed=False)])[0]["changed"]


def test_of_a_model_whose_size_is_not_known_the_layer_tells(run):
    _result, lines, _seconds = run([answered(GIB, size=None), answered(2 * GIB, size=None), answered(0, done=True)])
    assert lines[1] == f"{NAME}: 1.0 GiB of 2.0 GiB (50 %), layer a5fd3b62230a 1.0 GiB of 2.0 GiB, 51.2 MiB/s, 20 s left"


def test_a_pull_that_brings_nothing_is_given_up_and_says_so_meanwhile(run):
    result, lines, seconds = run([answered(GIB)], idle=60)
    assert (result["failed"], seconds) == (True, 80)
    assert result["msg"] == (
        f"model {NAME}: nothing has come for 60 s, and Ollama's last words were 'pulling a5fd3b62230a': look at the "
        "registry, the network and the server's log, and run it again; what is here is kept"
    )
    assert lines[1].endswith("nothing came since the last line")


def test_what_may_mend_is_waited_for_where_something_had_come(run):
    broken = answered(GIB, waiting="model m: Ollama says: unexpected EOF")
    result, lines, seconds = run([answered(GIB), broken, answered(4 * GIB, done=True)])
    assert (result["done"], seconds) == (True, 35)
    assert lines[1].endswith("; model m: Ollama says: unexpected EOF")
    result, _lines, _seconds = run([answered(GIB), broken], idle=60)
    assert (result["failed"], result["msg"]) == (True, "model m: Ollama says: unexpected EOF")


def test_a_server_that_is_started_again_is_waited_for(run):
    gone = {"models": [], "done": False, "waiting": "GET /api/tags failed: Connection refused", "changed": False}
    result, lines, _seconds = run([answered(GIB), gone, gone, answered(GIB // 2), answered(4 * GIB, done=True)])
    assert (result["done"], result["changed"]) == (True, True)
    assert lines[1:3] == ["GET /api/tags failed: Connection refused"] * 2
    result, _lines, seconds = run([answered(GIB), gone], idle=60)
    assert (result["failed"], result["msg"], seconds) == (True, gone["waiting"], 80)
    result, lines, _seconds = run([gone])
    assert (result["failed"], result["msg"], lines) == (True, gone["waiting"], [])


def test_what_does_not_begin_is_told_at_once(run):
    result, lines, seconds = run([answered(0, waiting="model m: connection refused")])
    assert (result["failed"], result["msg"], lines, seconds) == (True, "model m: connection refused", [], 10)


def test_a_server_that_forgot_what_had_come_is_not_taken_for_stalled(run):
    falling = [answered(3 * GIB), answered(GIB), answered(2 * GIB), answered(3 * GIB), answered(4 * GIB, done=True)]
    assert run(falling, seconds=50)[0]["done"]


def test_all_of_it_has_a_limit_of_time(run):
    growing = [answered(GIB + number) for number in range(50)]
    result, _lines, seconds = run(growing, timeout=100)
    assert (result["msg"], seconds) == (f"model {NAME} is not here within 100 s", 110)


def test_a_host_that_answers_at_once_is_not_asked_again_at_once(run):
    growing = [answered(GIB + number) for number in range(1000)]
    result, lines, seconds = run(growing, seconds=0.001, timeout=100)
    assert (len(lines), round(seconds)) == (20, 100)
    assert result["msg"].endswith("is not here within 100 s")


@pytest.mark.parametrize(
    "models",
    [[{}], [{"action": "pull"}], [dict.fromkeys(answered(0)["models"][0])], [{**answered(0)["models"][0], "layer": None}], None],
)
def test_a_host_that_leaves_something_out_is_given_up_in_a_sentence(run, models):
    result, _lines, _seconds = run([{**answered(0), "models": models}])
    assert "nothing has come for 120 s" in result["msg"]


@pytest.mark.parametrize("ending", [{"failed": True, "msg": "no"}, {"unreachable": True, "msg": "gone"}])
def test_a_module_that_failed_ends_it(run, ending):
    result, _lines, seconds = run([answered(GIB, **ending)])
    assert (result["msg"], seconds) == (ending["msg"], 10)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (9000, "2 h 30 min")]
)
def test_durations(seconds, text):
    assert ollama_model._duration(seconds) == text


def test_lines_name_the_host_and_go_to_standard_error(action_of, monkeypatch):
    action = action_of(ActionModule, "ollama_model", {"models": [{"name": NAME}], "idle_seconds": "5"})
    action._task.check_mode = False
    answers = [answered(GIB), answered(4 * GIB, done=True)]
    monkeypatch.setattr(ollama_model, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(action, "answer_of", lambda *_arguments: answers.pop(0))
    shown = []
    monkeypatch.setattr(_waiting.Display, "display", lambda _self, text, **options: shown.append((text, options)))
    assert action.run(task_vars={"inventory_hostname": "gpu7"})["done"]
    ((text, options),) = shown
    assert text.startswith(f"gpu7: {NAME}: 1.0 GiB of 4.0 GiB")
    assert options == {"stderr": True}


def test_what_a_host_tells_is_one_short_line(action_of, monkeypatch):
    action = action_of(ActionModule, "ollama_model", {"models": [{"name": NAME}]})
    action._task.check_mode = False
    answers = [answered(GIB, name="m\n\x1b[2Jok: [gpu1]" + "a" * 10**6), answered(4 * GIB, done=True)]
    monkeypatch.setattr(action, "answer_of", lambda *_arguments: answers.pop(0))
    monkeypatch.setattr(ollama_model, "PAUSE_SECONDS", 0.0)
    shown = []
    monkeypatch.setattr(_waiting.Display, "display", lambda _self, text, **options: shown.append(text))
    action.run(task_vars={"inventory_hostname": "gpu7"})
    (text,) = shown
    assert text.startswith("gpu7: m \\x1b[2Jok: [gpu1]aaa")
    assert text.isprintable()
    assert len(text) == ollama_model.MOST_CHARACTERS == 400


@pytest.mark.parametrize(
    ("models", "taken"),
    [
        (["a", {"name": "b", "state": "absent"}], [{"name": "a"}, {"name": "b", "state": "absent"}]),
        ([], []),
        (None, None),
        ("a", "a"),
    ],
)
def test_a_name_alone_is_a_model(models, taken):
    assert ollama_model.named(models) == taken


def test_the_times_are_those_that_the_module_documents():
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert options["idle_seconds"]["default"] == ollama_model.IDLE_SECONDS == 120
    assert ollama_model.PAUSE_SECONDS == 5.0
    assert options["timeout_seconds"]["default"] == ollama_model.TIMEOUT_SECONDS == 86400
    assert options["slice_seconds"]["default"] <= 15
