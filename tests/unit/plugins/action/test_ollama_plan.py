# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as Ansible computes it: on the control node, from options that are checked, with no connection."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible_collections.gpufleet.ollama.plugins.action.ollama_host_info import with_all
from ansible_collections.gpufleet.ollama.plugins.action.ollama_plan import (
    COMPARED,
    HOST_INFO,
    HOST_INFO_RETURNS,
    ActionModule,
)
from ansible_collections.gpufleet.ollama.plugins.doc_fragments import _service
from ansible_collections.gpufleet.ollama.plugins.module_utils.gpu._device import GpuDevice, HostGpus
from ansible_collections.gpufleet.ollama.plugins.module_utils.planning._options import ARGUMENT_SPEC
from ansible_collections.gpufleet.ollama.plugins.modules import ollama_plan
from ansible_collections.gpufleet.ollama.tests.unit.answers import completed
from ansible_collections.gpufleet.ollama.tests.unit.data import header

GIB = 1 << 30
GEMMA = {"name": "gemma3:4b", "header": header("gemma3:4b")}
DEVICE = GpuDevice(
    0, "GPU-1", "0000:01:00.0", "nvidia", "RTX", memory_total_bytes=24 * GIB, memory_free_bytes=24 * GIB
)
HOST = HostGpus("now", devices=(DEVICE,), visible_devices=("GPU-1",)).to_dict()


@pytest.fixture
def run_action(action_of):
    """`run_action(option=value, ...)` gives the result of the action for a host that nobody can reach."""

    def run(variables=(), **options):
        known = {"inventory_hostname": "gpu01", **dict(variables)}
        return action_of(ActionModule, "ollama_plan", options).run(task_vars=known)

    return run


def test_a_plan_changes_nothing_and_is_plain_data(run_action):
    result = run_action(gpu=HOST, models=[GEMMA], version="0.33.0")
    assert result["changed"] is False
    assert result["plan"]["environment"]["OLLAMA_NUM_PARALLEL"] == "4"
    assert "warnings" not in result
    assert json.loads(json.dumps(result["plan"])) == result["plan"]


def test_the_plan_comes_as_text_where_it_is_asked_for(run_action):
    options = {"gpu": HOST, "models": [GEMMA], "version": "0.33.0"}
    result = run_action(as_json=True, **options)
    assert json.loads(result["plan_json"]) == run_action(**options)["plan"]
    assert "plan" not in result
    assert "plan_json" not in run_action(as_json=True)


def test_values_may_come_as_text(run_action):
    result = run_action(gpu=HOST, models=[GEMMA], version="0.33.0", requests="2", lower_context="yes")
    assert result["plan"]["num_parallel"] == 2


def test_a_client_that_asks_for_more_context_is_seen_by_what_is_loaded(run_action):
    service = {"process_environment": {"OLLAMA_CONTEXT_LENGTH": "8192"}}
    loaded = [{"name": "gemma3:4b", "context_length": 65536, "expires_at": ""}]
    result = run_action(
        gpu=HOST, models=[GEMMA], version="0.33.0", context_length=8192, service=service, loaded=loaded
    )
    assert "gemma3:4b is loaded with 65536 tokens of context, above the planned 8192" in result["warnings"][0]


def test_warnings_name_the_host(run_action):
    result = run_action(gpu=HOST, models=[GEMMA])
    assert result["warnings"] == ["gpu01: the version of Ollama is not known: planned by the rules of 0.33.0"]


@pytest.fixture
def run_on(run_action, monkeypatch):
    """`run_on(read, option=value, ...)` gives the result for a host of which `read` is read, but for `missing`."""

    def run(read, missing="", **options):
        def execute(_self, module_name, module_args, task_vars):
            assert (module_name, task_vars["inventory_hostname"]) == (f"gpufleet.ollama.{HOST_INFO}", "gpu01")
            asked.append(module_args)
            whole = completed(read, with_all(HOST_INFO_RETURNS, module_args["gather"]))
            return json.loads(json.dumps({name: value for name, value in whole.items() if name != missing}))

        monkeypatch.setattr(ActionModule, "_execute_module", execute)
        return run_action(**{"gather": ["gpu", "models", "service", "measured"], **options})

    asked: list[dict] = []
    run.asked = asked
    return run


def test_variables_of_the_roles_are_looked_at_before_the_options_where_it_is_asked_for(run_action):
    wrong = {"ollama_plan_request": 4, "ollama_plan_requests": "{{ 'ma' ~ 'ny' }}"}
    refused = run_action(wrong, role_variables=True, requests="many", gpu=HOST)
    assert refused["failed"] is True
    assert "ollama_plan_request: ollama_plan knows no such variable" in refused["msg"]
    assert "ollama_plan: argument 'ollama_plan_requests' is of type str" in refused["msg"]
    assert run_action({"ollama_plan_request": 4}, gpu=HOST, models=[GEMMA])["plan"]["safe"] is True


def test_variables_of_the_role_are_its_options_unless_the_task_gives_them(run_action):
    right = {"ollama_plan_requests": "2", "ollama_plan_gpu": HOST, "ollama_plan_model_descriptions": [GEMMA]}
    assert run_action(right, role_variables=True)["plan"]["num_parallel"] == 2
    assert run_action(right, role_variables=True, requests=3)["plan"]["num_parallel"] == 3
    as_text = {**right, "ollama_plan_model_descriptions": json.dumps([GEMMA])}
    assert run_action(as_text, role_variables=True) == run_action(right, role_variables=True)


READ = {
    "ansible_facts": {"gpufleet_gpu": HOST},
    "models": completed(
        {"models": [GEMMA], "loaded": None, "version": "0.33.0"}, HOST_INFO_RETURNS["models"]["contains"]
    ),
    "service": {},
    "measured": {},
    "measured_problem": "",
    "failures": [],
    "invocation": {"module_args": {}},
}


def test_what_is_read_on_the_host_is_planned_with(run_on, run_action):
    result = run_on(READ)
    assert result["plan"] == run_action(gpu=HOST, models=[GEMMA], version="0.33.0")["plan"]
    assert set(result) == {
        *("changed", "plan", "not_loaded", "obstacles", "stopped", "refused", "service_id", "hardware")
    }
    assert (result["obstacles"], result["stopped"], result["refused"]) == ([], "", [])


AS_COMPARED = completed({"in_sync": True, "wanted": {}}, HOST_INFO_RETURNS["compared"]["contains"])


class TestAHostIsComparedWithItsPlan:
    """Once, where our drop-in on the host sets what is planned; else once more, with what is planned."""

    @pytest.fixture
    def compare(self, run_action, monkeypatch):
        """`compare(wanted, option=value)`: the result, for a host that was compared with `wanted` when it was read."""

        def run(wanted, again=None, service=None, more=None, **options):
            def execute(_self, module_name, module_args, **_others):
                asked.append((module_name.rpartition(".")[2], module_args))
                if not module_name.endswith(HOST_INFO):
                    return again or AS_COMPARED
                compared = {} if wanted is None else {**AS_COMPARED, "wanted": wanted}
                read = {**READ, "compared": compared, "service": service or {}, **(more or {})}
                return completed(read, with_all(HOST_INFO_RETURNS, module_args["gather"]))

            monkeypatch.setattr(ActionModule, "_execute_module", execute)
            return run_action(compare=True, gather=["gpu", "models", "service", "measured"], **options)

        asked: list[tuple[str, dict]] = []
        run.asked = asked
        return run

    @pytest.mark.parametrize(
        ("more", "operator", "times"),
        [
            ({}, {}, 1),
            ({"OLLAMA_NUM_PARALLEL": "5"}, {}, 2),
            ({"OLLAMA_DEBUG": "1"}, {}, 2),
            ({}, {"HF_TOKEN": "hunter2"}, 1),
            ({"HF_TOKEN": ""}, {"HF_TOKEN": "hunter2"}, 2),
            ({"A": "50%"}, {"A": "50%"}, 1),
            ({"A": "7"}, {"A": 7}, 1),
        ],
    )
    def test_by_what_our_dropin_sets(self, compare, more, operator, times):
        planned = compare(None, operator_environment=operator)["plan"]["environment"]
        compare.asked.clear()
        result = compare({**planned, **more}, operator_environment=operator)
        assert [name for name, _options in compare.asked] == [HOST_INFO, "systemd_environment_info"][:times]
        assert compare.asked[0][1]["secrets"] == {
            name: value for name, value in operator.items() if name == "HF_TOKEN"
        }
        assert result["compared"] == {name: AS_COMPARED[name] for name in COMPARED}

    def test_a_value_that_the_gate_may_have_made_of_another_is_asked_for_once_more(self, compare):
        operator = {"A": r"a\x1bb"}
        planned = compare(None, operator_environment=operator)["plan"]["environment"]
        compare.asked.clear()
        compare({**planned, "A": "a\x1bb"}, operator_environment=operator)
        assert [name for name, _options in compare.asked] == [HOST_INFO, "systemd_environment_info"]

    def test_with_the_plan_and_the_operators_secrets(self, compare):
        planned = compare(None, operator_environment={"HF_TOKEN": "hunter2"})["plan"]["environment"]
        ((_read, _options), (_module, asked)) = compare.asked
        lines = [f'Environment="{name}={value}"' for name, value in sorted({**planned, "HF_TOKEN": "hunter2"}.items())]
        assert asked["dropin_content"].split("\n") == ["[Service]", *lines]
        assert (asked["expect_active"], asked["server_config"], asked["details"]) == (True, True, False)

    @pytest.mark.parametrize("answer", [{"failed": True, "msg": "no systemd"}])
    def test_a_host_that_cannot_be_looked_at_has_a_plan_all_the_same(self, compare, answer):
        result = compare(None, again=answer)
        assert result["compared"] == answer
        assert "failed" not in result
        assert "plan" in result

    @pytest.mark.parametrize("apply", [True, False])
    def test_headers_are_kept_on_the_host_only_where_the_plan_is_to_be_applied(self, compare, apply):
        compare(None, apply=apply)
        assert compare.asked[0][1].get("keep_headers", False) is apply

    @pytest.mark.parametrize(
        ("found", "remembered", "done"),
        [
            ({}, True, True),
            ({}, False, False),
            ({"as_planned": False}, True, False),
            ({"unproven": True}, True, False),
        ],
    )
    def test_a_host_is_done_where_nothing_is_left_to_apply(self, compare, found, remembered, done):
        again = {**AS_COMPARED, "as_planned": True, **found}
        before = {"planned_gpus": [OURS], "planned_for": {"version": "0.33.0", "engine_build": None, "observed": []}}
        result = compare(None, again=again, more=before if remembered else {"planned_gpus": []})
        assert result["is_done"] is done

    def test_secrets_are_not_sent_where_nothing_is_compared(self, run_on):
        run_on(READ, operator_environment={"HF_TOKEN": "hunter2"})
        assert "hunter2" not in json.dumps(run_on.asked)

    @pytest.mark.parametrize(
        ("service", "options", "refused"),
        [
            ({}, {}, []),
            ({}, {"refusals": ["never"]}, ["never"]),
            ({"refusals": ["masked"], "stopped": "stopped"}, {}, []),
            ({"refusals": ["masked"], "stopped": "stopped"}, {"apply": True}, ["masked", "stopped"]),
            ({"stopped": "stopped"}, {"apply": True, "start_stopped": True}, []),
        ],
    )
    def test_unless_the_plan_is_refused(self, compare, service, options, refused):
        whole = completed(service, HOST_INFO_RETURNS["service"]["contains"])
        whole["stopped"] = service.get("stopped", "")
        result = compare(None, service=whole, **options)
        assert result["refused"] == refused
        assert ("compared" in result) is not bool(refused)


OURS = {"uuid": "GPU-1", "name": "RTX"}
CAME = "RTX (GPU-1) has come since the plan was applied; it is planned anew with it"


@pytest.mark.parametrize(
    ("remembered", "options", "told"),
    [
        ([OURS], {}, {"gone": [], "to_remember": None}),
        (None, {}, {"gone": [], "to_remember": [OURS]}),
        ([], {}, {"gone": [], "to_remember": [OURS]}),
        ([OURS, {"uuid": "GPU-2", "name": "A"}], {}, {"gone": ["A (GPU-2)"], "to_remember": [OURS]}),
        (
            [{"uuid": "GPU-2", "name": "A"}],
            {"on_gpu_fault": "exclude"},
            {"gone": ["A (GPU-2)"], "gone_is_accepted": True, "to_remember": [OURS], "changes": [CAME]},
        ),
    ],
)
def test_gpus_that_the_plan_was_applied_for_are_looked_for(run_on, remembered, options, told):
    before = {"version": "0.33.0", "engine_build": None, "observed": []} if remembered else {}
    read = {**READ, "planned_gpus": remembered, "planned_for": before, "planned_gpus_problem": ""}
    hardware = run_on(read, **options)["hardware"]
    planned_for = {"version": "0.33.0", "engine_build": None, "observed": []}
    assert hardware == {"gone_is_accepted": False, "problem": "", "changes": [], "planned_for": planned_for, **told}


def test_a_plan_that_fails_says_which_gpu_is_gone(run_on):
    read = {**READ, "planned_gpus": [{"uuid": "GPU-2", "name": "A"}], "planned_gpus_problem": ""}
    result = run_on(read, wanted=["absent:7b"])
    assert result["failed"]
    assert result["msg"].endswith("; gone since the plan was applied: A (GPU-2)")


@pytest.mark.parametrize("part", ["models", "service", "measured", "planned_gpus", "failures", "ansible_facts"])
def test_a_part_that_was_asked_for_and_is_not_told_is_no_plan(run_on, part):
    result = run_on(READ, missing=part)
    assert result["failed"]
    assert result["msg"].startswith(
        "gpu01 has answered to ollama_host_info what this collection's module does not: "
        f"{part} is missing, and the module always returns it; "
    )
    assert "plan" not in result


def test_a_part_that_was_not_asked_for_is_not_missed(run_on):
    assert run_on(READ, missing="measured", gather=["gpu", "models", "service"])["plan"]["safe"] is True


def test_the_service_is_named_for_the_report(run_on):
    assert run_on({**READ, "service": {"service_id": "8c7d"}})["service_id"] == "8c7d"


def test_the_host_is_read_as_the_options_say(run_on):
    environment = {"CUDA_VISIBLE_DEVICES": "0"}
    names = {"unit": "ollama@a.service", "scope": "user", "dropin_name": "zz-own.conf"}
    wanted = {"wanted": [GEMMA["name"]], "models": [GEMMA]}
    run_on(READ, gather=["models"], gpu=HOST, operator_environment=environment, **wanted, **names)
    (asked,) = run_on.asked
    assert {"OLLAMA_NUM_PARALLEL", "OLLAMA_FLASH_ATTENTION"} < set(asked.pop("variables"))
    assert asked == {
        "gather": ["models"],
        "environment": environment,
        "first_models": [GEMMA["name"]],
        **names,
    }


def test_a_name_that_is_none_is_refused_and_not_sent_to_the_host(run_on):
    result = run_on(READ, operator_environment={"A_KEY=hunter2": "x", "CUDA_VISIBLE_DEVICES": "0"})
    assert result["failed"]
    assert "'A_KEY=********' is not a name" in result["msg"]
    assert "hunter2" not in str([result, run_on.asked])
    assert run_on.asked[0]["environment"] == {"CUDA_VISIBLE_DEVICES": "0"}


def test_what_keeps_the_plan_from_being_applied_is_told_with_it(run_on):
    """Of the conflicts those of variables that the plan sets, as it need not set all that it may."""
    conflicts = [
        {"variable": name, "file": "/x", "line": 2, "message": f"/x:2 sets {name}"}
        for name in ("OLLAMA_NUM_PARALLEL", "OLLAMA_KV_CACHE_TYPE")
    ]
    service = {
        "refusals": ["it is masked"],
        "problems": ["/y cannot be read"],
        "notes": ["it will not start at boot"],
        "stopped": "it is stopped",
        "conflicts": conflicts,
    }
    result = run_on({**READ, "service": service})
    assert result["obstacles"] == ["it is masked", "/y cannot be read", "/x:2 sets OLLAMA_NUM_PARALLEL"]
    assert result["stopped"] == "it is stopped"
    assert "gpu01: it will not start at boot" in result["warnings"]


def test_without_gather_nothing_is_read(run_on):
    assert run_on({}, gather=[], gpu=HOST, models=[GEMMA])["plan"]["safe"] is True
    assert run_on.asked == []


def test_what_was_read_is_returned_where_it_is_asked_for(run_on):
    host = run_on(READ, return_host=True)["host"]
    names = ("models", "service", "measured", "measured_problem")
    assert host == {"gpu": HOST, **{name: READ[name] for name in names}}


def test_what_is_described_goes_before_what_was_read_and_models_beside_it(run_on):
    small = {"devices": [{"memory_total_bytes": 8 * GIB}]}
    plan = run_on(READ, gpu=small, version="0.32.0", models=[{**GEMMA, "name": "other:4b"}])["plan"]
    assert [gpu["total_bytes"] for gpu in plan["gpus"]] == [8 * GIB]
    assert plan["version"] == "0.32.0"
    assert {model["name"] for model in plan["models"]} == {"gemma3:4b", "other:4b"}


def test_a_kept_benchmark_that_cannot_be_used_is_warned_of(run_on):
    result = run_on({**READ, "measured_problem": "it is torn"}, models=[])
    assert [warning for warning in result["warnings"] if "it is torn" in warning] != []


def test_a_damaged_model_is_warned_of_and_refused_only_where_it_is_wanted(run_on):
    models = {
        **READ["models"],
        "unseen": ["model bad:1b: bad is no JSON; left out of the plan"],
        "unplannable": [{"name": "bad:1b", "reason": "model bad:1b: bad is no JSON"}],
    }
    planned = run_on({**READ, "models": models}, wanted=["gemma3:4b"])
    about = [warning for warning in planned["plan"]["warnings"] if "bad" in warning]
    assert about == ["bad:1b is left out of the plan: bad is no JSON"]
    assert f"gpu01: {about[0]}" in planned["warnings"]
    refused = run_on({**READ, "models": models}, wanted=["bad:1b"])
    assert refused["msg"] == "model 'bad:1b' is wanted but cannot be planned: model bad:1b: bad is no JSON"


def test_what_could_not_be_read_is_the_reason_for_which_there_is_no_plan_and_the_gpus_are_told(run_on):
    result = run_on({**READ, "models": {}, "failures": ["gpu01: no store", "gpu01: damaged"]})
    assert (result["failed"], result["msg"]) == (True, "gpu01: no store; gpu01: damaged")
    assert result["host"] == {"gpu": HOST}
    assert "plan" not in result


def test_a_host_whose_models_make_no_plan_tells_its_gpus_too(run_on):
    result = run_on(READ, wanted=["other:4b"])
    assert (result["failed"], result["host"]) == (True, {"gpu": HOST})


def test_a_module_that_fails_is_the_result(run_on):
    result = run_on({"failed": True, "msg": "no Python there", "warnings": ["an old one"]})
    assert (result["failed"], result["msg"], result["warnings"]) == (True, "no Python there", ["an old one"])


def test_gpus_are_either_read_or_described(run_action):
    assert "describe the GPUs or have them read" in run_action(models=[GEMMA])["msg"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gpu": {"devices": "none"}}, "GPU facts has 'none' as 'devices', expected a list"),
        ({"wanted": ["gema3:4b"]}, "'gema3:4b' is wanted but not installed; did you mean 'gemma3:4b'?"),
        (
            {"wanted": ["cloud"], "unplannable": [{"name": "cloud:latest", "reason": "it runs elsewhere"}]},
            "model 'cloud:latest' is wanted but cannot be planned: it runs elsewhere",
        ),
        ({"unplannable": [{"name": "cloud"}]}, "unplannable must be a list of mappings with name and reason"),
        (
            {"loaded": [{"name": "gemma3:4b"}]},
            "loaded must be a list of mappings with name and context_length",
        ),
        ({"requests": -1}, "requests must be a whole number from 1 to 256, found -1"),
        ({"models": [{"name": "broken", "header": {}}]}, "model 'broken' cannot be planned: "),
        ({"models": [{"header": {}}]}, "a model needs a name"),
        ({"service": {"variables": 3}}, "service must be what systemd_environment_info returned"),
        ({"version": "newest"}, "'newest' is not a version"),
    ],
)
def test_what_makes_no_sense_fails_in_one_sentence(run_action, options, sentence):
    result = run_action(**{"gpu": HOST, "models": [GEMMA], **options})
    assert result["failed"] is True
    assert sentence in result["msg"]
    assert "plan" not in result


@pytest.mark.parametrize(
    "options", [{"spread": "some"}, {"num_parallel": "three"}, {"paralel": 3}, {"gpu": 3}]
)
def test_options_are_those_of_the_documentation(run_action, options):
    with pytest.raises(AnsibleError):
        run_action(**{"gpu": HOST, "models": [GEMMA], **options})


def test_the_documentation_states_every_option_with_its_default():
    fragment = yaml.safe_load(_service.ModuleDocFragment.DOCUMENTATION)["options"]
    documented = {**fragment, **yaml.safe_load(ollama_plan.DOCUMENTATION)["options"]}
    assert {name: option.get("default") for name, option in documented.items()} == {
        name: option.get("default") for name, option in ARGUMENT_SPEC.items()
    }


def test_every_field_of_a_plan_is_documented(run_action):
    documented = yaml.safe_load(ollama_plan.RETURN)["plan"]["contains"]
    assert set(run_action(gpu=HOST, models=[GEMMA])["plan"]) == set(documented)


@pytest.mark.parametrize("value", [5, "x", [1], {"a": 1}, True, 0.5])
@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (("ansible_facts",), dict),
        (("ansible_facts", "gpufleet_gpu"), dict),
        (("models",), dict),
        (("models", "models"), list),
        (("models", "unplannable"), list),
        (("models", "loaded"), list),
        (("models", "unseen"), list),
        (("models", "version"), str),
        (("service",), dict),
        (("measured",), dict),
        (("measured_problem",), str),
        (("failures",), list),
    ],
)
def test_an_answer_of_another_kind_is_one_sentence(run_on, place, kind, value):
    answer = json.loads(json.dumps({**READ, "warnings": []}))
    inner = answer
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    result = run_on(answer)
    if isinstance(value, kind):
        assert isinstance(result.get("msg", ""), str)
        return
    assert result["failed"] is True
    assert result["msg"].startswith(
        "gpu01 has answered to ollama_host_info what this collection's module does not: "
        f"{'.'.join(place)} is {type(value).__name__} ({value!r}), and the module returns "
    )


def test_what_the_host_does_not_tell_is_a_warning_of_the_plan(run_on):
    unseen = ["44 of 300 installed models are left out"]
    result = run_on({**READ, "models": {**READ["models"], "unseen": unseen}})
    assert result["plan"]["warnings"] == unseen
    assert result["warnings"] == [f"gpu01: {unseen[0]}"]


def test_of_too_many_models_the_wanted_and_the_loaded_are_planned(run_action):
    models = [{**GEMMA, "name": f"m{number:03}:4b"} for number in range(300)]
    loaded = [{"name": "m299:4b", "context_length": 4096}]
    result = run_action(gpu=HOST, models=models, version="0.33.0", wanted=["m298:4b"], loaded=loaded)
    names = [model["name"] for model in result["plan"]["models"]]
    assert sorted(names) == [f"m{number:03}:4b" for number in (*range(254), 298, 299)]
    assert "44 of 300 installed models are left out: at most 256 are planned" in result["warnings"][0]


def test_what_a_placement_takes_is_returned_in_place_of_a_plan(run_action):
    result = run_action(
        only_inputs=True,
        gpu=HOST,
        models=[GEMMA, {**GEMMA, "name": "other:4b"}],
        wanted=["gemma3:4b"],
        version="0.33.0",
        max_parallel=3,
        operator_environment={"HF_TOKEN": "hunter2"},
        service={"process_environment": {"OLLAMA_NUM_PARALLEL": "2"}, "journal": "long"},
    )
    assert "plan" not in result
    assert "hunter2" not in result["inputs_json"]
    inputs = json.loads(result["inputs_json"])
    assert [model["name"] for model in inputs["models"]] == ["gemma3:4b"]
    assert inputs["gpu"] == HOST
    assert inputs["policy"]["max_parallel"] == 3
    assert inputs["service"] == {"process_environment": {"OLLAMA_NUM_PARALLEL": "2"}}
    assert (inputs["installed"], inputs["is_read"]) == ([], False)


COMING = {
    "action": "pull",
    "done": False,
    "digest": "d" * 64,
    "size_bytes": 3 * GIB,
    "missing_bytes": 3 * GIB,
    "completed_bytes": 0,
    "note": "",
}


class TestModelsThatLack:
    """A wanted model that is not installed is planned by what `ollama_model` tells of it, with one more execution."""

    @pytest.fixture
    def run(self, action_of, monkeypatch):
        """`run(option=value)` is the result, and which modules were executed on the host."""

        def execute(told=(), installed=(), **options):
            action = action_of(
                ActionModule, "ollama_plan", {"gather": ["gpu", "models"], "version": "0.33.0", "pull": True, **options}
            )
            asked = []

            def answer_of(module, given, returns, variables):
                asked.append((module, given))
                if module == HOST_INFO:
                    return {
                        "ansible_facts": {"gpufleet_gpu": HOST},
                        "planned_gpus": None,
                        "models": {"models": list(installed), "unplannable": [], "loaded": []},
                        "failures": [],
                    }
                return dict(told)

            monkeypatch.setattr(action, "answer_of", answer_of)
            return action.run(task_vars={"inventory_hostname": "gpu01"}), asked

        return execute

    def told(self, **changes):
        return {
            "models": [{**COMING, "name": "gemma3:4b"}],
            "descriptions": [GEMMA],
            "needed_bytes": 3 * GIB,
            "free_bytes": 9 * GIB,
            "models_path": "/m",
            "no_room": "",
            **changes,
        }

    def test_it_is_planned_and_told(self, run):
        result, asked = run(self.told(), wanted=["gemma3:4b"], pull_models=[{"name": "gemma3:4b", "insecure": True}])
        assert result["plan"]["load_order"] == ["gemma3:4b"]
        assert result["pulls"]["told"][0] == "to pull: gemma3:4b, 3.0 GiB"
        assert "gpu01: gemma3:4b has yet to be pulled, 3.0 GiB: planned by the header of what is to come" in result["warnings"]
        assert [module for module, _given in asked] == [HOST_INFO, "ollama_model"]
        given = asked[1][1]
        assert (given["look"], given["describe"], given["keep"]) == (True, True, ["gemma3:4b"])
        assert given["models"] == [{"name": "gemma3:4b", "insecure": True, "state": "present"}]

    def test_what_is_installed_costs_no_execution(self, run):
        result, asked = run(installed=[GEMMA], wanted=["gemma3:4b"])
        assert "pulls" not in result
        assert [module for module, _given in asked] == [HOST_INFO]

    def test_without_room_it_cannot_be_applied(self, run):
        result, _asked = run(self.told(no_room="the disk is too small"), wanted=["gemma3:4b"])
        assert "the disk is too small" in result["obstacles"]

    def test_what_no_registry_has_is_the_reason(self, run):
        result, _asked = run({"failed": True, "msg": "h has no model x"}, wanted=["gemma3:4b"])
        assert (result["failed"], result["msg"]) == (True, "h has no model x")

    def test_a_host_that_is_lost_meanwhile_is_unreachable(self, run):
        assert run({"unreachable": True, "msg": "gone"}, wanted=["gemma3:4b"])[0]["unreachable"]
